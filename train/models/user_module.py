"""A user's own module, found by its import path."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from fbkit.errors import UserError, describe


def find_maker(name: str) -> Callable[..., Any]:
    """Import the class or function that ``my_pkg.nets:Net`` names; the current directory counts, as in ``python -m``.

    Raises:
        UserError: no such module or attribute, the import fails, or it cannot be called to make a module.
    """
    path, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(path)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{path}.".startswith(f"{error.name}."):
            raise UserError(
                f"model.name = '{name}': there is no module {error.name} in {here} or on PYTHONPATH"
            ) from error
        raise UserError(f"model.name = '{name}': importing {path} fails ({describe(error)})") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UserError(f"model.name = '{name}': {getattr(found, '__name__', path)} has no {part}")
        found = getattr(found, part)
    is_class = inspect.isclass(found) and issubclass(found, nn.Module)
    if not is_class and not inspect.isfunction(found):
        raise UserError(
            f"model.name = '{name}': {attribute} is a {type(found).__name__}; "
            "name a subclass of torch.nn.Module, or a function that makes a module"
        )
    maker: Callable[..., Any] = found
    return maker


def make_module(maker: Callable[..., Any], name: str, classes: int) -> nn.Module:
    """Call ``maker``, with ``num_classes`` where it takes that.

    Raises:
        UserError: the call fails, or gives no module.
    """
    arguments = {"num_classes": classes} if _takes_classes(maker) else {}
    call = f"{name.partition(':')[2]}({', '.join(f'{key}={value}' for key, value in arguments.items())})"
    try:
        module = maker(**arguments)
    except (Exception, SystemExit) as error:
        raise UserError(f"model.name = '{name}': {call} fails ({describe(error)})") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"model.name = '{name}': {call} gives a {type(module).__name__}, not a torch.nn.Module")
    return module


def _takes_classes(maker: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(maker).parameters
    except (TypeError, ValueError):  # none can be found for some built ones
        return False
    named = parameters.get("num_classes")
    if named is not None:
        return named.kind in (named.POSITIONAL_OR_KEYWORD, named.KEYWORD_ONLY)
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
