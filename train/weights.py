"""Weights on disk: safetensors only, written whole, checked against the model before they are used."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fbkit.errors import UserError
from fbkit.files import write_atomic


def save_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(plain, metadata))


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        UserError: missing or not a whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from error


def load_into(module: nn.Module, tensors: dict[str, Tensor], origin: Path) -> None:
    """Copy ``tensors`` into the module's parameters and buffers, all of them, with equal shapes and finite values.

    Raises:
        UserError: a tensor is missing, too many, of another shape or dtype, or not finite.
    """
    wanted = module.state_dict()
    if difference := wanted.keys() ^ tensors.keys():
        raise UserError(f"{origin}: does not fit the recipe's model; it differs in {', '.join(sorted(difference)[:3])}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape or tensor.dtype != wanted[name].dtype:
            raise UserError(
                f"{origin}: {name} is {tensor.dtype} {list(tensor.shape)}, "
                f"the recipe's model has {wanted[name].dtype} {list(wanted[name].shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise UserError(f"{origin}: {name} holds values that are not finite")
    module.load_state_dict(tensors)
