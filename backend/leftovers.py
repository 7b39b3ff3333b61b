"""What killed processes leave behind: files and folders under temporary names.

Everything that must appear whole is written under a temporary name first (models/files.py), so
a kill leaves one that nobody will ever rename. Nobody writes for minutes: what is old is swept.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

#: A temporary name this old is nobody's. Renames come milliseconds after the last byte, of a
#: stored version seconds.
ABANDONED_S = 120.0

# .name.<pid>.<monotonic ns> or .name.<pid>.<hex>, .v0003.<random>, .v0003.deleted-<ns>, and what
# LanceDB calls a file that it has not finished
_NAME = re.compile(
    r"\.(.+\.[0-9]+\.[0-9a-f]+|v[0-9]{4,9}\.[a-z0-9_]{8}|v[0-9]{4,9}\.deleted-[0-9]+|tmp[A-Za-z0-9]{6})"
)
# Where such names are made; the image cache clears its own.
_PLACES = (
    "", "projects/*", "projects/*/hints", "projects/*/versions", "projects/*/runs/*",
    "projects/*/mirror/*/data", "projects/*/backbones/*", "projects/*/finetunes",
    "projects/*/finetunes/*",
)  # fmt: skip


def sweep(data_dir: Path) -> int:
    """Delete what was abandoned below a data directory. Returns: how many there were."""
    count = 0
    for path in _abandoned(data_dir):
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            count += 1
    if count:
        logger.info("%s: %s leftovers of killed processes were deleted", data_dir, count)
    return count


def _abandoned(data_dir: Path) -> Iterator[Path]:
    now = time.time()
    for place in _PLACES:
        for folder in data_dir.glob(place) if place else [data_dir]:
            for path in _named(folder):
                with contextlib.suppress(OSError):  # renamed meanwhile, as it should be
                    # Either way: one from the future was made before the clock jumped back.
                    if abs(now - path.lstat().st_mtime) >= ABANDONED_S:
                        yield path


def _named(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except OSError:
        return []
