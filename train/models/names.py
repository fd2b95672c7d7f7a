"""What ``model.name`` may be. No torch here: a recipe is checked without it."""

from __future__ import annotations

import difflib

# For small pictures, of any number of channels.
SMALL = ("conv4", "mobilenet", "resnet18-small", "resnet50-small")

# torchvision's, by torchvision's names.
TORCHVISION = (
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "resnet18",
    "resnet50",
    "shufflenet_v2_x1_0",
)


def is_import_path(name: str) -> bool:
    """Whether ``name`` stands for a user's own module, as ``my_pkg.nets:Net`` does."""
    return ":" in name


def check_model_name(name: str) -> None:
    """Raise ValueError, with the nearest known names, where ``name`` is neither known nor an import path."""
    if name in SMALL or name in TORCHVISION:
        return
    if is_import_path(name):
        module, _, attribute = name.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
            raise ValueError(f"model.name = '{name}' is no import path; write it as my_pkg.nets:Net")
        return
    near = difflib.get_close_matches(name, (*SMALL, *TORCHVISION))
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join((*SMALL, *TORCHVISION))}"
    raise ValueError(f"model.name = '{name}' is not known; {hint} (your own module: my_pkg.nets:Net)")
