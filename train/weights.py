"""Weights on disk: written whole, checked against the model before they are used.

fbkit's own are safetensors. A user's may also be torch's format, read by ``torch.load(weights_only=True)`` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fbkit.errors import UserError
from fbkit.files import write_atomic


def save_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    # Copied: a layer may be used under two names, and safetensors wants no memory shared.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
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


def read_user_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a user's file, on the CPU: .safetensors, or a state dict in .pt or .pth.

    A state dict may lie below "state_dict" or "model", as checkpoints have it; the "module." that
    DistributedDataParallel puts before every name is taken off.

    Raises:
        UserError: no such file, another format, or it holds more than plain tensors.
    """
    if path.suffix == ".safetensors":
        content: Any = read_weights(path)[0]
    elif path.suffix in (".pt", ".pth"):
        content = _read_torch(path)
    else:
        raise UserError(f"{path}: not known as weights by its name; they come as .safetensors, .pt or .pth")
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: holds no state dict; save the module's state_dict()")
    for name, value in content.items():
        plain = isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
        if not isinstance(name, str) or not plain or value.is_quantized:
            raise UserError(f"{path}: {name} is not a plain tensor; save the module's state_dict() alone")
    prefix = "module." if all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): value for name, value in content.items()}


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:
        raise UserError(
            f"{path}: damaged, or holds more than plain tensors (torch.load with weights_only=True refuses it); "
            "save the module's state_dict(), best as safetensors"
        ) from error
