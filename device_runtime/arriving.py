"""Pictures that come to be remembered, and finding those that are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fbkit.console import Reporter
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.class_folder import read_class_folder
from fbkit.device_runtime.looking import Clock, Looked, Picture, look_at, one_or_more
from fbkit.device_runtime.profile import Memory, Profile
from fbkit.device_runtime.profile.memory import Rows, as_stored
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError


@dataclass(frozen=True)
class Arrived:
    """Pictures that are to be remembered, each once, with the names of their classes."""

    looked: Looked
    labels: list[str]

    def new_classes(self, known: tuple[str, ...]) -> list[str]:
        return [name for name in dict.fromkeys(self.labels) if name not in known]

    def places(self, classes: tuple[str, ...]) -> Labels:
        """int64 [N]."""
        return np.array([classes.index(label) for label in self.labels], np.int64)


def look_at_new(
    bundle: Bundle,
    profile: Profile | None,
    pictures: Picture | Sequence[Picture],
    label: str | None,
    new_classes: bool,
    reporter: Reporter,
    clock: Clock,
) -> Arrived:
    """Look at pictures that are to be remembered, but for those that the profile knows.

    Args:
        pictures, label, new_classes: as ``Personalizer.add`` takes them.

    Raises:
        UserError: a picture cannot be used, or a class is not known.
    """
    classes = profile.classes if profile else bundle.classes
    sources: Sequence[Picture]
    if label is None:
        if not isinstance(pictures, str | os.PathLike):
            raise UserError("pictures without a label must be a folder with a folder of pictures for each class")
        found = read_class_folder(Path(pictures), classes, new_classes)
        sources, labels = [picture.path for picture in found], [picture.label for picture in found]
    elif label in classes or new_classes:
        sources = one_or_more(pictures)
        labels = [label] * len(sources)
    else:
        raise UserError(f"{label!r} is no class of this bundle or profile; add it as a new class first")
    known: dict[str, Float] = {}
    keep = profile is not None and profile.state.keep_pictures
    if profile and profile.state.bundle == bundle.manifest.identity:
        memory = profile.memory()
        rows = memory.rows_by_digest().items()
        known = {digest: memory.features[row] for digest, row in rows if not keep or profile.keeps(digest)}
    return _each_once(look_at(bundle, sources, known, reporter, clock, keep), labels)


def _each_once(looked: Looked, labels: list[str]) -> Arrived:
    """A picture that comes twice counts once.

    Raises:
        UserError: it comes with two classes.
    """
    first: dict[str, int] = {}
    for place, digest in enumerate(looked.digests):
        other = first.setdefault(digest, place)
        if labels[other] != labels[place]:
            raise UserError(
                f"{looked.names[place]}: is {labels[place]!r} here, and {labels[other]!r} as {looked.names[other]}; "
                "remove one of the two"
            )
    places = list(first.values())
    once = looked.at(places)
    features = as_stored(once.features)
    if not (finite := np.isfinite(features).all(1)).all():
        raise UserError(f"{once.names[int(finite.argmin())]}: the body gives values that are not finite for it")
    return Arrived(replace(once, features=features), [labels[place] for place in places])


def remember(profile: Profile, given: Arrived) -> None:
    """Into the profile, with the classes that are new."""
    looked, new = given.looked, given.new_classes(profile.classes)
    places = given.places((*profile.classes, *new))
    profile.remember(looked.digests, places, looked.features, looked.contents, new)


def rows_of(memory: Memory, digests: Mapping[str, str], numbers: Sequence[int]) -> Rows:
    """Pictures by digest, which has a name for messages, or by number: bool [N]."""
    rows, by_digest = np.isin(memory.numbers, numbers), memory.rows_by_digest()
    if missing := set(numbers) - set(memory.numbers.tolist()):
        raise UserError(f"picture number {min(missing)}: is not remembered")
    for digest, name in digests.items():
        if digest not in by_digest:
            raise UserError(f"{name}: is not remembered")
        rows[by_digest[digest]] = True
    return rows


def rows_of_class(profile: Profile, memory: Memory, label: str | None) -> Rows:
    if label is None:
        return np.ones(len(memory), np.bool_)
    if label not in profile.classes:
        raise UserError(f"{label!r}: is no class of this bundle or profile")
    rows: Rows = memory.labels == profile.classes.index(label)
    return rows
