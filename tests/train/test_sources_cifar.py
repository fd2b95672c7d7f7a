"""CIFAR in the publisher's binary files and in Python 2's pickles, honest and hostile."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fbkit.errors import UserError
from fbkit.train.recipe import DataRecipe
from fbkit.train.sources import load_dataset
from fbkit.train.vision import import_torchvision

torchvision = import_torchvision()

Bytes = NDArray[np.uint8]


def noise(*shape: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def python2_pickle(value: Any) -> bytes:
    """What Python 2's cPickle writes with protocol 2, as the publisher did; without its memo of what came before."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_python2(key) + _python2(item) for key, item in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, np.ndarray):
        array = b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\n"
        kind = (
            b"cnumpy\ndtype\nq\x0bU\x02u1K\x00K\x01\x87Rq\x0c(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        )
        shape = _python2(value.shape[0]) + _python2(value.shape[1]) + b"\x86"
        return array + b"(K\x01" + shape + kind + b"\x89" + _python2(value.tobytes()) + b"tb"
    if isinstance(value, str):
        return _python2(value.encode())
    if isinstance(value, bytes):
        short = len(value) < 256
        return (b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))) + value
    return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)


CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CIFAR100_NAMES = [f"thing-{number:02d}" for number in range(100)]


def cifar_parts(classes: int) -> tuple[list[Bytes], list[list[int]]]:
    """Six files' pictures, [5, 3072] each, and labels."""
    rng = np.random.default_rng(1)
    return [noise(5, 3072, seed=file) for file in range(6)], rng.integers(0, classes, (6, 5)).tolist()


def write_cifar10(root: Path, python: bool) -> tuple[Bytes, list[int]]:
    folder = root / ("cifar-10-batches-py" if python else "cifar-10-batches-bin")
    folder.mkdir(parents=True)
    images, labels = cifar_parts(10)
    for number in range(6):
        name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
        if python:
            content = {
                "batch_label": f"training batch {number + 1} of 5",
                "labels": labels[number],
                "data": images[number],
                "filenames": ["a.png"] * 5,
            }
            (folder / name).write_bytes(python2_pickle(content))
        else:
            rows = np.concatenate([np.array(labels[number], np.uint8)[:, None], images[number]], axis=1)
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
    if python:
        meta = {"num_cases_per_batch": 10000, "label_names": CIFAR10_NAMES, "num_vis": 3072}
        (folder / "batches.meta").write_bytes(python2_pickle(meta))
    else:
        (folder / "batches.meta.txt").write_text("\n".join(CIFAR10_NAMES) + "\n\n")
    return np.concatenate(images).reshape(-1, 3, 32, 32), [label for part in labels for label in part]


