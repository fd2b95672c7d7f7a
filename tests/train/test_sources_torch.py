"""A torch Dataset handed over in Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

from fbkit.errors import UserError
from fbkit.train.sources.torch_dataset import dataset_from_torch
from fbkit.train.vision import import_torchvision

import_torchvision()
from torchvision.datasets import ImageFolder  # noqa: E402
from torchvision.transforms import ToTensor  # noqa: E402

CLASSES = ("a", "b", "c")
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 3, 12, 10)).astype(np.uint8))
LABELS = torch.arange(9) % 3


class Pairs(torch.utils.data.Dataset[tuple[Any, Any]]):
    """Pictures passed through ``form``."""

    def __init__(self, form: Any, images: torch.Tensor = IMAGES) -> None:
        self.form, self.images = form, images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.form(self.images[index]), int(LABELS[index])


def as_array(image: torch.Tensor) -> np.ndarray[Any, Any]:
    return image.permute(1, 2, 0).numpy()


def as_pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(as_array(image))


def as_float(image: torch.Tensor) -> torch.Tensor:
    return image.float() / 255


FORMS = {"tensor": lambda image: image, "array": as_array, "pil": as_pil, "float": as_float}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_picture_gives_equal_pixels(form: str) -> None:
    data = dataset_from_torch(Pairs(FORMS[form]), Pairs(FORMS[form], IMAGES[:4]), CLASSES)
    assert torch.equal(data.train.images, IMAGES)
    assert torch.equal(data.train.labels, LABELS)
    assert torch.equal(data.test.images, IMAGES[:4])
    assert data.mean == tuple(round(float(value) / 255, 4) for value in IMAGES.double().mean((0, 2, 3)))
    assert data.classes == CLASSES
    tensors = TensorDataset(IMAGES, LABELS)  # labels as tensors
    assert dataset_from_torch(tensors, Pairs(as_pil, IMAGES[:4]), CLASSES).fingerprint == data.fingerprint


@pytest.mark.parametrize("form", [lambda image: image[0], lambda image: image[0].numpy(), lambda image: image[:1]])
def test_grey_pictures_may_have_no_channel(form: Any) -> None:
    data = dataset_from_torch(Pairs(form), Pairs(form), CLASSES)
    assert torch.equal(data.train.images, IMAGES[:, :1])
    rgb = dataset_from_torch(
        Pairs(form), Pairs(form), CLASSES, channels=3, size=16, fit="pad", mean=[0.5] * 3, std=[1] * 3
    )
    assert torch.equal(rgb.train.images, torch.nn.functional.pad(IMAGES[:, :1], (3, 3, 2, 2)).expand(-1, 3, -1, -1))
    assert rgb.mean == (0.5, 0.5, 0.5)


def test_an_image_folder_of_torchvision(tmp_path: Path) -> None:
    for index, image in enumerate(IMAGES):
        path = tmp_path / CLASSES[index % 3] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        as_pil(image).save(path)
    plain, tensors = ImageFolder(tmp_path), ImageFolder(tmp_path, transform=ToTensor())
    data = dataset_from_torch(plain, plain, plain.classes)
    assert torch.equal(data.train.images, IMAGES[[0, 3, 6, 1, 4, 7, 2, 5, 8]])
    assert dataset_from_torch(tensors, tensors, plain.classes).fingerprint == data.fingerprint


def test_pictures_of_several_sizes_need_a_size() -> None:
    def cropped(image: torch.Tensor) -> torch.Tensor:
        return image[:, : 5 + int(image[0, 0, 0]) % 5]

    with pytest.raises(UserError, match=r"train\[\d\]: is .* large, the first picture .*; give a size"):
        dataset_from_torch(Pairs(cropped), Pairs(cropped), CLASSES)
    assert dataset_from_torch(Pairs(cropped), Pairs(cropped), CLASSES, size=8).shape == (3, 8, 8)


def normalised(image: torch.Tensor) -> torch.Tensor:
    return (image.float() / 255 - 0.5) / 0.2


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield IMAGES[0], 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (Pairs(normalised), r"train\[0\]: has values outside 0..1; pass pictures before normalisation"),
        (Pairs(lambda image: image.float() * float("nan")), "outside 0..1"),
        (Pairs(lambda image: image.int()), r"train\[0\]: has values of type int32"),
        (Pairs(lambda image: image.repeat(2, 1, 1)), r"train\[0\]: has the shape \(6, 12, 10\)"),
        (Pairs(lambda image: image.permute(1, 2, 0)), r"train\[0\]: has the shape \(12, 10, 3\)"),
        (Pairs(str), r"train\[0\]: expected a PIL picture, an array or a tensor, found str"),
        (Pairs(as_pil, IMAGES[:0]), "need one picture each"),
        (Stream(), "map-style"),
        (TensorDataset(IMAGES), r"train\[0\]: expected a pair \(image, label\)"),
        (TensorDataset(IMAGES, LABELS + 1), r"train\[2\]: has the label 3; expected an int in 0..2"),
        (TensorDataset(IMAGES, LABELS.float()), r"train\[0\]: has the label 0.0"),
    ],
)
def test_what_is_no_data_set_of_pictures_is_named(data: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        dataset_from_torch(data, Pairs(as_pil), CLASSES)


@pytest.mark.parametrize(
    ("classes", "said"),
    [(("a",), "at least 2"), (("a", "a", "b"), "twice"), (("a", "../b", "c"), "cannot be a class's name")],
)
def test_class_names_are_checked(classes: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        dataset_from_torch(Pairs(as_pil), Pairs(as_pil), classes)
