"""Folders that appear whole or not at all, and the digests that tell whether they still are."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary sibling, flush it to disk, then rename it to ``target``.

    Raises: FileExistsError: if ``target`` exists and is not empty.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        write(temporary)
        for path in sorted(temporary.rglob("*")):
            if path.is_file():
                _flush(path)
        _flush(temporary)
        temporary.rename(target)
        _flush(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old text or the new, never a part."""
    write_file(target, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_file(target: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a temporary sibling, flush it to disk, then rename it to ``target``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        write(temporary)
        _flush(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def folder_digest(folder: Path, *, leave_out: frozenset[str] = frozenset()) -> str:
    """sha256 over names and contents of all files of a folder, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in leave_out:
            digest.update(f"{name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
