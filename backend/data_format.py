"""Which format a data directory has: an older one is upgraded, a newer one refused.

``DATA_DIR/format.json`` holds a number. Whoever begins with the directory (web, worker, serve,
every command) asks for it first:

* no directory, or an empty one: it begins with today's number;
* an older number: upgraded step by step. Each step is idempotent and the number is written after
  it, so that a kill in between is finished by the next start;
* a newer number: refused, since what a later release wrote may be read wrongly here.

Directories of before 2026-11-22 hold no number: they count as format 1.

| format | what is different |
|---|---|
| 1 | no number |
| 2 | the number; nothing else was changed, all of format 1 is read as it is |

*Add a format*: a function in ``STEPS`` under the number that it begins from (which may be run again
after a kill at any moment, with another process waiting for it), ``FORMAT`` one higher, a line in
this table, and a directory as the version before left it (tests/upgrade).
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from backend.errors import DataFormatRefused
from backend.files import make_data_dir, write_atomically

logger = logging.getLogger(__name__)

#: What this version reads and writes.
FORMAT = 2
_UNNUMBERED = 1
_NAME, _LOCK = "format.json", "format.lock"

Step = Callable[[Path], None]


def _number_it(data_dir: Path) -> None:
    """From 1 to 2: the number is all that is new."""


#: What brings a directory from one format to the next, by the number that it begins from.
STEPS: Mapping[int, Step] = {_UNNUMBERED: _number_it}


class DataFormat(BaseModel):
    """What ``format.json`` holds.

    Attributes:
        format: the number.
        written_by: release that wrote it last.
    """

    format: int = Field(ge=1)
    written_by: str = ""


def open_data(
    data_dir: Path, *, create: bool = False, to: int = FORMAT, steps: Mapping[int, Step] = STEPS
) -> int:
    """Make sure that this version may work with a data directory.

    Args:
        data_dir: it.
        create: make it where it is not there; a command that only looks makes none.
        to: the format wanted.
        steps: what leads there.

    Returns: the format that it had before.

    Raises:
        DataFormatRefused: it is newer, or its number cannot be read.
        OSError: it cannot be upgraded, since it cannot be written.
    """
    if create:
        make_data_dir(data_dir)
    if not data_dir.is_dir():
        return to
    found = _allowed(data_dir, to)
    if found == to:
        return found
    with (data_dir / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # web and worker start together: one of them upgrades
        found = before = _allowed(data_dir, to)
        while found < to:
            steps[found](data_dir)
            found += 1
            _write(data_dir, found)
            # Louder than it deserves: commands have not set their logging up yet.
            logger.warning("%s: upgraded from format %d to %d", data_dir, found - 1, found)
    return before


def _allowed(data_dir: Path, to: int) -> int:
    """The format that a directory has, if it is not newer."""
    path = data_dir / _NAME
    try:
        known = DataFormat.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        if any(entry.name != _LOCK for entry in data_dir.iterdir()):
            return _UNNUMBERED
        _write(data_dir, to)
        return to
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataFormatRefused(
            f'{path} cannot be read, expected {{"format": {to}}}; put back the file of a backup, '
            "or the number of the version that wrote this directory last"
        ) from error
    if known.format > to:
        raise DataFormatRefused(
            f"the data directory {data_dir} has format {known.format}, written by rarefirst "
            f"{known.written_by or 'of a later version'}; this is rarefirst {_release()}, which "
            f"reads formats up to {to}. Start that version or a later one, or put back a backup "
            "from before the upgrade; nothing was changed"
        )
    return known.format


def _write(data_dir: Path, number: int) -> None:
    text = DataFormat(format=number, written_by=_release()).model_dump_json()
    write_atomically(data_dir / _NAME, text)


def _release() -> str:
    try:
        return importlib.metadata.version("rarefirst")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
