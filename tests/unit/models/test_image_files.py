"""Every kind of image file: the right pixels, or a reason in plain words."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageCms, features

from models.backbones.avif_guard import Unreadable, coded_sizes
from models.backbones.images import as_rgb, open_image
from models.errors import DamagedImage, ImageError
from models.image_kinds import kind_of
from tests.unit.models import image_files as made
from tests.unit.models.image_files import noise, picture, png, saved, tiff_of_numbers, turned

ROOT = Path(__file__).resolve().parents[3]
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(as_rgb(open_image(data)), dtype=np.int16)


def colours(data: bytes) -> list[tuple[int, ...]]:
    return [tuple(pixel) for pixel in pixels(data).reshape(-1, 3).tolist()]


@pytest.fixture(autouse=True)
def warnings_as_in_the_service() -> Iterator[None]:
    """Pillow's are silenced where images are read; pytest makes errors of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


# Turned by the camera ---------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "off"), [("PNG", 0), ("WEBP", 0), ("TIFF", 0), ("JPEG", 3), ("AVIF", 6)]
)
def test_a_turned_picture_is_upright(kind: str, off: int, orientation: int) -> None:
    upright = picture()
    # What the camera stored is what, turned as it says, is upright again.
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright if orientation == 1 else upright.transpose(undo[orientation])
    found = pixels(turned(stored, orientation, kind))
    assert found.shape == (6, 8, 3)
    assert np.abs(found - np.asarray(upright, dtype=np.int16)).max() <= off


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_jpeg_decoded_small_is_upright_too(mode: str, orientation: int) -> None:
    wide = picture().resize((1600, 1200), Image.Resampling.NEAREST).convert(mode)
    exif = Image.Exif()
    exif[made.ORIENTATION] = orientation
    data = saved(wide, "JPEG", exif=exif, quality=95, subsampling=0)
    small = as_rgb(open_image(data), at_least_px=64)
    whole = as_rgb(open_image(data))
    assert max(small.size) == 200
    assert small.mode == whole.mode == "RGB"
    corners = [(0.1, 0.1), (0.9, 0.1), (0.1, 0.9), (0.9, 0.9)]
    for x, y in corners:
        a = small.getpixel((int(x * small.width), int(y * small.height)))
        b = whole.getpixel((int(x * whole.width), int(y * whole.height)))
        assert np.abs(np.subtract(a, b)).max() <= 6  # type: ignore[arg-type]


def test_damaged_exif_leaves_the_picture_as_it_lies() -> None:
    data = saved(picture(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + b"\xff" * 40)
    assert pixels(data).shape == (6, 8, 3)
    exif = Image.Exif()
    exif[made.ORIENTATION] = 99
    assert pixels(saved(picture(), "PNG", exif=exif)).shape == (6, 8, 3)


# Colours ----------------------------------------------------------------------------------------


def _palette(**options: object) -> bytes:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 0, 255, 7, 8, 9])
    image.putdata([0, 1, 2])
    return saved(image, "PNG", **options)


def _row(mode: str, *values: object) -> Image.Image:
    image = Image.new(mode, (len(values), 1))
    image.putdata(list(values))
    return image


