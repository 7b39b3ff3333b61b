"""A small disk of our own, which can be full or read-only: a tmpfs at the data directory."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

_FILLER = "filler"
_BLOCK = b"\0" * 65536


class Disk:
    """A tmpfs mounted at ``folder``.

    Args:
        folder: an empty folder.
        size_mb: how much it holds.
    """

    def __init__(self, folder: Path, *, size_mb: int = 256) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder))
        self._read_only = False

    def fill(self) -> None:
        """Leave not one byte."""
        with (self.folder / _FILLER).open("ab", buffering=0) as file:
            block = _BLOCK
            while block:
                try:
                    file.write(block)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    block = block[: len(block) // 2]

    def free(self) -> None:
        """Give the room back."""
        (self.folder / _FILLER).unlink(missing_ok=True)

    def protect(self) -> None:
        """Whoever opens a file from now on may only read, as after an error of the disk.

        A second mount of the same disk is put over the first: a mount with files open for writing
        cannot be made read-only.
        """
        _mount("--bind", str(self.folder), str(self.folder))
        self._read_only = True
        _mount("-o", "remount,bind,ro", str(self.folder))

    def release(self) -> None:
        """Files may be written again."""
        if self._read_only:
            self._read_only = False
            _unmount(self.folder)

    def close(self) -> None:
        """Unmount it."""
        self.release()
        _unmount(self.folder)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(
            f"mount {' '.join(arguments)}: {done.stderr.strip()}. The fault suite needs to mount a "
            f"tmpfs and runs as user {os.getuid()}: run it as root, or as\n"
            "  unshare --user --map-root-user --mount .venv/bin/python -m pytest tests/faults",
            pytrace=False,
        )


def _unmount(folder: Path) -> None:
    # Lazily: what a process still holds open goes when the process does.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
