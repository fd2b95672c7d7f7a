"""What everyone in the comparison starts from: one trained model, one user's pictures, one bundle for each size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fbkit.benchmarks.export_matrix.weights import Training, train_model
from fbkit.console import Reporter
from fbkit.device_runtime.body import normalise
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.class_folder import read_class_folder
from fbkit.device_runtime.manifest import InputSpec
from fbkit.device_runtime.tensors import Bytes, Float, Labels
from fbkit.export import export_model
from fbkit.export.own_model import OwnModel
from fbkit.files import whole_folder
from fbkit.train.models import SplitModel
from fbkit.train.recipe import DataRecipe
from fbkit.train.run_folder import open_run
from fbkit.train.sources import load_dataset
from fbkit.train.weights import save_weights

MODEL = "mobilenet_v2"
JPEG_SIZE = (640, 480)  # pixels, width and height
CLASSES = 5  # of the ten, that the user has

_TRAINING = Training(6, side=96, channels=3)
_UNSEEN = 200  # pictures that nobody learns from
_NOISE = 8.0  # grey levels, of a camera's sensor: a JPEG of smooth surfaces would be decoded too soon


@dataclass(frozen=True)
class Subject:
    """One user at one size of picture.

    Attributes:
        personal: the folder ``class/picture`` to learn from.
        pictures: those, decoded, uint8 [N, H, W, C]; and their labels int64 [N].
        unseen: others, normalised float32 [M, C, H, W]; and their labels int64 [M].
    """

    bundle: Bundle
    model: SplitModel
    personal: Path
    pictures: Bytes
    labels: Labels
    unseen: Float
    unseen_labels: Labels

    def images(self) -> torch.Tensor:
        """The pictures to learn from, normalised: float32 [N, C, H, W], channels last, which PyTorch trains faster."""
        images = torch.from_numpy(normalise(self.pictures, self.bundle.manifest.input))
        return images.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Place:
    """The folder of the comparison: the trained run, the pictures and the bundles are kept."""

    out: Path

    @property
    def run(self) -> Path:
        return self.out / "run"

    @property
    def weights(self) -> Path:
        return self.out / "weights.safetensors"

    def user(self, count: int) -> Path:
        return self.out / f"user-{count}"

    def bundle(self, side: int) -> Path:
        return self.out / "bundles" / str(side)


def prepare(place: Place, side: int, count: int, rounds: int | None, threads: int, reporter: Reporter) -> Subject:
    """Train, draw and export what is not there yet.

    Args:
        side: of the body's pictures, in pixels.
        count: pictures to learn from.
        rounds: of the training; None for the model's own number.

    Raises:
        UserError: ``place`` holds a run of another number of rounds.
    """
    train_model(MODEL, _TRAINING, 64, rounds, place.run, reporter)  # the width is the 4-conv net's alone
    model = open_run(place.run).load_model()
    model.eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs do not know it
    dataset = load_dataset(DataRecipe())
    user = place.user(count)
    if not user.exists():
        write_user(user, count)
    if not place.bundle(side).exists():
        save_weights(place.weights, model.state_dict())
        spec = InputSpec(3, side, side, dataset.mean * 3, dataset.std * 3)
        own = OwnModel(MODEL, place.weights, dataset.classes, spec, user / "unseen")
        export_model(own, "onnx", place.bundle(side))
    return subject_of(Bundle.open(place.bundle(side), threads=threads), model, user)


def subject_of(bundle: Bundle, model: SplitModel, user: Path) -> Subject:
    """``user`` holds the folders ``personal`` and ``unseen``; the bundle is the model's."""
    pictures, labels = _decode(bundle, user / "personal")
    unseen, unseen_labels = _decode(bundle, user / "unseen")
    unseen_images = normalise(unseen, bundle.manifest.input)
    return Subject(bundle, model, user / "personal", pictures, labels, unseen_images, unseen_labels)


def write_user(out: Path, count: int) -> None:
    """The embedded test pictures of some classes as JPEG files of a camera's size, to learn from and to be asked of."""
    dataset = load_dataset(DataRecipe())
    images, labels = dataset.test.images[:, 0].numpy(), dataset.test.labels.numpy()
    noise = np.random.default_rng(0)
    with whole_folder(out) as folder:
        for label in range(CLASSES):
            rows = np.flatnonzero(labels == label)
            learn = len(range(label, count, CLASSES))
            for number, row in enumerate(rows[: learn + _UNSEEN // CLASSES]):
                kind = "personal" if number < learn else "unseen"
                path = folder / kind / dataset.classes[label] / f"{row:05d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                grey = np.asarray(Image.fromarray(images[row]).resize(JPEG_SIZE, Image.Resampling.BICUBIC), np.float32)
                noisy = grey[..., None] + noise.normal(0, _NOISE, (*grey.shape, 3))
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def _decode(bundle: Bundle, folder: Path) -> tuple[Bytes, Labels]:
    found = read_class_folder(folder, bundle.classes)
    pictures = np.stack([bundle.decode(picture.path.read_bytes(), str(picture.path)) for picture in found])
    return pictures, np.array([bundle.classes.index(picture.label) for picture in found], np.int64)