RED, BLUE, DARK = (255, 0, 0), (0, 0, 255), (7, 8, 9)
COLOURS: dict[str, tuple[bytes, list[tuple[int, ...]]]] = {
    "palette": (_palette(), [RED, BLUE, DARK]),
    "palette with a clear colour": (_palette(transparency=1), [RED, WHITE, DARK]),
    "palette with alpha": (
        _palette(transparency=bytes([255, 0, 128])), [RED, WHITE, (131, 131, 132)]),
    "gif with a clear colour": (
        saved(Image.open(io.BytesIO(_palette())), "GIF", transparency=1), [RED, WHITE, DARK]),
    "one bit": (saved(_row("1", 0, 255), "PNG"), [BLACK, WHITE]),
    "one bit tiff": (saved(_row("1", 0, 255), "TIFF", compression="group4"), [BLACK, WHITE]),
    "grey": (saved(_row("L", 7, 200), "PNG"), [(7,) * 3, (200,) * 3]),
    "grey with alpha": (saved(_row("LA", (0, 255), (0, 0)), "PNG"), [BLACK, WHITE]),
    "rgba": (saved(_row("RGBA", (*RED, 255), (*RED, 0)), "PNG"), [RED, WHITE]),
    "rgba webp": (saved(_row("RGBA", (*RED, 255), (*RED, 0)), "WEBP", lossless=True), [RED, WHITE]),
    "rgba tiff": (saved(_row("RGBA", (*RED, 255), (*RED, 0)), "TIFF"), [RED, WHITE]),
    "a clear rgb": (
        png((2, 1), bits=8, colour=2, rows=b"\x00" + bytes([*RED, *BLUE]),
            chunks=made.chunk(b"tRNS", struct.pack(">3H", *RED))), [WHITE, BLUE]),
    "cmyk tiff": (saved(_row("CMYK", (0, 255, 255, 0), (0, 0, 0, 255)), "TIFF"), [RED, BLACK]),
    "ycbcr tiff": (saved(_row("YCbCr", (255, 128, 128), (0, 128, 128)), "TIFF",
                         compression="raw"), [WHITE, BLACK]),
    "16-bit grey png": (
        png((3, 1), bits=16, colour=0, rows=b"\x00" + struct.pack(">3H", 0, 32768, 65535)),
        [BLACK, (128,) * 3, WHITE]),
    "a dark 16-bit grey png stays dark": (
        png((2, 1), bits=16, colour=0, rows=b"\x00" + struct.pack(">2H", 200, 0)),
        [(1,) * 3, BLACK]),
    "16-bit grey png with a clear value": (
        png((2, 1), bits=16, colour=0, rows=b"\x00" + struct.pack(">2H", 300, 32768),
            chunks=made.chunk(b"tRNS", struct.pack(">H", 300))), [WHITE, (128,) * 3]),
    "16-bit rgb png": (
        png((1, 1), bits=16, colour=2, rows=b"\x00" + struct.pack(">3H", 65535, 0, 32768)),
        [(255, 0, 128)]),
    "16-bit rgba png": (
        png((1, 1), bits=16, colour=6, rows=b"\x00" + struct.pack(">4H", 65535, 0, 0, 0)), [WHITE]),
    "16-bit tiff": (
        tiff_of_numbers(np.array([[0, 32768, 65535]], "<u2"), bits=16, sample_format=1),
        [BLACK, (128,) * 3, WHITE]),
    "12-bit tiff": (
        tiff_of_numbers(np.array([[0x00, 0x0F, 0xFF]], "u1"), bits=12, sample_format=1),
        [BLACK, WHITE]),
    "signed tiff: from its lowest to its highest": (
        tiff_of_numbers(np.array([[-1000, 0, 3000]], "<i2"), bits=16, sample_format=2),
        [BLACK, (64,) * 3, WHITE]),
    "32-bit tiff of bytes": (
        tiff_of_numbers(np.array([[0, 128, 255]], "<i4"), bits=32, sample_format=2),
        [BLACK, (128,) * 3, WHITE]),
    "32-bit tiff of large numbers": (
        tiff_of_numbers(np.array([[0, 1_000_000]], "<i4"), bits=32, sample_format=2),
        [BLACK, WHITE]),
    "float tiff of shares": (
        tiff_of_numbers(np.array([[0, 0.5, 1]], "<f4"), bits=32, sample_format=3),
        [BLACK, (128,) * 3, WHITE]),
    "float tiff of bytes": (
        tiff_of_numbers(np.array([[0, 128, 255]], "<f4"), bits=32, sample_format=3),
        [BLACK, (128,) * 3, WHITE]),
    "float tiff below zero": (
        tiff_of_numbers(np.array([[-1, 0, 1]], "<f4"), bits=32, sample_format=3),
        [BLACK, (128,) * 3, WHITE]),
    "float tiff with gaps": (
        tiff_of_numbers(np.array([[np.nan, 1, np.inf, 0.5]], "<f4"), bits=32, sample_format=3),
        [BLACK, WHITE, WHITE, (128,) * 3]),
    "float tiff of gaps only": (
        tiff_of_numbers(np.array([[np.nan, np.nan]], "<f4"), bits=32, sample_format=3),
        [BLACK, BLACK]),
    "netpbm, 16 bits": (b"P5\n2 1\n65535\n\x00\x00\xff\xff", [BLACK, WHITE]),
    "netpbm in letters": (b"P3\n2 1\n255\n255 0 0 0 0 255\n", [RED, BLUE]),
    "one pixel": (saved(_row("RGB", RED), "PNG"), [RED]),
}  # fmt: skip


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_right(name: str) -> None:
    data, expected = COLOURS[name]
    assert colours(data)[: len(expected)] == expected


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "PPM"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_single_pixels_and_lines(kind: str, size: tuple[int, int]) -> None:
    found = pixels(saved(Image.new("RGB", size, (200, 30, 60)), kind))
    assert found.shape == (size[1], size[0], 3)
    assert np.abs(found - (200, 30, 60)).max() <= 6


