"""Learning from pictures as they appear in ``FOLDER/CLASS/PICTURE``.

The folder is looked at again and again: that works on any file system, also where files come over a network.
"""

from __future__ import annotations

import io
import os
import queue
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.manifest import is_class_name
from fbkit.device_runtime.outcomes import FitResult
from fbkit.device_runtime.personalizer import Personalizer
from fbkit.device_runtime.pictures import NOT_PICTURES
from fbkit.device_runtime.profile import Profile, ProfileBusy, find_profile
from fbkit.device_runtime.profile.journal import unlearned
from fbkit.errors import UserError

_EVERY = 1.0  # seconds from one look at the folder to the next
_REST = 20  # times as long as a look took: large folders are looked at less often
_MOST_WAIT = 30.0  # seconds that pictures wait for others that are still being written
_MOST_AT_ONCE = 32  # pictures that are remembered in one change of the profile
_MOST_BYTES_AT_ONCE = 32 * 1024**2


class _Stopped(Exception):
    pass


@dataclass
class _Seen:
    """A file as it was seen last.

    Attributes:
        written: its size and time, which are others when it is written again.
        since: when it was first seen so, by ``time.monotonic``.
        done: it is remembered, or people were told why not.
    """

    written: tuple[int, int]
    since: float
    done: bool = False

    @property
    def size(self) -> int:
        return self.written[0]


