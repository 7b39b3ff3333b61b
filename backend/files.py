"""Writing small files so that a kill at any moment leaves the old text or the new."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from models.files import write_text as write_atomically

__all__ = ["append_line", "disk_trouble", "make_data_dir", "thin_lines", "write_atomically"]

_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
# What Rust's and SQLite's libraries say of both, in errors of no kind of their own.
_WORDS = (
    "no space left", "storagefull", "disk quota exceeded", "database or disk is full",
    "read-only file system", "readonly database",
)  # fmt: skip


def make_data_dir(path: Path) -> None:
    """Make the data directory, for its owner only: labels, pictures and names lie in it.

    One that is there stays as it is: whoever made it may have meant to share it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def disk_trouble(error: BaseException) -> str:
    """What to tell of an error that says that files cannot be written now; empty of another."""
    number = error.errno if isinstance(error, OSError) else None
    said = str(error)
    if number not in _NUMBERS and not any(words in said.lower() for words in _WORDS):
        return ""
    where = error.filename if isinstance(error, OSError) and error.filename else "files"
    why = os.strerror(number) if number else said.splitlines()[0][:200]
    return f"{where} cannot be written ({why}); it goes on by itself when they can"


def append_line(path: Path, line: str) -> None:
    """Add a line durably; half a line that a killed process left behind is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def thin_lines(path: Path, *, most_bytes: int) -> None:
    """Halve the older half of a file of lines that has grown too large, its first line kept.

    Done again and again, what is old becomes sparse and what is new stays whole.
    """
    try:
        if path.stat().st_size <= most_bytes:
            return
    except FileNotFoundError:
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    old = len(lines) // 2
    write_atomically(path, "\n".join([*lines[:old:2], *lines[old:]]) + "\n")
