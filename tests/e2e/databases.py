"""What Label Studio keeps its data in: SQLite, or PostgreSQL with RAREFIRST_TEST_DATABASE=postgres.

Both can be looked into and changed behind Label Studio's back, kept, and put back later.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from demo.label_studio_process import DATABASE, migrate, prepare
from tests.postgres import Postgres, private_postgres

VARIABLE = "RAREFIRST_TEST_DATABASE"
_MIGRATED = "migrated"


class Database(Protocol):
    """One Label Studio's database."""

    @property
    def environment(self) -> dict[str, str]:
        """What Label Studio has to be told."""
        ...

    def prepare(self) -> None:
        """Make it fresh and migrated."""
        ...

    def execute(self, statement: str, *values: object) -> list[str]:
        """Run a statement, each ``?`` one of the values. Returns: lines, columns by ``|``."""
        ...

    def keep(self, name: str) -> None:
        """Keep it as it is now; Label Studio is stopped meanwhile."""
        ...

    def put(self, name: str | None) -> None:
        """Put one in its place that was kept; None: a fresh one. Label Studio is stopped."""
        ...


class SqliteDatabase:
    """The file in Label Studio's data folder."""

    environment: dict[str, str] = {}  # noqa: RUF012  (never written; the protocol's type)

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / DATABASE

    def prepare(self) -> None:
        prepare(self._path.parent, progress=lambda _: None)

    def execute(self, statement: str, *values: object) -> list[str]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=30)) as database, database:
            rows = database.execute(statement, values).fetchall()
        return ["|".join("" if cell is None else str(cell) for cell in row) for row in rows]

    def keep(self, name: str) -> None:
        self.execute("pragma wal_checkpoint(truncate)")
        shutil.copyfile(self._path, self._kept(name))

    def put(self, name: str | None) -> None:
        for file in self._path.parent.glob(f"{DATABASE}*"):
            file.unlink()
        if name is None:
            self.prepare()
        else:
            shutil.copyfile(self._kept(name), self._path)

    def _kept(self, name: str) -> Path:
        # In there nobody looks for secrets that were let out: Label Studio's tokens are in it.
        folder = self._path.parent / "secrets"
        folder.mkdir(exist_ok=True)
        return folder / name


class PostgresDatabase:
    """A database of a server's, copied from one that was migrated."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._name = f"ls_{uuid.uuid4().hex[:12]}"

    @property
    def environment(self) -> dict[str, str]:
        return self._server.label_studio_environment(self._name)

    def prepare(self) -> None:
        self._server.copy(_MIGRATED, self._name)

    def execute(self, statement: str, *values: object) -> list[str]:
        return self._server.execute(self._name, statement, *values)

    def keep(self, name: str) -> None:
        self._server.copy(self._name, self._kept(name))

    def put(self, name: str | None) -> None:
        self._server.copy(_MIGRATED if name is None else self._kept(name), self._name)

    def _kept(self, name: str) -> str:
        return f"{self._name}_{name}"


@contextlib.contextmanager
def migrated_postgres(scratch: Path) -> Iterator[Postgres]:
    """A server with one database on which Label Studio's migrations ran."""
    with private_postgres() as server:
        server.execute("postgres", f"create database {_MIGRATED}")
        migrate(scratch, server.label_studio_environment(_MIGRATED))
        yield server


def on_postgres() -> bool:
    """Whether the tests are to run on PostgreSQL.

    Raises: ValueError: another database is asked for.
    """
    wanted = os.environ.get(VARIABLE, "sqlite")
    if wanted not in ("sqlite", "postgres"):
        raise ValueError(f"found {VARIABLE}={wanted}, expected sqlite or postgres")
    return wanted == "postgres"