def test_cmyk_and_ycck_of_photoshop_are_stored_inverted_and_read_right() -> None:
    image = picture().convert("CMYK").resize((64, 48), Image.Resampling.NEAREST)
    cmyk = saved(image, "JPEG", quality=95, subsampling=0)
    transform = cmyk.index(b"Adobe") + 11
    assert cmyk[transform] == 0
    # YCCK: the inks' luma and chroma. Pillow does not write it, but inverts what it writes.
    *inks, black = image.split()
    luma = Image.merge("RGB", inks).convert("YCbCr").split()
    ycck = Image.merge("CMYK", [*(ImageChops.invert(band) for band in luma), black])
    stored = bytearray(saved(ycck, "JPEG", quality=95, subsampling=0))
    stored[transform] = 2
    for data in (cmyk, bytes(stored)):
        found = pixels(data)
        assert np.abs(found[4, 4] - RED).max() <= 8
        assert np.abs(found[40, 4] - BLUE).max() <= 8
        assert np.abs(found[40, 60] - (10, 20, 30)).max() <= 8


@pytest.mark.parametrize("profile", ["sRGB", b"no profile at all", b""])
def test_colour_profiles_are_not_applied(profile: str | bytes) -> None:
    if isinstance(profile, str):
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert colours(saved(_row("RGB", RED, DARK), "PNG", icc_profile=profile)) == [RED, DARK]


def test_lab_is_refused_with_a_word() -> None:
    change = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = ImageCms.applyTransform(picture(), change)
    assert lab is not None
    with pytest.raises(ImageError, match="save it as RGB"):
        pixels(saved(lab, "TIFF"))


# Several pictures in a file ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF", "MPO"])
def test_the_first_picture_counts(kind: str) -> None:
    first, second = Image.new("RGB", (32, 24), RED), Image.new("RGB", (32, 24), BLUE)
    data = saved(first, kind, save_all=True, append_images=[second, first])
    assert np.abs(pixels(data) - RED).max() <= 8


def test_a_phones_second_picture_does_not_hinder_decoding_small() -> None:
    wide = Image.new("RGB", (1600, 1200), RED)
    data = saved(wide, "MPO", save_all=True, append_images=[wide.resize((320, 240))])
    opened = open_image(data)
    assert opened.format == "MPO"
    assert as_rgb(opened, at_least_px=64).size == (200, 150)


@pytest.mark.parametrize("options", [{"progressive": True}, {"quality": 30}, {"optimize": True}])
def test_jpegs_of_all_makes(options: dict[str, object]) -> None:
    assert np.abs(pixels(saved(Image.new("RGB", (40, 40), RED), "JPEG", **options)) - RED).max() < 9


def test_avif_is_read_by_the_pillow_that_we_ask_for() -> None:
    assert features.check("avif")
    assert 'pillow>=11.3"' in (ROOT / "pyproject.toml").read_text()


def test_the_ending_of_the_name_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "photograph.jpg"
    path.write_bytes(saved(picture(), "WEBP", lossless=True))
    assert np.array_equal(np.asarray(as_rgb(open_image(path))), np.asarray(picture()))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000"])
def test_garbage_behind_the_picture_does_no_harm(kind: str) -> None:
    data = saved(noise(), kind)
    assert np.array_equal(pixels(data + b"<!-- garbage -->" * 20), pixels(data))


