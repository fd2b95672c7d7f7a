"""The device's whole job: look at local pictures once, fit the head, remember it, predict, forget."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fbkit.console import Reporter
from fbkit.device_runtime.arriving import Arrived, look_at_new, remember, rows_of, rows_of_class
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.choosing import Present, Solved, Task, present_head, solve, take
from fbkit.device_runtime.class_folder import read_class_folder
from fbkit.device_runtime.fitting import Recipe, default_recipe, recipe_from_json
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.looking import Clock, Picture, glance_at, look_at, one_or_more, read_picture
from fbkit.device_runtime.outcomes import Evaluation, FitResult, Prediction, Removal
from fbkit.device_runtime.profile import Limits, Memory, Profile, changing_profile, find_profile
from fbkit.device_runtime.profile.memory import NO_LIMITS, no_memory
from fbkit.device_runtime.profile.state import FILE_NAME
from fbkit.device_runtime.solvers.sgd import EpochListener, Step, numpy_step
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError
from fbkit.files import sha256_bytes, write_new

_WORST_LOSS = 20.0  # nats; a class that is left out has no probability at all


class Personalizer:
    """Personalizes a bundle's head and keeps what it learned in a profile folder.

    Args:
        bundle: an open bundle.
        profile: the profile folder; made when there is something to remember.
        reporter: where progress goes; None for nowhere.
    """

    def __init__(
        self,
        bundle: Bundle,
        profile: str | os.PathLike[str] | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self._bundle = bundle
        self._reporter = reporter or Reporter(quiet=True)
        self._folder = None if profile is None else Path(profile)
        self._pointer = None if self._folder is None else self._folder / FILE_NAME
        self._known: tuple[object, _Heads] | None = None

    # What is remembered.

    def add(
        self,
        pictures: Picture | Sequence[Picture],
        label: str | None = None,
        new_classes: bool = False,
    ) -> int:
        """Look at pictures and remember what the body saw in them; return how many are remembered now.

        Args:
            pictures: a folder ``class/picture``; or, with ``label``, a picture of that class or several: files, open
                files or arrays uint8 [H, W] or [H, W, 3].
            label: the class of all of them.
            new_classes: whether a class that is not known is added; otherwise it is refused.

        Raises:
            UserError: a picture or the profile cannot be used, or a class is not known. Nothing has changed then.
        """
        given = self._look(pictures, label, new_classes, Clock())
        with self._changing() as profile:
            remember(profile, given)
            return len(profile.memory())

    def add_class(self, name: str) -> None:
        """Make room for a class that the model never saw; it is predicted once a head was fitted to pictures of it.

        Raises:
            UserError: the name cannot name a folder or is taken, or the profile cannot be used.
        """
        with self._changing() as profile:
            profile.add_classes([name])

    def remove(
        self,
        label: str | None = None,
        older_than: float | None = None,
        pictures: Picture | Sequence[Picture] = (),
        numbers: Sequence[int] = (),
    ) -> Removal:
        """Forget pictures, and every head that was fitted with one of them; fit a new head to what is left.

        Args:
            label: all pictures of this class.
            older_than: those that were added more than so many seconds ago; with ``label``, of that class.
            pictures: these, as they were added.
            numbers: those with these numbers in the profile.

        Raises:
            UserError: nothing was named, a picture or class is not remembered, or the profile cannot be used.
        """
        read = [read_picture(picture, place) for place, picture in enumerate(one_or_more(pictures))]
        digests = {sha256_bytes(content): name for content, name in read}
        if label is None and older_than is None and not read and not numbers:
            raise UserError("nothing was named to be forgotten; give a class, an age or pictures")
        with self._changing(create=False) as profile:
            memory = profile.memory()
            rows = rows_of(memory, digests, numbers)
            if label is not None or older_than is not None:
                rows |= rows_of_class(profile, memory, label) & (memory.times < time.time() - (older_than or -1))
            entry = profile.state.head_in_use()
            profile.forget(rows, entry.recipe if entry else self._default_recipe().to_json(), label)
            self._finish(profile)
            return Removal(int(rows.sum()), int((~rows).sum()), profile.state.in_use)

    def set_limits(self, limits: Limits, keep_pictures: bool = False) -> None:
        """From now on remember no more than this; the oldest pictures of the largest classes go.

        Args:
            keep_pictures: whether the pictures' files are kept too, so that another bundle can look at them again.

        Raises:
            UserError: the profile cannot be used.
        """
        with self._changing() as profile:
            profile.set_limits(limits, keep_pictures)

    # Heads.

    def fit(
        self,
        data: str | os.PathLike[str] | None = None,
        recipe: Recipe | None = None,
        *,
        step: Step = numpy_step,
        listener: EpochListener | None = None,
        seconds: float | None = None,
        new_classes: bool = False,
        dry_run: bool = False,
    ) -> FitResult:
        """Fit the shipped head to all pictures that are remembered, and take it into use if that is no loss.

        Args:
            data: a folder ``class/picture`` to add first.
            recipe: how; None for what the bundle recommends.
            step: of SGD: who computes a step, ``numpy_step`` or the bundle's ``graph_step``.
            listener: called after each epoch or iteration with its number, the head and the training loss.
            seconds: the time that solving and judging may take.
            new_classes: whether a folder that names no known class adds one.
            dry_run: change nothing, and tell what would be.

        Raises:
            UserError: there are no pictures, or they, the recipe or the profile cannot be used. Nothing has changed
                then; but where the head runs away, the pictures are remembered.
        """
        if step is not numpy_step and (recipe or self._default_recipe()).solver != "sgd":
            raise UserError("the exact solver takes no steps; to choose who computes them, give a recipe of sgd")
        clock = Clock()
        checked = recipe_from_json((recipe or self._default_recipe()).to_json(), "recipe")  # it will be read from disk
        task = Task(checked, step, listener, seconds)
        given = None if data is None else self._look(data, None, new_classes, clock)
        if dry_run:
            classes, memory, present = self._imagine(given)
            solved = solve(self._bundle.head, len(classes), memory, present, task, clock)
            return _result(solved, None, classes, memory, given, clock)
        with self._changing(create=data is not None) as profile:
            if given:
                remember(profile, given)
                clock.lap("write")
            memory = profile.memory()
            present = present_head(profile, memory)
            solved = solve(self._bundle.head, len(profile.classes), memory, present, task, clock)
            take(profile, solved)
            clock.lap("write")
            return _result(solved, profile.state.in_use, profile.classes, memory, given, clock)

    def roll_back(self) -> str | None:
        """Take back into use the head before the present one; return its file, None for the shipped head.

        Raises:
            UserError: the shipped head is in use, or the profile cannot be used.
        """
        with self._changing(create=False) as profile:
            return profile.roll_back()

    def export_head(self, path: str | os.PathLike[str]) -> None:
        """Write the head in use as safetensors: ``weight`` [classes, F] and ``bias``, with the classes as metadata.

        Raises:
            UserError: no personal head is in use, or ``path`` exists.
        """
        profile = self._profile()
        head = profile.head() if profile else None
        if profile is None or head is None:
            raise UserError("the shipped head is in use; personalize first")
        write_new(Path(path), head.to_bytes({"classes": json.dumps(profile.classes[: len(head.bias)])}), private=True)

    # What they say of pictures.

    def predict(self, pictures: Picture | Sequence[Picture], unsure: float = 0.0) -> list[Prediction]:
        """Predict with the personal head where there is one, else with the shipped head.

        Args:
            pictures: one or more: files, open files or arrays.
            unsure: below this probability of the likeliest class, there is no label.

        Raises:
            UserError: a picture or the profile cannot be used.
        """
        heads = self._heads()
        names, features = glance_at(self._bundle, one_or_more(pictures), self._reporter)
        probabilities = (heads.personal or heads.shipped).probabilities(features)
        return [
            Prediction(
                name,
                heads.classes[int(row.argmax())] if row.max() >= unsure else None,
                {label: float(value) for label, value in zip(heads.classes, row, strict=True)},
            )
            for name, row in zip(names, probabilities, strict=True)
        ]

    def evaluate(self, data: str | os.PathLike[str]) -> Evaluation:
        """Measure the shipped head and, where there is one, the personal head on a folder ``class/picture``.

        Raises:
            UserError: the folder, a picture in it or the profile cannot be used.
        """
        heads = self._heads()
        personal, shipped = heads.personal, heads.shipped
        features, labels = self._read_folder(data, heads.classes)

        def loss(head: Head) -> float:
            return float(np.minimum(head.losses(features, labels), _WORST_LOSS).mean())

        return Evaluation(
            pictures=len(labels),
            shipped_accuracy=shipped.accuracy(features, labels),
            shipped_loss=loss(shipped),
            personal_accuracy=None if personal is None else personal.accuracy(features, labels),
            personal_loss=None if personal is None else loss(personal),
        )

    def read_folder(self, data: str | os.PathLike[str]) -> tuple[Float, Labels]:
        """Features float32 [N, F] and labels int64 [N] of a folder ``class/picture``; nothing is remembered."""
        return self._read_folder(data, self._bundle.classes)

    def _read_folder(self, data: str | os.PathLike[str], classes: tuple[str, ...]) -> tuple[Float, Labels]:
        pictures = read_class_folder(Path(data), classes)
        _, features = glance_at(self._bundle, [picture.path for picture in pictures], self._reporter)
        return features, np.array([classes.index(picture.label) for picture in pictures], np.int64)

    def _heads(self) -> _Heads:
        """Read again only when the profile has changed: its pointer is replaced by a new file then."""
        seen = None
        if self._pointer is not None:
            try:
                status = self._pointer.stat()
                seen = status.st_ino, status.st_mtime_ns, status.st_size
            except OSError:
                pass
        if self._known is None or self._known[0] != seen:
            self._known = seen, self._read_heads()
        return self._known[1]

    def _read_heads(self) -> _Heads:
        profile, shipped = self._profile(), self._bundle.head
        personal = profile.head() if profile else None  # first: where another process changes it, this reads it again
        classes = profile.classes if profile else self._bundle.classes
        unknown = np.zeros(len(classes), np.bool_)  # of a class that came later, a head knows nothing
        return _Heads(classes, shipped.grown(unknown), None if personal is None else personal.grown(unknown))

    def _imagine(self, given: Arrived | None) -> tuple[tuple[str, ...], Memory, Present | None]:
        """Classes and memory as they would be with ``given``, and what the head in use was fitted to of that."""
        profile = None if self._folder is None else find_profile(self._folder, self._bundle.manifest)
        classes = profile.classes if profile else self._bundle.classes
        memory = profile.memory() if profile else no_memory(self._bundle.manifest.features)
        if given:
            classes = (*classes, *given.new_classes(classes))
            last = profile.state.last_picture if profile else 0
            new = memory.new_among(given.looked.digests, given.places(classes), given.looked.features, last)
            memory = (memory.without(new) + new).within(profile.state.limits if profile else NO_LIMITS)
        return classes, memory, present_head(profile, memory) if profile else None

    def _look(
        self, pictures: Picture | Sequence[Picture], label: str | None, new_classes: bool, clock: Clock
    ) -> Arrived:
        profile = None
        if self._folder is not None:
            profile = find_profile(self._folder, self._bundle.manifest, other_bundle=True)
        return look_at_new(self._bundle, profile, pictures, label, new_classes, self._reporter, clock)

    # The profile.

    def _profile(self) -> Profile | None:
        """The profile to read, None if none was given; what a crash left unfinished there is finished first.

        Raises:
            UserError: there is no profile, or one of another bundle.
        """
        if self._folder is None:
            return None
        profile = find_profile(self._folder, self._bundle.manifest)
        if profile is None:
            raise UserError(
                f"{self._folder}: no profile there; make one with: "
                f"fbkit personalize BUNDLE DATA --profile {self._folder}"
            )
        if profile.is_unfinished():
            with suppress(UserError, OSError), self._changing():  # unless another process is at it
                pass
            return find_profile(self._folder, self._bundle.manifest)
        return profile

    @contextmanager
    def _changing(self, create: bool = True) -> Iterator[Profile]:
        """The profile to change; of this bundle, and with nothing unfinished."""
        if self._folder is None:
            raise UserError("to personalize, give a profile folder to keep the result in")
        if not create and find_profile(self._folder, self._bundle.manifest, other_bundle=True) is None:
            raise UserError(f"{self._folder}: no profile there")
        with changing_profile(self._folder, self._bundle.manifest, other_bundle=True) as profile:
            if profile.state.bundle != self._bundle.manifest.identity:
                self._move(profile)
            self._finish(profile)
            yield profile

    def _move(self, profile: Profile) -> None:
        """Look again at the pictures that were kept, now with this bundle's body."""
        digests = list(profile.memory().rows_by_digest())
        if not all(map(profile.keeps, digests)):
            raise UserError(
                f"{profile.folder}: this profile was made with another bundle, and it does not keep its pictures for "
                "this one to look at; give the bundle it was made with, or personalize into a new folder"
            )
        files = [io.BytesIO(profile.kept_picture(digest)) for digest in digests]
        looked = look_at(self._bundle, files, {}, self._reporter, Clock())
        profile.move(looked.features, self._default_recipe().to_json())

    def _finish(self, profile: Profile) -> None:
        """Fit the head that has yet to be fitted since pictures were forgotten, if there is one."""
        if profile.state.refit is not None:
            recipe = recipe_from_json(profile.state.refit, f"{profile.folder}: refit")
            memory = profile.memory()
            try:
                solved = solve(self._bundle.head, len(profile.classes), memory, None, Task(recipe), Clock())
            except UserError as error:  # with fewer pictures a rate can be too high
                profile.take_into_use(None, recipe.to_json(), {"reason": str(error)})
            else:
                take(profile, solved)

    def _default_recipe(self) -> Recipe:
        return default_recipe(self._bundle.manifest.personalization)


@dataclass(frozen=True)
class _Heads:
    """The classes, the device's own among them, and the shipped and the personal head for all of them."""

    classes: tuple[str, ...]
    shipped: Head
    personal: Head | None


def _result(
    solved: Solved, head: str | None, classes: tuple[str, ...], memory: Memory, given: Arrived | None, clock: Clock
) -> FitResult:
    counts = np.bincount(memory.labels, minlength=len(classes)).tolist()
    return FitResult(
        head=head,
        verdict=solved.verdict,
        pictures={name: count for name, count in zip(classes, counts, strict=True) if count},
        computed=given.looked.computed if given else 0,
        loss_before=solved.shipped.loss(memory.features, memory.labels),
        loss_after=solved.candidate.head.loss(memory.features, memory.labels),
        gap=solved.candidate.gap,
        finished=solved.candidate.finished,
        seconds=clock.laps,
    )
