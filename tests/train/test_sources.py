"""Public data sets in their files' own formats, written here by hand, and the embedded pictures."""

from __future__ import annotations

import gzip
import hashlib
import struct
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from fbkit.errors import UserError
from fbkit.train.data import Pictures
from fbkit.train.recipe import DataRecipe
from fbkit.train.sources import load_dataset
from fbkit.train.sources.embedded import EMBEDDED
from fbkit.train.sources.fitting import fit_pictures
from fbkit.train.vision import import_torchvision

torchvision = import_torchvision()

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
Bytes = NDArray[np.uint8]


def noise(*shape: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def idx(values: Bytes) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def write_mnist(
    folder: Path, prefixes: tuple[str, str] = ("train", "t10k"), first: int = 0, compress: bool = False
) -> Bytes:
    """12 training and 4 test pictures; returns all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = noise(16, 28, 28), (np.arange(16) % 10 + first).astype(np.uint8)
    for prefix, part in zip(prefixes, (slice(12), slice(12, 16)), strict=True):
        for name, values in (("images-idx3", images[part]), ("labels-idx1", labels[part])):
            path = folder / f"{prefix}-{name}-ubyte{'.gz' if compress else ''}"
            path.write_bytes(gzip.compress(idx(values)) if compress else idx(values))
    return images


def test_the_embedded_pictures_as_they_are_keep_their_identity() -> None:
    data = load_dataset(DataRecipe())
    assert data.fingerprint == hashlib.sha256(EMBEDDED.read_bytes()).hexdigest()
    assert (data.mean, data.std, data.shape) == ((0.2860,), (0.3530,), (1, 28, 28))
    same = load_dataset(DataRecipe(size=28, channels=1, mean=(0.5,), std=(0.25,)))
    assert same.fingerprint == data.fingerprint
    assert (same.mean, same.std) == ((0.5,), (0.25,))


def test_padded_to_32_and_repeated_to_rgb_as_the_paper_does() -> None:
    plain, data = load_dataset(DataRecipe()), load_dataset(DataRecipe(size=32, channels=3, fit="pad"))
    expected = torch.nn.functional.pad(plain.train.images, (2, 2, 2, 2)).expand(-1, 3, -1, -1)
    assert torch.equal(data.train.images, expected)
    values = data.train.images[:, 0].double() / 255
    assert data.mean == (round(float(values.mean()), 4),) * 3
    assert data.std == (round(float(values.std(correction=0)), 4),) * 3
    assert data.fingerprint != plain.fingerprint


def test_resized_as_any_picture_is() -> None:
    plain, data = load_dataset(DataRecipe()), load_dataset(DataRecipe(size=20))
    by_hand = Image.fromarray(plain.test.images[7, 0].numpy()).resize((20, 20), Image.Resampling.BILINEAR)
    assert np.array_equal(data.test.images[7, 0].numpy(), np.asarray(by_hand))
    smaller = load_dataset(DataRecipe(size=20, fit="pad"))
    assert torch.equal(smaller.test.images, data.test.images)  # a square that is too large is scaled to fit inside


def test_normalisation_needs_one_number_for_each_channel() -> None:
    with pytest.raises(UserError, match=r"data\.mean: has 1 numbers, but the pictures have 3 channels"):
        load_dataset(DataRecipe(channels=3, mean=(0.5,), std=(0.5,)))


@pytest.mark.parametrize(("source", "name"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
@pytest.mark.parametrize("compress", [False, True])
def test_mnist_is_read_as_torchvision_reads_it(tmp_path: Path, source: Any, name: str, compress: bool) -> None:
    images = write_mnist(tmp_path / name / "raw", compress=compress)
    data = load_dataset(DataRecipe(source=source, root=str(tmp_path)))
    assert len(data.classes) == 10
    assert np.array_equal(torch.cat([data.train.images, data.test.images])[:, 0].numpy(), images)
    if not compress:
        theirs = getattr(torchvision.datasets, name)(tmp_path, train=True)
        assert torch.equal(theirs.data, data.train.images[:, 0])
        assert torch.equal(theirs.targets, data.train.labels)


def test_files_may_lie_in_the_folder_itself(tmp_path: Path) -> None:
    images = write_mnist(tmp_path, compress=True)
    data = load_dataset(DataRecipe(source="fashion-mnist", root=str(tmp_path)))
    assert np.array_equal(data.train.images[:, 0].numpy(), images[:12])
    assert data.classes[9] == "ankle-boot"


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist_is_normalised_as_the_field_does() -> None:
    data = load_dataset(DataRecipe(source="fashion-mnist", root=str(DEBIAN)))
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert (data.mean, data.std) == ((0.2860,), (0.3530,))


@pytest.mark.parametrize(("split", "first", "classes"), [("balanced", 0, 47), ("letters", 1, 26), ("byclass", 0, 62)])
def test_emnist_is_turned_upright_and_counted_from_zero(tmp_path: Path, split: Any, first: int, classes: int) -> None:
    prefixes = (f"emnist-{split}-train", f"emnist-{split}-test")
    images = write_mnist(tmp_path / "EMNIST" / "raw", prefixes, first)
    data = load_dataset(DataRecipe(source="emnist", emnist_split=split, root=str(tmp_path)))
    assert np.array_equal(data.train.images[:, 0].numpy(), images[:12].transpose(0, 2, 1))
    assert data.train.labels.tolist() == [number % 10 for number in range(12)]
    theirs = torchvision.datasets.EMNIST.classes_split_dict[split]
    assert list(data.classes) == [name for name in theirs if name != "N/A"]
    assert len(data.classes) == classes


PICTURES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (PICTURES, b""),
        (PICTURES, idx(noise(12, 28, 28))[:-1]),
        (PICTURES, idx(noise(12, 28, 28)) + b"x"),
        (PICTURES, idx(noise(0, 28, 28))),
        (PICTURES, idx(noise(12, 28))),
        (PICTURES, idx(noise(12, 28, 28)).replace(b"\x08", b"\x0d", 1)),
        (PICTURES, bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(100)),
        (PICTURES, idx(noise(12, 28, 29))),
        (LABELS, idx(noise(11) % 10)),
        (LABELS, idx(np.full(12, 10, np.uint8))),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_an_idx_file_that_lies_is_named(tmp_path: Path, name: str, content: bytes, compress: bool) -> None:
    write_mnist(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / (name + ".gz" * compress)).write_bytes(gzip.compress(content) if compress else content)
    with pytest.raises(UserError, match=r"-ubyte(\.gz)?: "):
        load_dataset(DataRecipe(source="mnist", root=str(tmp_path)))


def test_broken_gzip_is_named_and_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    write_mnist(tmp_path, compress=True)
    path = tmp_path / f"{PICTURES}.gz"
    good = path.read_bytes()
    bomb = gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", 12, 28, 28) + bytes(50_000_000))
    for content in (good[:-500], b"\0" * 100, good[:200] + b"\xff" * 200 + good[400:], bomb):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{PICTURES}.gz: "):
            load_dataset(DataRecipe(source="mnist", root=str(tmp_path)))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("emnist", "EMNIST/raw/emnist-balanced-train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-bin/data_batch_1.bin"),
        ("cifar100", "cifar-100-binary/train.bin"),
    ],
)
def test_missing_files_are_named_with_what_would_fetch_them(tmp_path: Path, source: Any, expected: str) -> None:
    with pytest.raises(UserError, match=f"{expected}: no such file.*download = true would fetch"):
        load_dataset(DataRecipe(source=source, root=str(tmp_path)))


@pytest.mark.parametrize("source", ["fashion-mnist", "cifar100"])
def test_a_download_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no way out")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(UserError, match=r"no such file.*fetching them failed .*no way out"):
        load_dataset(DataRecipe(source=source, root=str(tmp_path / "new"), download=True))


def test_the_fingerprint_follows_labels_and_pixels(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    recipe = DataRecipe(source="mnist", root=str(tmp_path))
    found = [load_dataset(recipe).fingerprint, load_dataset(recipe).fingerprint]
    for name in (PICTURES, LABELS):
        content = bytearray((tmp_path / name).read_bytes())
        content[-1] ^= 1
        (tmp_path / name).write_bytes(content)
        found.append(load_dataset(recipe).fingerprint)
    found.append(load_dataset(recipe.model_copy(update={"channels": 3})).fingerprint)
    assert found[0] == found[1]
    assert len(set(found)) == 4


@pytest.mark.parametrize("fit", ["resize", "pad"])
def test_more_pictures_than_memory_holds_are_a_matter_of_their_size(fit: Any) -> None:
    one = torch.zeros(1, dtype=torch.uint8)
    pictures = Pictures(one.expand(10**9, 1, 2, 2), one.expand(10**9))
    with pytest.raises(UserError, match=r"data\.size = 4096.*: 1000000000 pictures.*choose a smaller data\.size"):
        fit_pictures(pictures, 4096, 0, fit)


@pytest.mark.parametrize("source", ["mnist", "class-folders"])
def test_the_home_of_nobody_is_named(source: Any) -> None:
    with pytest.raises(UserError, match=r"data\.root = '~no-such-user/x': no such home folder"):
        load_dataset(DataRecipe(source=source, root="~no-such-user/x", size=8))


def test_a_given_data_set_must_be_given() -> None:
    with pytest.raises(UserError, match=r"handed over in Python, as dataset=\.\.\. of train, resume"):
        load_dataset(DataRecipe(source="given"))
