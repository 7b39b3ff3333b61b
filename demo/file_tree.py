"""The files of a folder or of a zip, by name; nothing is unpacked and nothing is read whole twice.

A member of a zip is read by the name that the zip lists and never becomes a path on disk, so a name
such as ``../../etc/passwd`` is only a name. What a member unpacks to is limited while it is read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
MOST_FILES: Final = 200_000

Read = Callable[[str, int], bytes]


class BoxDataError(ValueError):
    """Pictures with boxes were asked for, and what was found are none."""


@dataclass(frozen=True)
class FileTree:
    """Files by name.

    Attributes:
        where: the folder or zip.
        names: of all files, ``/`` between their parts, sorted; hidden ones are left out.
    """

    where: Path
    names: tuple[str, ...]
    _read: Read

    def read(self, name: str, *, at_most: int) -> bytes:
        """The content of one file.

        Args:
            name: one of ``names``.
            at_most: bytes, 1 or more.

        Raises:
            BoxDataError: it is larger, or cannot be read; the message names it.
        """
        try:
            content = self._read(name, at_most + 1)
        except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile, EOFError) as error:
            # zipfile raises RuntimeError for a member with a password.
            raise BoxDataError(f"{name} in {self.where} cannot be read: {error}") from error
        except Exception as error:
            # A damaged member makes the unpacker raise its own: zlib.error, lzma.LZMAError.
            raise BoxDataError(f"{name} in {self.where} is damaged: {error}") from error
        if len(content) > at_most:
            raise BoxDataError(
                f"{name} in {self.where} is larger than {at_most // MIB} MiB, the most that is read"
            )
        return content


def open_tree(path: Path) -> FileTree:
    """The files of a folder or zip.

    Raises:
        BoxDataError: it is neither, or holds too many files.
    """
    if path.is_dir():
        names, read = _folder(path)
    elif zipfile.is_zipfile(path):
        names, read = _zip(path)
    elif path.exists():
        raise BoxDataError(f"found the file {path}; expected a folder or a zip of pictures")
    else:
        raise BoxDataError(f"there is no {path}; expected a folder or a zip of pictures with boxes")
    if len(names) > MOST_FILES:
        raise BoxDataError(f"{path} holds {len(names):,} files, at most {MOST_FILES:,} are read")
    return FileTree(path, tuple(sorted(name for name in names if not _hidden(name))), read)


def _folder(path: Path) -> tuple[list[str], Read]:
    def read(name: str, size: int) -> bytes:
        with (path / name).open("rb") as file:
            return file.read(size)

    names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    return names, read


def _zip(path: Path) -> tuple[list[str], Read]:
    try:
        # Kept open: the list of a large zip takes a while to read. Closed with the last reader.
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise BoxDataError(f"{path} is not a whole zip: {error}") from error

    def read(name: str, size: int) -> bytes:
        with archive.open(name) as member:
            return member.read(size)

    return [info.filename for info in archive.infolist() if not info.is_dir()], read


def _hidden(name: str) -> bool:
    return any(part.startswith(".") and part != ".." for part in name.split("/")) or (
        "__MACOSX" in name.split("/")
    )
