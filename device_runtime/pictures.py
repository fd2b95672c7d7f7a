"""From a picture in any common format to the uint8 array that bodies are trained on and fed with.

The one implementation for training and device, so that both see the same pixels. Steps: decode, turn by the EXIF
orientation, bring to grey or RGB, resize the shorter side (bilinear with antialiasing, as torchvision's
Resize does on PIL images), cut the centre out.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fbkit.device_runtime.tensors import Bytes
from fbkit.errors import UserError

_LONGEST_STRIP = 64  # far above any camera's panorama, so that no picture that matters is cut twice
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")

NOT_PICTURES = {"thumbs.db", "desktop.ini"}  # what systems leave in folders of pictures, in lower case


def load_picture(data: bytes, channels: int, height: int, width: int, name: str = "picture") -> Bytes:
    """Decode a picture file's bytes to uint8 [height, width, channels]; channels 1 is grey, 3 is RGB.

    ``name`` stands for the picture in messages.

    Raises:
        UserError: not a picture in one of ``FORMATS``, damaged, or absurdly large.
    """
    with _naming(name):
        return fit_picture(_decode(data, channels), height, width)


def decode_picture(data: bytes, channels: int, name: str = "picture") -> Image.Image:
    """The picture at its own size, upright, in mode L or RGB; ``load_picture`` without the last step."""
    with _naming(name):
        return _decode(data, channels)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        raise UserError(f"{name}: not a picture that can be read (known: {', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{name}: has too many pixels to be opened safely") from error
    except MemoryError:  # says nothing about the picture
        raise
    except Exception as error:
        raise UserError(f"{name}: damaged, cannot be decoded ({error})") from error


def _decode(data: bytes, channels: int) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd tags in files that decode all the same
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            # Pillow only warns of this, and Python's filters of warnings are shared by all threads.
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise Image.DecompressionBombError
            return ImageOps.exif_transpose(with_eight_bits(image)).convert("L" if channels == 1 else "RGB")


def fit_picture(image: Image.Image, height: int, width: int) -> Bytes:
    """Resize to just cover ``height`` x ``width``, then cut the centre out: uint8 [height, width, channels].

    A strip 64 times longer than the target is cut before it is resized, so that its cost is bounded.
    """
    image = _without_far_ends(image, _LONGEST_STRIP * max(height, width) // min(height, width))
    if height * image.width >= width * image.height:  # the height decides; the width is cut
        size = (max(width, int(height * image.width / image.height)), height)
    else:
        size = (width, max(height, int(width * image.height / image.width)))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    pixels = np.asarray(image.crop((left, top, left + width, top + height)), np.uint8)
    return pixels.reshape(height, width, -1)


def _without_far_ends(image: Image.Image, ratio: int) -> Image.Image:
    """Cut the ends off a strip more than ``ratio`` times as long as wide: they would be resized, then cut off."""
    width = min(image.width, ratio * image.height)
    height = min(image.height, ratio * image.width)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def with_eight_bits(image: Image.Image) -> Image.Image:
    """Bring 16-bit grey pictures down to 8 bits by their high byte; Pillow alone would clip them to white."""
    if not image.mode.startswith("I"):
        return image
    high = np.asarray(image).astype(np.int64) >> 8
    result = Image.fromarray(np.clip(high, 0, 255).astype(np.uint8))
    result.info = image.info
    return result
