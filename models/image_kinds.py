"""What a file is, told from its first bytes: a kind of image that is read, or something else.

Names and content types lie: a login page comes as ``image/png`` with status 200, a WebP is called
``photo.jpg``. Only what is listed here is ever given to a decoder, and to that one decoder: some
that Pillow also has run programs (EPS) or are hardly tested against hostile files.
"""

from __future__ import annotations

from dataclasses import dataclass

READABLE = "JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP, JPEG 2000 or Netpbm"
#: Endings of such files, by which images are looked for in folders; what counts is the content.
SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".webp", ".avif", ".gif", ".tif", ".tiff"),
        *(".bmp", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm"),
    }
)


@dataclass(frozen=True)
class Kind:
    """What a file is.

    Attributes:
        name: for people, with its article.
        format: Pillow's name of the decoder; empty where it is not read.
        advice: what to do about one that is not read, or empty.
        may_pass: it comes in place of an image for a while: an error message, a login page.
    """

    name: str
    format: str = ""
    advice: str = ""
    may_pass: bool = False

    @property
    def refusal(self) -> str:
        """One sentence on a file that is not read."""
        said = f"found {self.name}, expected an image ({READABLE})"
        return f"{said}; {self.advice}" if self.advice else said


_AS_JPEG = "save it as JPEG or PNG"
_AS_PNG = "save it as PNG"
_LOGIN = "does the address need a login, or is it a page about the image?"
_EMPTY = Kind("an empty file", advice="upload it again", may_pass=True)

# In the order in which they are looked for.
_BEGINNINGS: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\xd8\xff", Kind("a JPEG image", "JPEG")),
    (b"\x89PNG\r\n\x1a\n", Kind("a PNG image", "PNG")),
    (b"GIF87a", Kind("a GIF image", "GIF")),
    (b"GIF89a", Kind("a GIF image", "GIF")),
    (b"BM", Kind("a BMP image", "BMP")),
    (b"II*\x00\x10\x00\x00\x00CR", Kind("a camera's raw file (CR2)", advice=_AS_JPEG)),
    (b"II*\x00", Kind("a TIFF image", "TIFF")),
    (b"MM\x00*", Kind("a TIFF image", "TIFF")),
    (b"II+\x00", Kind("a TIFF image", "TIFF")),
    (b"MM\x00+", Kind("a TIFF image", "TIFF")),
    (b"\x00\x00\x00\x0cjP  ", Kind("a JPEG 2000 image", "JPEG2000")),
    (b"\xff\x4f\xff\x51", Kind("a JPEG 2000 image", "JPEG2000")),
    (b"\x00\x00\x01\x00", Kind("an icon", advice=_AS_PNG)),
    (b"\x00\x00\x02\x00", Kind("a mouse cursor", advice=_AS_PNG)),
    (b"icns", Kind("an icon", advice=_AS_PNG)),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", Kind("a JPEG XL image", advice=_AS_JPEG)),
    (b"\xff\x0a", Kind("a JPEG XL image", advice=_AS_JPEG)),
    (b"8BPS", Kind("a Photoshop file", advice=_AS_JPEG)),
    (b"%PDF", Kind("a PDF document", advice="make an image of each page")),
    (b"%!PS", Kind("a PostScript file", advice=_AS_JPEG)),
    (b"PK\x03\x04", Kind("a ZIP archive", advice="unpack it")),
    (b"\x1f\x8b", Kind("a gzip archive", advice="unpack it")),
    (b"\x1a\x45\xdf\xa3", Kind("a video (Matroska or WebM)", advice="make images of its frames")),
    (b"\x93NUMPY", Kind("a NumPy array", advice="save it as PNG or TIFF")),
    (b"\x89HDF\r\n", Kind("an HDF5 file", advice="save its images as PNG or TIFF")),
    (
        b"version https://git-lfs",
        Kind(
            "a Git LFS pointer",
            advice="fetch the file it stands for (`git lfs pull`)",
            may_pass=True,
        ),
    ),
)
_BRANDS: dict[bytes, Kind] = {
    **dict.fromkeys((b"avif", b"avis"), Kind("an AVIF image", "AVIF")),
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
        Kind("a HEIC photograph", advice=_AS_JPEG),
    ),
    b"crx ": Kind("a camera's raw file (CR3)", advice=_AS_JPEG),
}
_VIDEO = Kind("a video", advice="make images of its frames")
_RIFF: dict[bytes, Kind] = {b"WEBP": Kind("a WebP image", "WEBP"), b"AVI ": _VIDEO}
_PAGE = Kind("a web page", advice=_LOGIN, may_pass=True)
_TEXTS: tuple[tuple[bytes, Kind], ...] = (
    *((tag, _PAGE) for tag in (b"<!doctype html", b"<html", b"<head", b"<body")),
    (b"<svg", Kind("an SVG drawing", advice="save it as PNG")),
)


def kind_of(data: bytes) -> Kind:
    """What the bytes of a whole file are."""
    if not data:
        return _EMPTY
    for beginning, kind in _BEGINNINGS:
        if data.startswith(beginning):
            return kind
    if data[:4] == b"RIFF" and data[8:12] in _RIFF:
        return _RIFF[data[8:12]]
    if data[4:8] == b"ftyp" and len(data) >= 12:
        return _boxed(data)
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace():
        return Kind("a Netpbm image", "PPM")
    if data[128:132] == b"DICM":
        return Kind("a DICOM file", advice="save its image as PNG or TIFF")
    return _text(data[:1024])


def _boxed(data: bytes) -> Kind:
    """Files made of boxes name their brands: photographs of several kinds, and videos."""
    size = min(int.from_bytes(data[:4], "big"), 256)
    major = data[8:12]
    others = [data[at : at + 4] for at in range(16, size - 3, 4)]
    if major in (b"mif1", b"msf1"):  # any still picture: what it may be read as stands behind
        major = next((brand for brand in others if brand in (b"avif", b"avis")), major)
    return _BRANDS.get(major, _VIDEO)


def _text(head: bytes) -> Kind:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start.strip(b"\x00"):
        return Kind(
            "a file of zeros", advice="its upload or download did not finish", may_pass=True
        )
    for beginning, kind in _TEXTS:
        if start.startswith(beginning):
            return kind
    if start.startswith(b"<"):
        if b"<svg" in start:
            return Kind("an SVG drawing", advice="save it as PNG")
        return Kind(
            "an XML document", advice="is it an error message of the storage?", may_pass=True
        )
    if start.startswith((b"{", b"[")):
        return Kind(
            "a JSON document", advice="is it an error message of the server?", may_pass=True
        )
    try:
        words = head[: head.rfind(b" ") + 1 or None].decode()
    except UnicodeDecodeError:
        return Kind("a file of an unknown kind")
    printable = all(letter.isprintable() or letter.isspace() for letter in words)
    return Kind("a text file", may_pass=True) if printable else Kind("a file of an unknown kind")
