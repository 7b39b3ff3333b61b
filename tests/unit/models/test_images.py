from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.backbones.images import as_rgb, open_image
from models.errors import ImageError


def _bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _grey(value: int = 128, size: tuple[int, int] = (8, 6)) -> Image.Image:
    return Image.new("L", size, value)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "PNG"),
        ("L", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("LA", "PNG"),
        ("RGBA", "PNG"),
        ("CMYK", "JPEG"),
        ("L", "JPEG"),
        ("P", "GIF"),
        ("F", "TIFF"),
        ("RGB", "WEBP"),
        ("RGB", "BMP"),
    ],
)
def test_every_mode_becomes_rgb(mode: str, kind: str) -> None:
    image = as_rgb(open_image(_bytes(_grey(255).convert(mode), kind)))
    assert (image.mode, image.size) == ("RGB", (8, 6))
    assert np.asarray(image).min() > 250


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = Image.fromarray(np.full((4, 4), 32768, dtype=np.uint16))
    assert np.asarray(as_rgb(open_image(_bytes(deep)))).tolist()[0][0] == [128, 128, 128]


def test_what_is_transparent_becomes_white() -> None:
    clear = Image.new("RGBA", (3, 3), (0, 0, 0, 0))
    assert np.asarray(as_rgb(open_image(_bytes(clear)))).min() == 255
    palette = Image.new("P", (3, 3), 0)
    assert np.asarray(as_rgb(open_image(_bytes(palette, transparency=0)))).min() == 255


def test_the_camera_is_turned_upright() -> None:
    image = _grey(size=(8, 6))
    turned = Image.Exif()
    turned[0x0112] = 6
    assert as_rgb(open_image(_bytes(image, "JPEG", exif=turned))).size == (6, 8)


def test_a_large_jpeg_is_decoded_small_but_not_too_small() -> None:
    data = _bytes(_grey(size=(1600, 1200)), "JPEG")
    assert as_rgb(open_image(data), at_least_px=64).size == (200, 150)
    assert as_rgb(open_image(data)).size == (1600, 1200)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "a web page"),
        (b"\x89PNG\r\n\x1a\n", "cut off"),
    ],
)
def test_what_is_no_image_is_said_to_be_none(data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        open_image(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_cut_off_file_is_an_error_not_a_grey_half(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = _bytes(noise, kind)
    with pytest.raises(ImageError):
        as_rgb(open_image(data[: len(data) // 2]))


def test_too_many_pixels_are_refused_before_decoding() -> None:
    with pytest.raises(ImageError, match="100 x 100"):
        open_image(_bytes(_grey(size=(100, 100))), max_pixels=9_999)


def test_a_path_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(_bytes(_grey()))
    assert open_image(tmp_path / "x.png").size == (8, 6)