# No image ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "found", "advice"),
    [
        (b"", "an empty file", "upload it again"),
        (bytes(5000), "a file of zeros", "did not finish"),
        (b"<!DOCTYPE html><html>Log in</html>", "a web page", "login"),
        (b"\xef\xbb\xbf\n<HTML>", "a web page", "login"),
        (b'<?xml version="1.0"?><svg/>', "an SVG drawing", "PNG"),
        (b"<svg xmlns='x'></svg>", "an SVG drawing", "PNG"),
        (b"<Error><Code>AccessDenied</Code></Error>", "an XML document", "storage"),
        (b'{"detail": "not found"}', "a JSON document", "server"),
        (b"%PDF-1.7", "a PDF document", "each page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "a PostScript file", "PNG"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "a HEIC photograph", "JPEG"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heic", "a HEIC photograph", "JPEG"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL image", "PNG"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00", "a video", "frames"),
        (b"II*\x00\x10\x00\x00\x00CR\x02\x00", "a camera's raw file", "JPEG"),
        (saved(noise(), "ICO"), "an icon", "save it as PNG"),
        (saved(noise(), "ICO").replace(b"\0\0\1\0", b"\0\0\2\0", 1), "a mouse cursor", "PNG"),
        (b"icns\x00\x00\x10\x00", "an icon", "save it as PNG"),
        (b"8BPS\x00\x01", "a Photoshop file", "PNG"),
        (b"PK\x03\x04", "a ZIP archive", "unpack"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
        (b"\x93NUMPY\x01\x00", "a NumPy array", "PNG"),
        (bytes(128) + b"DICM", "a DICOM file", "PNG"),
        ("wörter und nochmal wörter".encode(), "a text file", "JPEG"),
        (b"\xde\xad\xbe\xef" * 10, "a file of an unknown kind", "JPEG"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(data: bytes, found: str, advice: str) -> None:
    with pytest.raises(ImageError, match=re.escape(found)) as caught:
        open_image(data)
    assert advice in str(caught.value)
    assert not isinstance(caught.value, DamagedImage)
    assert kind_of(data).name == found or found in kind_of(data).name


# Cut off ----------------------------------------------------------------------------------------

WHOLE: dict[str, bytes] = {
    "png": saved(noise(), "PNG"),
    "apng": saved(noise(), "PNG", save_all=True, append_images=[noise().rotate(180)]),
    "jpeg": saved(noise(), "JPEG"),
    "progressive jpeg": saved(noise(), "JPEG", progressive=True),
    "cmyk jpeg": saved(noise().convert("CMYK"), "JPEG"),
    "mpo": saved(noise(), "MPO", save_all=True, append_images=[noise()]),
    "webp": saved(noise(), "WEBP"),
    "lossless webp": saved(noise(), "WEBP", lossless=True),
    "gif": saved(noise(), "GIF"),
    "bmp": saved(noise(), "BMP"),
    "tiff": saved(noise(), "TIFF"),
    "lzw tiff": saved(noise(), "TIFF", compression="tiff_lzw"),
    "jpeg tiff": saved(noise(), "TIFF", compression="jpeg"),
    "avif": saved(noise(), "AVIF"),
    "jpeg 2000": saved(noise(), "JPEG2000"),
    "netpbm": saved(noise(), "PPM"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_cut_off_file_is_told_or_shows_all_that_there_is(name: str) -> None:
    data = WHOLE[name]
    whole = pixels(data)
    told: list[str] = []
    for cut in sorted({*range(0, 400, 9), *(len(data) * part // 30 for part in range(30))}):
        try:
            found = pixels(data[:cut])
        except ImageError as error:
            told.append(str(error))
        else:
            assert np.array_equal(found, whole), f"after {cut} of {len(data)} bytes"
    assert len(told) > 30
    assert max(map(len, told)) < 250


# Too large --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", made.too_large())
def test_more_pixels_than_are_taken_are_refused_by_the_header(name: str) -> None:
    with pytest.raises(ImageError, match="at most 100,000,000") as caught:
        open_image(made.too_large()[name])
    assert not isinstance(caught.value, DamagedImage)


def test_tiles_larger_than_the_picture_are_refused() -> None:
    assert pixels(made.tiff_in_tiles(16)).shape == (16, 16, 3)
    with pytest.raises(DamagedImage, match="tiles of 30000 x 30000"):
        open_image(made.tiff_in_tiles(30_000))


def test_an_avif_is_judged_by_what_is_coded_not_by_what_it_says() -> None:
    with pytest.raises(ImageError, match="2000 x 1500 pixels, at most 1,000,000"):
        open_image(made.lying_avif((2000, 1500)), max_pixels=1_000_000)
    with pytest.raises(DamagedImage, match="says 16 x 16 pixels and holds 5,000,000"):
        open_image(made.lying_avif((2500, 2000)))
    clear = noise()
    clear.putalpha(128)
    assert coded_sizes(saved(clear, "AVIF")) == [(56, 40), (56, 40)]  # the second is alpha
    assert set(coded_sizes(saved(noise(), "AVIF", save_all=True, append_images=[noise()]))) == {
        (56, 40)
    }


def test_avif_parts_that_have_no_end_are_refused() -> None:
    whole = saved(noise(), "AVIF")
    extents = struct.pack(">BxxxHHHHH", 0, 0, 60_000, 1, 0, 60_000)
    for data, said in (
        (whole + b"iloc" + extents + b"\x00\x01\x00\x00\xff\xff" * 60_000, "more parts"),
        (whole + b"\x00\x10\x00\x00stbl" * 60_000, "more parts"),
        (whole.replace(b"iloc", b"ilok"), "no AV1 picture"),
    ):
        with pytest.raises(Unreadable, match=said):
            coded_sizes(data)
    with pytest.raises(DamagedImage, match="it has more parts than any picture"):
        open_image(whole + b"\x00\x10\x00\x00stbl" * 60_000)


_MEASURE = """
import io, resource, sys
from models.backbones.images import as_rgb, open_image
from models.errors import ImageError
from tests.unit.models.image_files import hungry, saved, too_large
from PIL import Image
as_rgb(open_image(saved(Image.new("RGB", (64, 64)), "WEBP")))
files = {**too_large(), **hungry()}
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))
open("/proc/self/clear_refs", "w").write("5")
before = peak()
for name, data in files.items():
    try:
        as_rgb(open_image(data))
    except ImageError:
        pass
    if peak() - before > 40:
        print(name, peak() - before)
        break
print("read", len(files), peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_no_file_costs_memory_beyond_what_it_shows() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("read 17"), done.stdout  # MiB: the first that took more is named
