"""A PostgreSQL server of the tests' own: a cluster in a temporary folder, on a port of its own."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.ports import free_port
from demo.service import Service, ServiceError

OWNER = "labelstudio"
_SYSTEM_USER = "postgres"


@dataclass(frozen=True)
class Postgres:
    """A running server.

    Attributes:
        host, port: where it listens, on this machine only.
        password: of its superuser ``labelstudio``.
        programs: folder of psql and the others.
    """

    host: str
    port: int
    password: str
    programs: Path

    def label_studio_environment(self, database: str) -> dict[str, str]:
        """What tells Label Studio to use one of its databases."""
        return {
            "DJANGO_DB": "default",
            "POSTGRE_HOST": self.host,
            "POSTGRE_PORT": str(self.port),
            "POSTGRE_NAME": database,
            "POSTGRE_USER": OWNER,
            "POSTGRE_PASSWORD": self.password,
        }

    def execute(self, database: str, statement: str, *values: object) -> list[str]:
        """Run one statement, each ``?`` of it one of the values.

        Returns: lines of what came of it, columns separated by ``|``.

        Raises: ServiceError: with the server's own words.
        """
        numbers = iter(range(len(values)))
        script = re.sub(r"\?", lambda _: f":'v{next(numbers)}'", statement)
        variables = [f"--set=v{number}={value}" for number, value in enumerate(values)]
        done = subprocess.run(
            [str(self.programs / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
             "--set=ON_ERROR_STOP=1", *variables, f"--host={self.host}", f"--port={self.port}",
             f"--username={OWNER}", database],
            input=script,
            env={**os.environ, "PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise ServiceError(f"PostgreSQL refused {statement!r}: {done.stderr.strip()}")
        return done.stdout.splitlines()

    def copy(self, source: str, target: str) -> None:
        """Make a database as another one is now; nobody may be connected to that."""
        self.drop(target)
        self.execute("postgres", f'create database "{target}" template "{source}"')

    def drop(self, database: str) -> None:
        """Drop a database, if it is there."""
        self.execute("postgres", f'drop database if exists "{database}" with (force)')


@contextmanager
def private_postgres(
    *, host: str = "127.0.0.1", port: int = 0, password: str = ""
) -> Iterator[Postgres]:
    """Start a server on an empty cluster; both are gone afterwards.

    Args:
        host: address of this machine that it listens on.
        port: and the port; 0: one that is free.
        password: of its superuser; empty: one made up.

    Raises: ServiceError: no PostgreSQL is installed, or it did not start.
    """
    programs = find_programs()
    # Not pytest's folders: those are closed to the user that the server needs to run as.
    folder = Path(tempfile.mkdtemp(prefix="rarefirst-postgres-"))
    # As root PostgreSQL refuses to run.
    owner = pwd.getpwnam(_SYSTEM_USER) if os.geteuid() == 0 else None
    become: list[str] = []
    if owner is not None:
        shutil.chown(folder, owner.pw_uid, owner.pw_gid)
        become = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    server = Postgres(host, port or free_port(), password or secrets.token_hex(12), programs)
    try:
        _make_cluster(folder, become, server)
        service = Service(
            "PostgreSQL",
            # What a crash of the machine would lose is of no interest here.
            [*become, str(programs / "postgres"), "-D", str(folder / "cluster"), "-p",
             str(server.port), "-c", f"listen_addresses={server.host}", "-k", str(folder),
             "-c", "fsync=off", "-c", "full_page_writes=off"],
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            log_path=folder / "postgres.log",
        )  # fmt: skip
        service.start()
        try:
            _wait_until_up(server, service)
            yield server
        finally:
            service.stop(grace_s=5)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_programs() -> Path:
    """Folder of initdb, postgres and psql.

    Raises: ServiceError: none is installed.
    """
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    # Debian keeps the server's programs out of the path.
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
    if newest is None:
        raise ServiceError(
            "found no initdb in PATH or /usr/lib/postgresql, expected PostgreSQL: "
            "install it (Debian: apt-get install postgresql)"
        )
    return newest.parent


def _make_cluster(folder: Path, become: list[str], server: Postgres) -> None:
    password_file = folder / "password"
    password_file.write_text(server.password)
    done = subprocess.run(
        [*become, str(server.programs / "initdb"), "-D", str(folder / "cluster"), "-U", OWNER,
         "--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8",
         "--locale=C.UTF-8", "--no-sync"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise ServiceError(f"initdb could not make a cluster: {done.stderr.strip()}")


def _wait_until_up(server: Postgres, service: Service) -> None:
    ready = [str(server.programs / "pg_isready"), "-q", "-h", server.host, "-p", str(server.port)]
    deadline = time.monotonic() + 60
    while subprocess.run(ready, check=False).returncode != 0:
        if not service.alive or time.monotonic() > deadline:
            raise ServiceError(f"PostgreSQL did not start within 60 s.\n{service.log_tail()}")
        time.sleep(0.1)