def write_cifar100(root: Path, python: bool) -> tuple[Bytes, list[int]]:
    folder = root / ("cifar-100-python" if python else "cifar-100-binary")
    folder.mkdir(parents=True)
    images, labels = cifar_parts(100)
    for number, name in enumerate(("train", "test")):
        coarse = [label // 5 for label in labels[number]]
        if python:
            content = {"coarse_labels": coarse, "fine_labels": labels[number], "data": images[number]}
            (folder / name).write_bytes(python2_pickle(content))
        else:
            both = np.array([coarse, labels[number]], np.uint8).T
            (folder / f"{name}.bin").write_bytes(np.concatenate([both, images[number]], axis=1).tobytes())
    if python:
        meta = {"coarse_label_names": ["x"] * 20, "fine_label_names": CIFAR100_NAMES}
        (folder / "meta").write_bytes(python2_pickle(meta))
    else:
        (folder / "fine_label_names.txt").write_text("\n".join(CIFAR100_NAMES))
    return np.concatenate(images[:2]).reshape(-1, 3, 32, 32), labels[0] + labels[1]


@pytest.mark.parametrize("python", [False, True])
def test_cifar10_in_both_forms(tmp_path: Path, python: bool) -> None:
    images, labels = write_cifar10(tmp_path, python)
    data = load_dataset(DataRecipe(source="cifar10", root=str(tmp_path)))
    assert np.array_equal(data.train.images.numpy(), images[:25])
    assert np.array_equal(data.test.images.numpy(), images[25:])
    assert data.train.labels.tolist() + data.test.labels.tolist() == labels
    assert list(data.classes) == CIFAR10_NAMES
    assert data.mean == tuple(round(float(value), 4) for value in (images[:25] / 255).mean((0, 2, 3)))


@pytest.mark.parametrize("python", [False, True])
def test_cifar100_in_both_forms_has_the_fine_labels(tmp_path: Path, python: bool) -> None:
    images, labels = write_cifar100(tmp_path, python)
    data = load_dataset(DataRecipe(source="cifar100", root=str(tmp_path)))
    assert np.array_equal(data.train.images.numpy(), images[:5])
    assert data.train.labels.tolist() + data.test.labels.tolist() == labels
    assert list(data.classes) == CIFAR100_NAMES


def test_both_forms_give_the_same_data_and_the_binary_one_is_preferred(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "one", python=True)
    write_cifar10(tmp_path / "two", python=False)
    one, two = (load_dataset(DataRecipe(source="cifar10", root=str(tmp_path / name))) for name in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    write_cifar10(tmp_path / "two", python=True)
    for path in (tmp_path / "two" / "cifar-10-batches-py").iterdir():
        path.write_bytes(b"not even a pickle")
    assert load_dataset(DataRecipe(source="cifar10", root=str(tmp_path / "two"))).fingerprint == two.fingerprint


def test_the_pickles_written_here_are_what_pythons_own_reader_takes(tmp_path: Path) -> None:
    write_cifar10(tmp_path, python=True)
    data = load_dataset(DataRecipe(source="cifar10", root=str(tmp_path)))
    content = pickle.loads((tmp_path / "cifar-10-batches-py/test_batch").read_bytes(), encoding="latin1")  # noqa: S301
    assert np.array_equal(content["data"].reshape(-1, 3, 32, 32), data.test.images.numpy())
    assert content["labels"] == data.test.labels.tolist()


def giant_array() -> bytes:
    """An array of 10^15 bytes, of which none is there."""
    data = python2_pickle({"data": np.zeros((1, 1), np.uint8), "labels": [0]})
    return data.replace(b"K\x01K\x01\x86", b"J\x00\x00\x00\x7f" * 2 + b"\x86", 1)


def giant_sides() -> bytes:
    """An array of a thousand sides, each an int of 255 bytes: one int, and a thousand times what it was kept as."""
    data = python2_pickle({"data": np.zeros((1, 1), np.uint8), "labels": [0]})
    side = b"\x8a\xff" + b"\x7f" * 255 + b"q\x63"
    return data.replace(b"K\x01K\x01\x86", b"(" + side + b"h\x63" * 999 + b"t", 1)


HOSTILE = {
    "os": b"cposix\nsystem\n(S'touch PLACE'\ntR.",
    "os, protocol 2": b"\x80\x02cos\nsystem\nU\x0btouch PLACE\x85R.",
    "builtins": b"\x80\x02c__builtin__\neval\nU\x011\x85R.",
    "builtins, protocol 4": pickle.dumps(print),
    "its own class": b"\x80\x02cnumpy\nmemmap\nU\x05PLACE\x85R.",
    "numpy called otherwise": b"\x80\x02cnumpy\nndarray\nJ\x00\x00\x00\x7f\x85R.",
    "state for a function": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}U\x08__code__K\x01sb.",
    "giant array": giant_array(),
    "giant sides": giant_sides(),
    "giant name": b"\x80\x02c" + b"x" * 100_000 + b"\ny\n.",
    "giant string": b"\x80\x02}U\x04dataT\xff\xff\xff\x7fabc",
    "truncated": python2_pickle({"data": noise(5, 3072), "labels": [0] * 5})[:9000],
    "nothing left to take": b"\x80\x02tRb0s.",
    "a list": python2_pickle([1, 2]),
    "array of floats": python2_pickle({"data": np.zeros((2, 2), np.uint8)}).replace(b"u1", b"f8"),
    "too few labels": python2_pickle({"data": noise(5, 3072), "labels": [1]}),
    "label too large": python2_pickle({"data": noise(5, 3072), "labels": [1, 2, 3, 4, 10]}),
    "label no number": python2_pickle({"data": noise(5, 3072), "labels": [1, 2, 3, 4, "5"]}),
    "pictures of another size": python2_pickle({"data": noise(5, 3071), "labels": [0] * 5}),
    "empty": b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_cifar_pickle_is_refused_by_name_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    write_cifar10(tmp_path, python=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(HOSTILE[kind])
    with pytest.raises(UserError, match="cifar-10-batches-py/data_batch_3: ") as caught:
        load_dataset(DataRecipe(source="cifar10", root=str(tmp_path)))
    assert len(str(caught.value)) < 400
    assert not (tmp_path / "PLACE").exists()


def test_one_of_the_hostile_pickles_does_run_in_pythons_own_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(HOSTILE["os"])  # noqa: S301
    assert (tmp_path / "PLACE").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data_batch_2.bin", b""),
        ("data_batch_2.bin", bytes(3073 * 2 - 1)),
        ("test_batch.bin", bytes([10]) + bytes(3072)),
        ("batches.meta.txt", b"one name\n"),
        ("batches.meta.txt", b"../up\nb\n" * 5),
        ("batches.meta.txt", b"same\n" * 10),
        ("batches.meta.txt", b"\xff\n" * 10),
    ],
)
def test_a_damaged_cifar_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    write_cifar10(tmp_path, python=False)
    (tmp_path / "cifar-10-batches-bin" / name).write_bytes(content)
    with pytest.raises(UserError, match=f"cifar-10-batches-bin/{name}: "):
        load_dataset(DataRecipe(source="cifar10", root=str(tmp_path)))


def test_rgb_becomes_grey_as_in_pillow(tmp_path: Path) -> None:
    images, _ = write_cifar10(tmp_path, python=False)
    data = load_dataset(DataRecipe(source="cifar10", root=str(tmp_path), channels=1))
    expected = [np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L")) for image in images[:25]]
    assert np.array_equal(data.train.images[:, 0].numpy(), np.stack(expected))


def test_a_download_that_works_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str, download_root: str, **_: object) -> None:
        assert url == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
        write_cifar10(Path(download_root), python=False)

    monkeypatch.setattr(torchvision.datasets.utils, "download_and_extract_archive", fetch)
    recipe = DataRecipe(source="cifar10", root=str(tmp_path), download=True)
    assert len(load_dataset(recipe).train) == 25
    monkeypatch.undo()
    assert len(load_dataset(recipe).train) == 25  # what is there is not fetched again


@pytest.mark.parametrize("python", [False, True])
def test_of_many_files_it_is_the_missing_one_that_is_named(tmp_path: Path, python: bool) -> None:
    write_cifar10(tmp_path, python)
    (made,) = tmp_path.iterdir()
    for path in made.iterdir():
        path.rename(tmp_path / path.name)
    gone = tmp_path / f"data_batch_3{'' if python else '.bin'}"
    gone.unlink()
    with pytest.raises(UserError, match=f"^{gone}: no such file; CIFAR-10 needs it beside data_batch_1"):
        load_dataset(DataRecipe(source="cifar10", root=str(tmp_path)))
