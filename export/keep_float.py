"""The modules of a body that stay in fp32 when the rest becomes int8."""

from __future__ import annotations

import difflib

from torch import nn

from fbkit.errors import UserError


def check_keep_float(body: nn.Module, keep_float: tuple[str, ...]) -> None:
    """Raise UserError where ``keep_float`` names a module that ``body`` does not have."""
    known = [name for name, _ in body.named_modules() if name]
    for name in keep_float:
        if name not in known:
            near = difflib.get_close_matches(name, known) or known[:3]
            raise UserError(f"--keep-float {name}: the body has no such module; it has {', '.join(near)}, ...")


def is_kept(module: str, keep_float: tuple[str, ...]) -> bool:
    """Whether the module of that name is named, or lies in one that is."""
    path = module.partition("@")[0]  # torch.export marks a module's second call with @1
    return any(f"{path}.".startswith(f"{name}.") for name in keep_float)
