"""What the commands share: options, the settings, and errors as sentences."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer
from pydantic import BaseModel, ValidationError

from backend import cli_tables
from backend.data_format import open_data
from backend.errors import BackendError, DataFormatRefused
from backend.settings import Settings
from models.errors import ModelError

#: Errors of a disk that a person can mend.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

#: Exit code where the data directory was written by a later version.
NEWER_DATA = 3

Project = Annotated[int, typer.Option("--project", "-p", help="Label Studio's project id.")]
AnyProject = Annotated[
    int | None, typer.Option("--project", "-p", help="Only this project; all by default.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def read_settings() -> Settings:
    """The settings of the environment; what is wrong with them is said variable by variable.

    The data directory that they name is one that this version may work with: an older one was
    upgraded, a newer one ends the command with exit code 3.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        fail(f"the environment's settings are wrong: {wrong}", code=2)
    try:
        open_data(settings.data_dir)
    except DataFormatRefused as error:
        fail(str(error), code=NEWER_DATA)
    except OSError as error:
        fail(
            f"the data directory {settings.data_dir} is of an older version and cannot be "
            f"upgraded: {error.strerror}; make it writable, or name another one with "
            "RAREFIRST_DATA_DIR"
        )
    return settings


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn errors that a person can mend into one sentence on standard error, exit code 1."""
    try:
        yield
    except (BackendError, ModelError) as error:
        fail(str(error))
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        where = error.filename or "the disk"
        fail(f"{where} cannot be written ({error.strerror}); make room, then say it again")


def fail(message: str, *, code: int = 1) -> NoReturn:
    """Say what is wrong on standard error, and end."""
    cli_tables.err().print(f"rarefirst: {message}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def print_json(value: BaseModel) -> None:
    """Print for machines."""
    # Not through rich, which would wrap lines.
    typer.echo(value.model_dump_json(indent=2))
