"""Images whose label is known: a folder of class folders, or a zip file of such.

An image's class is the name of the folder that it lies in, however deep; so `train/cat/1.jpg` is a
cat. What an exported Label Studio project holds is read in `backend/labelstudio/export.py`.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from backend.errors import BackendError, MediaError
from models.image_kinds import SUFFIXES

NO_CLASS = "in no class folder"
NO_IMAGE = "not an image by its ending"


@dataclass(frozen=True)
class LabeledImage:
    """One image with its true class.

    Attributes:
        name: where it is, for people.
        label: its class.
        key: what its features are kept under: changes when the file does.
        load: its bytes; raises MediaError. May be called from several threads.
    """

    name: str
    label: str
    key: str
    load: Callable[[], bytes]


@dataclass(frozen=True)
class LabeledImages:
    """A data set.

    Attributes:
        kind: folder, zip or export.
        images: in an order that does not depend on the file system.
        left_out: what was there and is not used: reason -> how many.
    """

    kind: str
    images: tuple[LabeledImage, ...]
    left_out: Counter[str] = field(default_factory=Counter)


def read_folder(folder: Path, *, max_bytes: int) -> LabeledImages:
    """The images below a folder.

    Args:
        folder: holds a folder for each class.
        max_bytes: larger files are refused when they are loaded.
    """
    images, left_out = [], Counter[str]()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in inside.parts):
            continue
        label, reason = _class_of(inside.as_posix())
        if reason:
            left_out[reason] += 1
            continue
        images.append(file_image(path, inside.as_posix(), label, max_bytes=max_bytes))
    return LabeledImages("folder", tuple(images), left_out)


@contextmanager
def read_zip(archive: Path, *, max_bytes: int) -> Iterator[LabeledImages]:
    """The images in a zip file, read from it while the context is open; nothing is unpacked.

    Raises: BackendError: if it cannot be read.
    """
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise BackendError(
            f"{archive} cannot be read as a zip file ({error}); make it anew"
        ) from error
    with opened:
        images, left_out = [], Counter[str]()
        for info in sorted(opened.infolist(), key=lambda one: one.filename):
            parts = PurePosixPath(info.filename).parts
            # macOS packs a shadow of every file beside it.
            if info.is_dir() or any(part.startswith((".", "__MACOSX")) for part in parts):
                continue
            label, reason = _class_of(info.filename)
            if reason:
                left_out[reason] += 1
                continue
            images.append(
                LabeledImage(
                    name=info.filename,
                    label=label,
                    key=key_of(info.filename, info.CRC, info.file_size),
                    load=_member(opened, info, max_bytes),
                )
            )
        yield LabeledImages("zip", tuple(images), left_out)


def file_image(path: Path, name: str, label: str, *, max_bytes: int) -> LabeledImage:
    """An image in a file of its own."""
    try:
        about = path.stat()
        key = key_of(path.resolve(), about.st_size, about.st_mtime_ns)
    except OSError:
        key = key_of(path)

    def load() -> bytes:
        try:
            _check_size(path.stat().st_size, max_bytes)
            return path.read_bytes()
        except OSError as error:
            raise MediaError(error.strerror or str(error)) from error

    return LabeledImage(name=readable(name), label=readable(label), key=key, load=load)


def readable(name: str | Path) -> str:
    """A name that can be written down; of bytes that are no text, and of half pairs, their code."""
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold
        raw = str(name).encode(errors="backslashreplace")
    return raw.decode(errors="backslashreplace")


def key_of(*parts: object) -> str:
    """32 hexadecimal digits for what an image is."""
    text = "\0".join(map(str, parts)).encode(errors="surrogatepass")
    return hashlib.sha256(text).hexdigest()[:32]


def _class_of(name: str) -> tuple[str, str]:
    """The class of a file, or why it has none."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in SUFFIXES:
        return "", NO_IMAGE
    return (path.parent.name, "") if path.parent.name else ("", NO_CLASS)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_bytes: int) -> Callable[[], bytes]:
    def load() -> bytes:
        _check_size(info.file_size, max_bytes)
        try:
            with archive.open(info) as file:
                # What the directory says of its size need not be true.
                data = file.read(max_bytes + 1)
        # A member may be damaged, encrypted, or packed in a way that this Python cannot read; the
        # unpackers raise errors of their own: zlib.error, LZMAError.
        except Exception as error:
            raise MediaError(f"the zip file's member cannot be read ({error})") from error
        _check_size(len(data), max_bytes)
        return data

    return load


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise MediaError(
            f"the file is larger than {max_bytes >> 20} MiB; raise RAREFIRST_MAX_IMAGE_MB"
        )
