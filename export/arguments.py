"""What people write on the command line about their own model, checked."""

from __future__ import annotations

import math
import re
from pathlib import Path

from fbkit.device_runtime.manifest import LEAST_STD, MAX_CLASSES, MAX_SIDE, InputSpec
from fbkit.errors import UserError
from fbkit.train.sources.assembling import check_classes

_LONGEST_NAME = 200


def parse_input(size: str, mean: str, std: str) -> InputSpec:
    """``3x96x96`` and ``0.5,0.5,0.5``: one number a channel, of values in 0..1.

    Raises:
        UserError: something else is written, or it cannot be; the message names the option.
    """
    found = re.fullmatch(r"(\d{1,9})x(\d{1,9})x(\d{1,9})", size)
    if found is None:
        raise UserError(f"--input {size}: write CHANNELSxHEIGHTxWIDTH, as in 3x96x96")
    channels, height, width = map(int, found.groups())
    if channels not in (1, 3):
        raise UserError(f"--input {size}: pictures have 1 channel (grey) or 3 (RGB), not {channels}")
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise UserError(f"--input {size}: height and width must be from 1 to {MAX_SIDE}")
    means, stds = _numbers("--mean", mean, channels), _numbers("--std", std, channels)
    if min(stds) <= LEAST_STD:
        raise UserError(f"--std {std}: must be above {LEAST_STD:g}")
    return InputSpec(channels, height, width, means, stds)


def _numbers(option: str, text: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{option} {text}: write numbers with commas between them, as in 0.5,0.5,0.5") from error
    if len(numbers) != count:
        raise UserError(f"{option} {text}: has {len(numbers)} numbers, but --input has {count} channels; one for each")
    if not all(math.isfinite(number) and abs(number) <= 1000 for number in numbers):
        raise UserError(f"{option} {text}: must be of values in 0..1 (a pixel over 255)")
    return numbers


def read_classes(path: Path) -> tuple[str, ...]:
    """The names in a text file, one a line, in the order of the model's outputs; empty lines do not count.

    Raises:
        UserError: it cannot be read, or a name is there twice or cannot be a folder's.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(
            f"--classes {path}: cannot be read ({error.strerror}); give a text file, a name a line"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"--classes {path}: not text in UTF-8; give a name a line") from error
    classes = tuple(line.strip() for line in lines if line.strip())
    check_classes(classes, f"--classes {path}")
    if len(classes) > MAX_CLASSES:
        raise UserError(f"--classes {path}: names {len(classes):,} classes, at most {MAX_CLASSES:,} are possible")
    for name in classes:
        if len(name) > _LONGEST_NAME:
            raise UserError(f"--classes {path}: {name[:30]!r}... is longer than {_LONGEST_NAME} characters")
    return classes
