"""Any map-style torch Dataset of (image, label) pairs, through Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from fbkit.device_runtime.pictures import with_eight_bits
from fbkit.errors import UserError
from fbkit.train.data import Dataset, Pictures
from fbkit.train.sources.assembling import assemble, check_classes
from fbkit.train.sources.fitting import Bytes, Fit, as_image, fit_image


def dataset_from_torch(
    train: Any,
    test: Any,
    classes: Sequence[str],
    size: int = 0,
    channels: int = 0,
    fit: Fit = "resize",
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Dataset:
    """Read two map-style torch data sets into memory, once; random transforms in them are drawn once, too.

    Args:
        train, test: ``len(...)`` and ``[index]``, which gives (image, label). An image is a PIL picture; numpy
            [H, W] or [H, W, C]; or torch [H, W] or [C, H, W]; the latter two uint8, or float in 0..1. A label is an
            int in 0..len(classes)-1.
        size: side to bring pictures to, as data.size; 0 where all have the same size already.
        channels: 1 or 3; 0 for those of the first training picture.
        fit: as data.fit.
        mean, std: as data.mean and data.std; empty to compute them.

    Raises:
        UserError: something else is found; the message names the picture.
    """
    check_classes(classes, "classes")
    if channels not in (0, 1, 3) or size < 0 or fit not in ("resize", "pad"):
        raise UserError(f"size={size}, channels={channels}, fit={fit!r}: size is 0 or more, channels 0, 1 or 3")
    if not _length(train, "train") or not _length(test, "test"):
        raise UserError("train and test need one picture each at least")
    first, _ = _picture(train, 0, "train")
    channels = channels or _channels(first)
    parts = [
        _read(data, name, len(classes), _shape(first, size, channels, fit), size, fit)
        for data, name in ((train, "train"), (test, "test"))
    ]
    return assemble(parts[0], parts[1], tuple(classes), tuple(mean), tuple(std))


def _read(data: Any, name: str, classes: int, shape: tuple[int, ...], size: int, fit: Fit) -> Pictures:
    count = _length(data, name)
    images = np.empty((count, *shape), np.uint8)
    labels = np.empty(count, np.int64)
    for index in range(count):
        image, label = _picture(data, index, name)
        where = f"{name}[{index}]"
        pixels = _fitted(image, size, shape[0], fit, where).transpose(2, 0, 1)
        if pixels.shape != shape:
            raise UserError(f"{where}: is {pixels.shape[1:]} large, the first picture {shape[1:]}; give a size")
        images[index], labels[index] = pixels, _label(label, classes, where)
    return Pictures(torch.from_numpy(images), torch.from_numpy(labels))


def _length(data: Any, name: str) -> int:
    try:
        return len(data)
    except TypeError as error:
        raise UserError(f"{name}: has no length; give a map-style torch Dataset, not an iterable one") from error


def _picture(data: Any, index: int, name: str) -> tuple[Any, Any]:
    pair = data[index]
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise UserError(f"{name}[{index}]: expected a pair (image, label), found {type(pair).__name__}")
    return pair[0], pair[1]


def _channels(image: Any) -> int:
    if isinstance(image, Image.Image):
        return 1 if image.mode in ("1", "L", "LA") or image.mode.startswith("I") else 3
    channels: int = _as_bytes(image, "train[0]").shape[2]
    return channels


def _shape(first: Any, size: int, channels: int, fit: Fit) -> tuple[int, int, int]:
    height, width, _ = _fitted(first, size, channels, fit, "train[0]").shape
    return channels, height, width


def _fitted(image: Any, size: int, channels: int, fit: Fit, where: str) -> Bytes:
    """uint8 [height, width, channels]."""
    if isinstance(image, Image.Image) and image.mode == "F":
        raise UserError(f"{where}: is a PIL picture of mode F; pass it as a float tensor in 0..1")
    picture = with_eight_bits(image) if isinstance(image, Image.Image) else as_image(_as_bytes(image, where))
    return fit_image(picture.convert("L" if channels == 1 else "RGB"), size, fit)


def _as_bytes(image: Any, where: str) -> Bytes:
    """An array or tensor as uint8 [height, width, 1 or 3]."""
    if isinstance(image, torch.Tensor):
        values = image.detach().cpu()
        pixels = (values.permute(1, 2, 0) if values.ndim == 3 else values).numpy()
        layout = "[1 or 3, height, width]"
    elif isinstance(image, np.ndarray):
        pixels, layout = image, "[height, width, 1 or 3]"
    else:
        raise UserError(f"{where}: expected a PIL picture, an array or a tensor, found {type(image).__name__}")
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise UserError(f"{where}: has the shape {tuple(image.shape)}; expected [height, width] or {layout}")
    if np.issubdtype(pixels.dtype, np.floating):
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise UserError(f"{where}: has values outside 0..1; pass pictures before normalisation")
        return np.asarray(np.rint(pixels * 255), np.uint8)
    if pixels.dtype != np.uint8:
        raise UserError(f"{where}: has values of type {pixels.dtype}; expected uint8, or float in 0..1")
    return np.asarray(pixels, np.uint8)


def _label(label: Any, classes: int, where: str) -> int:
    if isinstance(label, torch.Tensor | np.ndarray | np.generic) and label.ndim == 0:
        label = label.item()
    if type(label) is not int or not 0 <= label < classes:
        raise UserError(f"{where}: has the label {label!r}; expected an int in 0..{classes - 1}")
    return label
