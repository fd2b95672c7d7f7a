"""Decoding, against Pillow and torchvision used by hand."""

from __future__ import annotations

import io
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fbkit.device_runtime.pictures import load_picture
from fbkit.errors import UserError
from fbkit.train.vision import import_torchvision

import_torchvision()
from torchvision.transforms import CenterCrop, Resize  # noqa: E402


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)
    return values[..., 0] if channels == 1 else values


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([8, 28, 33]), st.integers(0, 9))
def test_square_inputs_equal_torchvisions_resize_and_crop(height: int, width: int, side: int, seed: int) -> None:
    if max(height, width) > 20 * min(height, width):
        return
    image = Image.fromarray(noise(height, width, seed=seed))
    expected = np.asarray(CenterCrop(side)(Resize(side)(image)))
    found = load_picture(encoded(image), 3, side, side)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_picture_of_the_right_size_is_left_as_it_is() -> None:
    pixels = noise(28, 28, 1)
    assert np.array_equal(load_picture(encoded(Image.fromarray(pixels)), 1, 28, 28)[..., 0], pixels)


@pytest.mark.parametrize(("height", "width"), [(10, 20), (20, 10), (13, 7)])
def test_inputs_need_not_be_square(height: int, width: int) -> None:
    image = Image.fromarray(np.full((50, 40, 3), 7, np.uint8))
    assert np.array_equal(load_picture(encoded(image), 3, height, width), np.full((height, width, 3), 7))


def test_a_strip_of_any_length_costs_little() -> None:
    image = Image.new("L", (1, 3_000_000), 9)
    image.paste(200, (0, 1_400_000, 1, 1_600_000))
    assert np.array_equal(load_picture(encoded(image), 1, 28, 28), np.full((28, 28, 1), 200))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_obeyed(orientation: int) -> None:
    upright = noise(24, 24)
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(turned)), "PNG", exif=exif)
    assert np.array_equal(load_picture(data, 3, 24, 24), upright)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_colour_mode_becomes_grey_or_rgb(mode: str) -> None:
    image = Image.fromarray(noise(20, 20)).convert(mode)
    data = encoded(image, "JPEG" if mode in ("CMYK", "YCbCr") else "PNG")
    with Image.open(io.BytesIO(data)) as again:
        expected = np.asarray(again.convert("RGB")), np.asarray(again.convert("L"))
    assert np.array_equal(load_picture(data, 3, 20, 20), expected[0])
    assert np.array_equal(load_picture(data, 1, 20, 20)[..., 0], expected[1])


def test_sixteen_bits_become_eight_by_the_high_byte_not_white() -> None:
    values = np.arange(0, 65536, 65536 // 400, dtype=np.uint16)[:400].reshape(20, 20)
    found = load_picture(encoded(Image.fromarray(values)), 1, 20, 20)[..., 0]
    assert np.array_equal(found, values >> 8)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "WEBP"])
def test_every_named_format_is_read(kind: str) -> None:
    image = Image.fromarray(np.full((16, 16, 3), 200, np.uint8))
    assert np.abs(load_picture(encoded(image, kind), 3, 16, 16).astype(int) - 200).max() <= 3


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = (60_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "x.png: not a picture that can be read"),
        (b"hello", "x.png: not a picture that can be read"),
        (encoded(Image.fromarray(noise(64, 64)))[:2000], "x.png: damaged, cannot be decoded"),
        (encoded(Image.fromarray(noise(64, 64)), "JPEG")[:1500], "x.png: damaged, cannot be decoded"),
        (bomb(), "x.png: has too many pixels"),
    ],
)
def test_what_cannot_be_decoded_is_named(data: bytes, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_picture(data, 3, 8, 8, "x.png")


def test_broken_exif_is_damage_like_any_other() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x9286] = b"x" * 40
    data = encoded(Image.fromarray(noise(12, 12)), "JPEG", exif=exif)
    for place in range(20, 120):
        for value in (0, 0xFF):
            with suppress(UserError):
                load_picture(data[:place] + bytes([value]) + data[place + 1 :], 3, 8, 8)


def test_a_lack_of_memory_says_nothing_about_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", full)
    with pytest.raises(MemoryError):
        load_picture(b"anything", 3, 8, 8)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_pictures_never_end_in_another_error(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["BMP", "GIF", "JPEG", "PNG", "WEBP"]))
    content = bytearray(encoded(Image.fromarray(noise(12, 12)), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(UserError):
        assert load_picture(bytes(content), 3, 8, 8).shape == (8, 8, 3)
