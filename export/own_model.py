"""A model that fbkit never trained, as something to export."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fbkit.device_runtime.manifest import Defaults, InputSpec
from fbkit.errors import UserError, describe
from fbkit.export.defaults import Chosen
from fbkit.export.exportable import Exportable
from fbkit.export.real_pictures import LEAST_CALIBRATION, choose_halves, list_folder, refuse_too_few
from fbkit.files import sha256_file
from fbkit.train.models import SplitModel, build_model
from fbkit.train.models.init import load_start
from fbkit.train.models.names import is_import_path
from fbkit.train.models.splitting import made_up_pictures
from fbkit.train.models.user_module import find_maker, make_module
from fbkit.train.recipe import ModelRecipe
from fbkit.train.weights import read_user_weights

# What a recipe calls what is an option here.
_OPTIONS = {
    "model.name = ": "--model ",
    "model.head = ": "--head ",
    "model.head": "--head",
    "data.channels = 3": "--input 3xHEIGHTxWIDTH",
}


@dataclass(frozen=True)
class OwnModel:
    """What ``fbkit export --model`` is told.

    Attributes:
        name: ``my_pkg.nets:Net``, or a model that fbkit knows.
        weights: the module's state dict, as safetensors or in torch's format, with running statistics.
        classes: in the order of the logits.
        spec: size and normalisation of the pictures that the model was trained on.
        calibrate: real pictures, in a folder for each class or all in one.
        head: the linear layer that becomes the head, ``classifier.3``; empty: the last one called.
    """

    name: str
    weights: Path
    classes: tuple[str, ...]
    spec: InputSpec
    calibrate: Path
    head: str = ""


def exportable_model(own: OwnModel, precision: str) -> Exportable:
    """The model with its weights, and the folder's pictures to verify and, for int8, to calibrate.

    Raises:
        UserError: the model cannot be made or split, the weights are not whole or do not fit, the folder's pictures
            cannot be used or are too few.
    """
    pictures = list_folder(own.calibrate, own.classes)
    if precision != "fp32":
        refuse_too_few(len(pictures), 2 * LEAST_CALIBRATION, f"--calibrate {own.calibrate}")
    model = _load(own)
    first, second = choose_halves(len(pictures))
    return Exportable(
        origin=f"--model {own.name}",
        model=model,
        classes=own.classes,
        spec=own.spec,
        calibration=None if precision == "fp32" else pictures.decode(first, own.spec),
        verification=pictures.decode(second, own.spec),
        provenance={
            "model": own.name,
            "trained_by_fbkit": False,
            "weights_sha256": sha256_file(own.weights),
        },
        choose_defaults=lambda: Chosen(Defaults(), {"measured": False, "why": "fbkit did not train this model"}),
    )


@contextmanager
def _named_as_options() -> Iterator[None]:
    """Messages of what recipes use, too, name the option instead of the recipe's key."""
    try:
        yield
    except UserError as error:
        message = str(error)
        for key, option in _OPTIONS.items():
            message = message.replace(key, option)
        raise UserError(message) from error


def _load(own: OwnModel) -> SplitModel:
    """The model with all of its weights, in eval mode."""
    shape = own.spec.channels, own.spec.height, own.spec.width
    weights = read_user_weights(own.weights)
    with _named_as_options():
        model = build_model(ModelRecipe(name=own.name, norm="running", head=own.head), shape, len(own.classes), seed=0)
        whole = _whole_module(own, shape) if is_import_path(own.name) else None
    head = model.head_name
    if whole is not None and whole.get_submodule(head).bias is None and f"{head}.weight" in weights:
        weights.setdefault(f"{head}.bias", torch.zeros(len(own.classes)))
    load_start(model, weights, str(own.weights))
    _refuse_partial(model, weights, own)
    model.eval()
    _refuse_other_alone(model, own, shape)
    if whole is not None:
        _refuse_another_head(model, whole, own, shape)
    return model


def _whole_module(own: OwnModel, shape: tuple[int, int, int]) -> nn.Module:
    """The module as its author made it, in eval mode and with a start of its own."""
    module = make_module(find_maker(own.name), own.name, len(own.classes)).eval()
    with torch.no_grad():
        module(made_up_pictures(shape))  # a lazy layer becomes what it will be
    return module


def _refuse_partial(model: SplitModel, weights: dict[str, Tensor], own: OwnModel) -> None:
    """Raise UserError where the head or a layer's statistics were left at their start; training may, export may not."""
    for name, values in model.head.state_dict().items():
        given = weights.get(f"{model.head_name}.{name}", weights.get(f"head.{name}"))
        if given is None:
            raise UserError(f"{own.weights}: has no {model.head_name}.{name}, the model's head; give the whole model")
        if given.shape != values.shape:
            raise UserError(
                f"{own.weights}: {model.head_name}.{name} is {list(given.shape)}, but for {len(own.classes)} classes "
                f"it must be {list(values.shape)}; give --classes a name for each output of the model, in their order"
            )
    for name in model.body.state_dict():
        is_needed = name.rpartition(".")[2] in ("running_mean", "running_var")
        if is_needed and name not in weights and f"body.{name}" not in weights:
            raise UserError(
                f"{own.weights}: has no {name}, but a device takes one picture at a time and cannot normalise it by "
                "its batch; give weights with running statistics"
            )


def _refuse_other_alone(model: SplitModel, own: OwnModel, shape: tuple[int, int, int]) -> None:
    """Raise UserError where a picture has other features, or as many in another shape, when no other is beside it."""
    body, images = _in_float64(model.body, made_up_pictures(shape))
    problem = (
        f"--model {own.name}: gives a picture alone other features than in a batch, but a device takes one picture at "
        "a time; look in its forward for what mixes pictures, or for a squeeze() that names no dimension"
    )
    with torch.no_grad():
        wanted = body(images)
        try:
            found = [body(image) for image in images.split(1)]
        except Exception as error:
            raise UserError(f"{problem} ({describe(error)})") from error
    is_shape_kept = all(features.shape == wanted[:1].shape for features in found)
    if not is_shape_kept or not (torch.cat(found) - wanted).abs().max() <= 1e-3 * wanted.abs().max():
        raise UserError(problem)


def _in_float64(body: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    """If the body can do that: a deep one that was never trained makes much of a rounding in float32."""
    exact = copy.deepcopy(body).double()
    try:
        with torch.no_grad():
            exact(images.double())
    except Exception:  # noqa: BLE001  it has a dtype of its own somewhere
        return body, images
    return exact, images.double()


def _refuse_another_head(model: SplitModel, whole: nn.Module, own: OwnModel, shape: tuple[int, int, int]) -> None:
    """Raise UserError where the whole module, with the same weights, gives other logits than body and head."""
    head = whole.get_submodule(model.head_name)
    state = {f"{model.head_name}.{name}": values for name, values in model.head.state_dict().items()}
    if head.bias is None:
        del state[f"{model.head_name}.bias"]
    problem = f"--model {own.name}: its last layer {model.head_name} is more than a plain nn.Linear"
    images = made_up_pictures(shape)
    try:
        whole.load_state_dict(model.body.state_dict() | state)
        with torch.no_grad():
            wanted, found = whole(images), model(images)
    except Exception as error:
        raise UserError(f"{problem} ({describe(error)})") from error
    if wanted.shape != found.shape or not (wanted - found).abs().max() <= 1e-4 * wanted.abs().max():
        raise UserError(f"{problem}: on what the rest gives, the module gives other logits")
