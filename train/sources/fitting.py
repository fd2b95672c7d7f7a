"""Bringing pictures to the recipe's size and channels: one by one, or a whole array at once."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fbkit.device_runtime.pictures import fit_picture
from fbkit.errors import UserError
from fbkit.train.data import Pictures

Bytes = NDArray[np.uint8]
Fit = Literal["resize", "pad"]

_STEP = 4096  # pictures of a chunk, to bound what lies beside the result


def fit_image(image: Image.Image, size: int, fit: Fit) -> Bytes:
    """A grey or RGB image as uint8 [size, size, channels]; size 0 keeps its own size."""
    if size == 0:
        pixels = np.asarray(image, np.uint8)
        return pixels.reshape(image.height, image.width, -1)
    return pad_picture(image, size) if fit == "pad" else fit_picture(image, size, size)


def pad_picture(image: Image.Image, size: int) -> Bytes:
    """Centre on zeros, uint8 [size, size, channels]; what is larger is first scaled down to fit inside."""
    longest = max(image.size)
    if longest > size:
        width, height = (max(1, round(side * size / longest)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8).reshape(image.height, image.width, -1)
    result = np.zeros((size, size, pixels.shape[2]), np.uint8)
    top, left = (size - image.height) // 2, (size - image.width) // 2
    result[top : top + image.height, left : left + image.width] = pixels
    return result


def fit_pictures(pictures: Pictures, size: int, channels: int, fit: Fit) -> Pictures:
    """Pictures of one size, [N, C, H, W], brought to ``size`` and ``channels``; 0 keeps what they have.

    Returns the same object where there is nothing to do.

    Raises:
        UserError: the result is more than memory holds.
    """
    try:
        images = _fitted(pictures.images, size, channels, fit)
    except (MemoryError, RuntimeError) as error:  # numpy's and torch's way to say it
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        raise UserError(
            f"data.size = {size}, data.channels = {channels}: {len(pictures)} pictures of that size are more than "
            "memory holds; choose a smaller data.size"
        ) from error
    return pictures if images is pictures.images else Pictures(images, pictures.labels)


def _fitted(images: Tensor, size: int, channels: int, fit: Fit) -> Tensor:
    if channels not in (0, images.shape[1]):
        images = _repeated(images) if channels == 3 else _grey(images)
    if size not in (0, images.shape[2]) or size not in (0, images.shape[3]):
        small = max(images.shape[2:]) <= size
        images = _padded(images, size) if fit == "pad" and small else _one_by_one(images, size, fit)
    return images


def _repeated(images: Tensor) -> Tensor:
    return images.repeat(1, 3, 1, 1)


def _grey(images: Tensor) -> Tensor:
    """Pillow's conversion to mode L, in the same integers."""
    result = torch.empty_like(images[:, :1])
    for start in range(0, len(images), _STEP):
        red, green, blue = images[start : start + _STEP].int().unbind(1)
        result[start : start + _STEP, 0] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return result


def _padded(images: Tensor, size: int) -> Tensor:
    count, channels, height, width = images.shape
    result = images.new_zeros(count, channels, size, size)
    top, left = (size - height) // 2, (size - width) // 2
    result[:, :, top : top + height, left : left + width] = images
    return result


def _one_by_one(images: Tensor, size: int, fit: Fit) -> Tensor:
    result = np.empty((len(images), images.shape[1], size, size), np.uint8)
    for row, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        result[row] = fit_image(as_image(image), size, fit).transpose(2, 0, 1)
    return torch.from_numpy(result)


def as_image(pixels: Bytes) -> Image.Image:
    """uint8 [height, width, 1 or 3] as a grey or RGB image."""
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
