"""Profiles without a bundle: pictures are numbers, features a few values made up from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fbkit.device_runtime.head import Head
from fbkit.device_runtime.manifest import Manifest, read_manifest
from fbkit.device_runtime.profile import Profile, find_profile
from fbkit.device_runtime.profile.memory import as_stored
from fbkit.device_runtime.tensors import Float
from fbkit.files import sha256_bytes
from tests.device_runtime.conftest import BUNDLE

WIDTH = 6
MANIFEST = replace(read_manifest(BUNDLE), features=WIDTH)
RECIPE = {"solver": "exact", "absent": "keep", "penalty": 1.0}
SHIPPED = len(MANIFEST.classes)


def digest_of(picture: int) -> str:
    return sha256_bytes(str(picture).encode())


def features_of(picture: int) -> Float:
    """float32 [WIDTH], the same for a picture each time."""
    rng = np.random.default_rng(picture)
    row: Float = as_stored(rng.normal(0, 10.0 ** rng.integers(-5, 5), (1, WIDTH)).astype(np.float32))[0]
    return row


def remember(profile: Profile, pictures: dict[int, int], new_classes: tuple[str, ...] = ()) -> None:
    """``pictures``: a label for each."""
    features = np.array([features_of(picture) for picture in pictures], np.float32).reshape(-1, WIDTH)
    labels = np.array(list(pictures.values()), np.int64)
    files = {digest_of(picture): str(picture).encode() for picture in pictures}
    profile.remember([digest_of(picture) for picture in pictures], labels, features, files, new_classes)


def head_of(profile: Profile, seed: int = 0) -> Head:
    rng = np.random.default_rng(seed)
    count = len(profile.classes)
    return Head(rng.normal(0, 1, (count, WIDTH)).astype(np.float32), rng.normal(0, 1, count).astype(np.float32))


def reopened(folder: Path, manifest: Manifest = MANIFEST) -> Profile:
    profile = find_profile(folder, manifest)
    assert profile
    return profile
