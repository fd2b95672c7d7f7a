"""One client under one bundle: its pictures, some of each class, learned from by one solver; the curve."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fbkit.benchmarks.clients import ClientFolder
from fbkit.benchmarks.convergence.plan import recipe_of
from fbkit.benchmarks.convergence.result import ALL, Curve
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.class_folder import LabelledPicture, read_class_folder
from fbkit.device_runtime.head import NO_CHANCE, Head
from fbkit.device_runtime.personalizer import Personalizer
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError
from fbkit.files import sha256_bytes


def measure_client(
    bundle: Bundle, client: ClientFolder, wanted: Iterable[tuple[str, int]], epochs: int | None
) -> list[Curve]:
    """Personalize as a device does, each time from nothing, with the profile and its judging.

    Args:
        wanted: solvers, each with the number of pictures a class.
        epochs: of SGD; None for what the bundle recommends.

    Returns:
        A curve for each, of subject 0.

    Raises:
        UserError: a picture cannot be used, or a learning rate is too high.
    """
    unseen = Personalizer(bundle).read_folder(client.test)
    pictures = read_class_folder(client.train, bundle.classes)
    curves = []
    for solver, per_class in wanted:
        with TemporaryDirectory() as scratch:
            folder = client.train if per_class == ALL else Path(scratch) / "pictures"
            if per_class != ALL:
                copy_pictures(some_of_each_class(pictures, client.name, per_class), folder)
            try:
                if solver == "nearest":
                    curves.append(_nearest(bundle, client.name, folder, per_class, unseen))
                else:
                    profile = Path(scratch) / "profile"
                    curves.append(_fitted(bundle, client.name, folder, profile, solver, per_class, epochs, unseen))
            except UserError as error:
                raise UserError(f"{client.train}, {solver}: {error}") from error
    return curves


def some_of_each_class(pictures: list[LabelledPicture], client: str, per_class: int) -> list[LabelledPicture]:
    """At most so many of each class, in an order of the client's own: who has more of them has the fewer among them."""
    ranked = sorted(
        pictures, key=lambda picture: sha256_bytes(f"{client}/{picture.label}/{picture.path.name}".encode())
    )
    labels = sorted({picture.label for picture in pictures})
    return [picture for label in labels for picture in [each for each in ranked if each.label == label][:per_class]]


def copy_pictures(pictures: list[LabelledPicture], folder: Path) -> None:
    """Write pictures as ``folder/class/picture``."""
    for picture in pictures:
        target = folder / picture.label / picture.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture.path, target)


def _fitted(
    bundle: Bundle,
    client: str,
    pictures: Path,
    profile: Path,
    solver: str,
    per_class: int,
    epochs: int | None,
    unseen: tuple[Float, Labels],
) -> Curve:
    """The heads are kept as they come and judged afterwards, so that judging them costs no measured time."""
    recipe = recipe_of(solver, bundle.manifest.personalization, epochs)
    heads: list[tuple[float, Head]] = [(0.0, bundle.head)]
    began = time.perf_counter()
    result = Personalizer(bundle, profile).fit(
        pictures, recipe, listener=lambda _number, head, _loss: heads.append((time.perf_counter() - began, head))
    )
    return Curve(
        subject=0,
        solver=solver,
        per_class=per_class,
        client=client,
        pictures=sum(result.pictures.values()),
        batch=recipe.schedule.batch_size if recipe.schedule else None,
        features_seconds=result.seconds["decode"] + result.seconds["body"],
        seconds=tuple(seconds for seconds, _ in heads),
        accuracy=tuple(head.accuracy(*unseen) for _, head in heads),
        loss=tuple(head.loss(*unseen) for _, head in heads),
    )


def _nearest(bundle: Bundle, client: str, pictures: Path, per_class: int, unseen: tuple[Float, Labels]) -> Curve:
    began = time.perf_counter()
    features, labels = Personalizer(bundle).read_folder(pictures)
    seen = time.perf_counter() - began
    head = nearest_template_head(features, labels, len(bundle.classes))
    done = time.perf_counter() - began
    return Curve(
        subject=0,
        solver="nearest",
        per_class=per_class,
        client=client,
        pictures=len(labels),
        batch=None,
        features_seconds=seen,
        seconds=(0.0, done),
        accuracy=(bundle.head.accuracy(*unseen), head.accuracy(*unseen)),
        loss=None,
    )


def nearest_template_head(features: Float, labels: Labels, classes: int) -> Head:
    """A head whose largest logit is that of the class with the nearest mean feature, as in the FedBABU paper.

    Of |f - m|^2 = |f|^2 - 2 m.f + |m|^2 the first term is the same for all classes. A class without pictures is left
    out.

    Args:
        features: float32 [N, F].
        labels: int64 [N].
    """
    weight = np.zeros((classes, features.shape[1]), np.float32)
    bias = np.full(classes, NO_CHANCE, np.float32)
    for label in np.unique(labels):
        mean = features[labels == label].mean(0)
        weight[label], bias[label] = 2 * mean, -np.square(mean).sum()
    return Head(weight, bias)