class Watch:
    """Watches a folder until it is told to stop.

    Args:
        settle: seconds for which a file must stay as it is before it is read.
        new_classes: whether a folder that names no known class adds one.
        learned: told of each fit, with how many pictures were new.
        said: told what else people should know: of which file or folder, and what.
    """

    def __init__(
        self,
        bundle: Bundle,
        folder: Path,
        profile: Path,
        settle: float,
        new_classes: bool,
        learned: Callable[[FitResult, int], None],
        said: Callable[[Path, str], None],
    ) -> None:
        self._stopping = False
        self._bell = queue.SimpleQueue[None]()  # unlike an event it may be used by a signal's handler
        self._bundle, self._folder, self._profile = bundle, folder, profile
        self._personalizer = Personalizer(bundle, profile)
        self._settle, self._new_classes = settle, new_classes
        self._learned, self._said = learned, said
        self._files: dict[str, _Seen] = {}
        self._refused: set[str] = set()  # class folders that people were told of
        self._is_there = True
        self._new = 0  # pictures since the last fit

    def stop(self) -> None:
        """End ``run`` soon, with the profile whole; a signal's handler may call this."""
        self._stopping = True
        self._bell.put(None)

    def run(self) -> None:
        """Watch.

        Raises:
            UserError: there is no such folder to begin with, or the profile cannot be used.
        """
        if not self._folder.is_dir():
            raise UserError(f"{self._folder}: no such folder; expected one with a folder of pictures for each class")
        due = self._is_due()  # where an earlier watch did not come to that
        due_since = time.monotonic()
        try:
            while not self._stopping:
                began = time.monotonic()
                ready, writing = self._look(began)
                if ready and not due:
                    due, due_since = True, began
                looked = time.monotonic() - began
                if due and (not writing or began - due_since > _MOST_WAIT):
                    due = not self._learn(ready)
                with suppress(queue.Empty):
                    self._bell.get(timeout=max(_EVERY, _REST * looked))
        except _Stopped:
            pass

    # The folder.

    def _look(self, now: float) -> tuple[list[str], bool]:
        """Pictures that have settled and were not read yet, oldest first, and whether others are being written."""
        if os.path.isdir(self._folder) != self._is_there:  # noqa: PTH112 - Path's raises where a disk was pulled out
            self._is_there = not self._is_there
            self._said(self._folder, "is back" if self._is_there else "is gone; waiting for it")
        if not self._is_there:
            return [], False
        seen: dict[str, _Seen] = {}
        for path, *written in self._pictures():
            before = self._files.get(path)
            now_written = (written[0], written[1])
            seen[path] = before if before and before.written == now_written else _Seen(now_written, now)
        self._files = seen
        # A file that is empty has yet to be written; but nobody may be at it, so nothing else waits for it.
        waiting = [path for path, each in seen.items() if not each.done and each.size]
        ready = [path for path in waiting if now - seen[path].since >= self._settle]
        return sorted(ready, key=lambda path: (seen[path].written[1], path)), len(ready) < len(waiting)

    def _pictures(self) -> Iterator[tuple[str, int, int]]:
        """Path, size and time of the files of all classes."""
        found = self._found()
        classes = found.classes if found else self._bundle.classes
        for folder in _entries(self._folder):
            if not self._is_class(folder, classes):
                continue
            for entry in _entries(folder.path):
                if entry.name.startswith(".") or entry.name.lower() in NOT_PICTURES:
                    continue
                try:
                    status = entry.stat()
                except OSError:  # removed by now
                    continue
                if stat.S_ISREG(status.st_mode):  # a pipe would be waited for
                    yield entry.path, status.st_size, status.st_mtime_ns

    def _is_class(self, folder: os.DirEntry[str], classes: tuple[str, ...]) -> bool:
        if folder.name.startswith(".") or not os.path.isdir(folder.path):  # noqa: PTH112 - as above
            return False
        if folder.name in classes or (self._new_classes and is_class_name(folder.name)):
            self._refused.discard(folder.name)
            return True
        if folder.name not in self._refused:
            self._refused.add(folder.name)
            advice = "no class can be called so" if self._new_classes else "with --add-classes it becomes one"
            self._said(Path(folder.path), f"is no class of this bundle or profile; {advice}")
        return False

    # Learning.

    def _learn(self, ready: list[str]) -> bool:
        """Remember pictures and fit a head; False if another process has the profile, and it is to be tried again."""
        try:
            for folder, paths in groupby(sorted(ready, key=os.path.dirname), os.path.dirname):
                for batch in self._batches(list(paths)):
                    self._remember(Path(folder).name, batch)
            if not self._is_due():
                return True
            result = self._personalizer.fit(listener=self._go_on)
        except ProfileBusy:
            return False
        new, self._new = self._new, 0
        self._learned(result, new)
        return True

    def _batches(self, paths: list[str]) -> Iterator[list[str]]:
        """So that memory holds few pictures."""
        batch: list[str] = []
        size = 0
        for path in paths:
            size += self._files[path].size
            if batch and (len(batch) == _MOST_AT_ONCE or size > _MOST_BYTES_AT_ONCE):
                yield batch
                batch, size = [], self._files[path].size
            batch.append(path)
        yield batch

    def _remember(self, label: str, paths: list[str]) -> None:
        """Pictures of a class; those that cannot be are told of.

        Raises:
            ProfileBusy: another process has the profile.
            UserError: the profile cannot be used.
        """
        contents = {path: content for path in paths if (content := self._read(path)) is not None}
        while contents:
            if self._stopping:
                raise _Stopped
            before = self._last_picture()
            try:
                self._personalizer.add([io.BytesIO(content) for content in contents.values()], label, self._new_classes)
            except ProfileBusy:
                raise
            except UserError as error:
                bad, reason = _picture_of(error, list(contents))
                del contents[bad]
                self._pass_over(bad, reason)
                continue
            self._new += self._last_picture() - before
            for path in contents:
                self._files[path].done = True
            return

    def _read(self, path: str) -> bytes | None:
        """A picture's file, None if it cannot be had now."""
        seen = self._files[path]
        try:
            content = Path(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._pass_over(path, f"cannot be read ({error.strerror})")
            return None
        if len(content) != seen.size:  # it is being written again
            seen.since = time.monotonic()
            return None
        return content

    def _pass_over(self, path: str, reason: str) -> None:
        self._files[path].done = True
        self._said(Path(path), f"{reason}; passed over until it changes")

    def _found(self) -> Profile | None:
        return find_profile(self._profile, self._bundle.manifest, other_bundle=True)

    def _last_picture(self) -> int:
        found = self._found()
        return found.state.last_picture if found else 0

    def _is_due(self) -> bool:
        """Whether there are pictures that no head was fitted to."""
        found = self._found()
        return found is not None and bool(found.state.memory) and unlearned(found.journal())

    def _go_on(self, _step: int, _head: Head, _loss: float) -> None:
        if self._stopping:
            raise _Stopped


def _picture_of(error: UserError, paths: list[str]) -> tuple[str, str]:
    """Which picture an error is about, and what is wrong with it; they are called by their place.

    Raises:
        UserError: it is about something else.
    """
    name, colon, reason = str(error).partition(": ")
    word, _, place = name.partition(" ")
    if word == "picture" and colon and place.isdecimal() and 1 <= int(place) <= len(paths):
        return paths[int(place) - 1], reason
    raise error


def _entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing if it is gone by now."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
