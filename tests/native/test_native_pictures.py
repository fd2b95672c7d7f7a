"""Decoding and resizing in C++, against Python's."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np

from fbkit.device_runtime.pictures import load_picture
from fbkit.errors import UserError
from tests.native.conftest import REPORTED
from tests.native.pictures import KINDS, draw_pictures

SIZES = [(28, 28), (96, 96), (224, 224), (64, 32)]


def pixels_of(program: Path, files: list[tuple[Path, int, int, int]]) -> bytes:
    """What the program makes of files, each for (path, channels, height, width); of those it refuses nothing."""
    asked = "".join(f"{path} {channels} {height} {width}\n" for path, channels, height, width in files)
    sanitizers = f"exitcode={REPORTED}"
    ended = subprocess.run(
        [program / "fbkit-pictures"],
        input=asked.encode(),
        capture_output=True,
        check=False,
        env={**os.environ, "ASAN_OPTIONS": sanitizers, "UBSAN_OPTIONS": sanitizers},
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout


def test_200_pictures_of_every_kind_are_within_one_grey_level_of_pythons(sanitized: Path, tmp_path: Path) -> None:
    files = []
    for number, (kind, content) in enumerate(draw_pictures(200)):
        path = tmp_path / f"{number}-{kind}"
        path.write_bytes(content)
        files.append((path, 1 + 2 * (number % 2), *SIZES[number // 2 % len(SIZES)]))
    found = np.frombuffer(pixels_of(sanitized, files), np.uint8)
    place, equal = 0, Counter[str]()
    for path, channels, height, width in files:
        expected = load_picture(path.read_bytes(), channels, height, width)
        own = found[place : place + expected.size].reshape(expected.shape)
        place += expected.size
        assert np.abs(own.astype(int) - expected).max() <= 1, path.name
        equal[path.name.split("-", 1)[1]] += np.array_equal(own, expected)
    assert place == found.size
    assert set(equal) == set(KINDS)
    assert equal.total() > 150  # and most of them the same


def test_damaged_pictures_are_refused_or_read_but_never_break_it(sanitized: Path, tmp_path: Path, full: bool) -> None:
    """Those that Python takes are read, within what decoders may guess; those that it refuses may be read."""
    rng = np.random.default_rng(0)
    contents = [content for _, content in draw_pictures(len(KINDS), seed=1)]
    files, refused = [], 0
    for number in range(3000 if full else 300):
        data = bytearray(contents[number % len(contents)])
        if number % 3 == 0:
            del data[int(rng.integers(1, len(data))) :]
        for _ in range(int(rng.integers(0, 9))):
            data[int(rng.integers(min(len(data), 10 ** int(rng.integers(2, 6)))))] = int(rng.integers(256))
        path = tmp_path / str(number)
        path.write_bytes(data)
        try:
            load_picture(bytes(data), 3, 8, 8)
        except UserError:
            refused += 1
        files.append((path, 3, 8, 8))
    read = len(pixels_of(sanitized, files)) // (3 * 8 * 8)
    assert 0 < read < len(files)
    assert abs(read - (len(files) - refused)) < len(files) / 4
