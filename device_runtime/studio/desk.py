"""What a page can see and do: one bundle and one profile, for any number of tabs and beside other processes."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.outcomes import FitResult, Removal
from fbkit.device_runtime.personalizer import Personalizer
from fbkit.device_runtime.pictures import decode_picture, fit_picture
from fbkit.device_runtime.profile import Memory, Profile, ProfileBusy, find_profile
from fbkit.device_runtime.profile.journal import Entry, unlearned
from fbkit.device_runtime.profile.state import FILE_NAME
from fbkit.device_runtime.solvers.sgd import EpochListener
from fbkit.device_runtime.studio.fits import Fits
from fbkit.errors import UserError
from fbkit.files import sha256_bytes

_PATIENCE = 10.0  # seconds to wait for another process, or a fit, that is changing the profile
_MOST_EVENTS = 30
_MOST_SHOWN = 5  # classes of a prediction
_THUMBNAIL = 160

_T = TypeVar("_T")


class Conflict(UserError):
    """Something else is going on, or the profile is not what the tab shows."""


class _File(io.BytesIO):
    name = "picture"  # for messages


class Desk:
    """The one place where the studio's requests meet the profile.

    Raises:
        UserError: the folder is no profile, or one of another bundle.
    """

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self._bundle, self._folder = bundle, folder
        self._personal, self._shipped = Personalizer(bundle, folder), Personalizer(bundle)
        self._changing = threading.Lock()
        self._looking = threading.Lock()  # not every runtime's body may be run by two threads
        self._fits = Fits(self._fit)
        self._profile()

    # Seeing.

    def version(self) -> str:
        """Another whenever something else is to be seen, whoever changed it."""
        try:
            status = (self._folder / FILE_NAME).stat()
            pointer = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
        except OSError:
            pointer = "none"
        progress = self._fits.progress
        return f"{pointer}.{progress.number}.{len(progress.curve)}.{int(progress.running)}"

    def view(self) -> dict[str, Any]:
        """All that a page shows."""
        version = self.version()  # first: what changes while the rest is read is seen next time
        found = self._read()
        classes = found.profile.classes if found else self._bundle.classes
        journal = found.journal if found else []
        heads = found.profile.state.heads if found else ()
        files = [None, *(entry.file for entry in heads)]
        in_use = found.profile.state.in_use if found else None
        return {
            "version": version,
            **_named("bundle", self._bundle.folder),
            **_named("profile", self._folder),
            "classes": list(classes),
            "shipped_classes": len(self._bundle.classes),
            "pictures": found.pictures() if found else [],
            "heads": [{"file": entry.file, "pictures": entry.pictures} for entry in heads],
            "in_use": in_use,
            "before": files[files.index(in_use) - 1] if in_use else None,
            "unlearned": unlearned(journal),
            "verdict": next((_verdict(entry) for entry in reversed(journal) if entry["event"] == "fit"), None),
            "events": journal[-_MOST_EVENTS:],
            "fit": self._fits.progress.to_json(),
        }

    def _profile(self) -> Profile | None:
        return find_profile(self._folder, self._bundle.manifest)

    def _read(self) -> _Found | None:
        """Profile, memory and journal that belong together; None where there is no profile yet."""
        while profile := self._profile():
            state = profile.state
            found = _Found(profile, profile.memory(), profile.journal())
            if profile.state is state:  # else another process changed it in between
                return found
        return None

    def thumbnail(self, number: int) -> bytes:
        """A small PNG of a picture whose file the profile keeps.

        Raises:
            UserError: there is none.
        """
        from PIL import Image

        found = self._read()
        if found and found.profile.state.keep_pictures:
            for row in np.flatnonzero(found.memory.numbers == number):
                content = found.profile.kept_picture(found.memory.digests[row].tobytes().hex())
                pixels = fit_picture(decode_picture(content, 3), _THUMBNAIL, _THUMBNAIL)
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "PNG")
                return file.getvalue()
        raise UserError(f"picture number {number}: its file is not kept")

    def predict(self, content: bytes, shipped: bool) -> dict[str, Any]:
        """The likeliest classes of a picture, by the head in use or the shipped one.

        Raises:
            UserError: it cannot be read.
        """
        personalizer = self._shipped if shipped or self._profile() is None else self._personal
        with self._looking:
            (prediction,) = personalizer.predict([_File(content)])
        ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
        return {"likely": [{"class": name, "probability": value} for name, value in ranked[:_MOST_SHOWN]]}

    # Changing.

    def add(self, content: bytes, label: str) -> int:
        """Remember a picture; return its number.

        Raises:
            UserError: it cannot be read, or the class is not known.
        """

        def change() -> int:
            with self._looking:
                self._personal.add([_File(content)], label)
            found = self._read()
            row = found.memory.rows_by_digest().get(sha256_bytes(content)) if found else None
            return 0 if found is None or row is None else int(found.memory.numbers[row])  # 0: limits let it go at once

        return self._change(change)

    def add_class(self, name: str) -> None:
        self._change(lambda: self._personal.add_class(name))

    def remove(self, numbers: Sequence[int], label: str | None) -> Removal:
        """Forget pictures by number, or a class."""
        return self._change(lambda: self._personal.remove(label, numbers=numbers))

    def roll_back(self, shown: str | None) -> str | None:
        """Take back the head before ``shown``, which must be the one in use: another tab may have been faster.

        Raises:
            Conflict: it is not.
        """

        def change() -> str | None:
            profile = self._profile()
            if shown != (profile.state.in_use if profile else None):
                raise Conflict("another head is in use by now; look at it first")
            return self._personal.roll_back()

        return self._change(change)

    def start_fit(self) -> None:
        """Begin to personalize.

        Raises:
            Conflict: it has begun already.
        """
        if not self._fits.start():
            raise Conflict("it is personalizing already")

    def close(self) -> None:
        self._fits.stop()

    def _fit(self, listener: EpochListener) -> FitResult:
        return self._change(lambda: self._personal.fit(listener=listener))

    def _change(self, change: Callable[[], _T]) -> _T:
        """One change at a time, and patience with other processes."""
        deadline = time.monotonic() + _PATIENCE
        with self._turn(deadline):
            while True:
                try:
                    return change()
                except ProfileBusy:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)

    @contextmanager
    def _turn(self, deadline: float) -> Iterator[None]:
        if not self._changing.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise Conflict("it is personalizing; try again when that is done")
        try:
            yield
        finally:
            self._changing.release()


@dataclass(frozen=True)
class _Found:
    """What is in the profile at one moment."""

    profile: Profile
    memory: Memory
    journal: list[Entry]

    def pictures(self) -> list[dict[str, Any]]:
        keeps, memory = self.profile.state.keep_pictures, self.memory
        rows = zip(memory.numbers, memory.labels, memory.times, memory.digests, strict=True)
        return [
            {
                "number": int(number),
                "class": self.profile.classes[label],
                "added": float(added),
                "kept": keeps and self.profile.keeps(digest.tobytes().hex()),
            }
            for number, label, added, digest in rows
        ]


def _named(what: str, folder: Path) -> dict[str, str]:
    path = folder.resolve()
    return {what: path.name, f"{what}_path": str(path)}


def _verdict(entry: Entry) -> dict[str, Any]:
    """As far as the journal has it: where a head ran away there is only a reason."""
    return {key: entry.get(key) for key in ("time", "chosen", "verified", "reason", "losses", "folds")}
