"""A real Label Studio on SQLite, started from its own environment.

The first start of Label Studio runs several hundred migrations (about half a minute). Their result
is kept beside the installed package and copied for each further fresh start.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.service import Progress, Service, ServiceError, clean_environment

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-label-studio"
DATABASE = "label_studio.sqlite3"

SETTINGS = {
    # Without these two Label Studio refuses backends and webhooks on private addresses.
    "SSRF_PROTECTION_ENABLED": "false",
    "ML_BLOCK_LOCAL_IP": "false",
    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
    # Nothing of the demo leaves this machine, and no start waits for an answer from outside.
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}


@dataclass(frozen=True)
class Login:
    """The first user of a Label Studio, made when it starts for the first time."""

    username: str
    password: str
    token: str


def executable() -> Path:
    """Label Studio's command.

    Raises:
        ServiceError: its environment is missing.
    """
    path = ENVIRONMENT / "bin" / "label-studio"
    if not path.exists():
        raise ServiceError(f"{path} is missing: run `make .venv-label-studio/.installed`")
    return path


def label_studio(
    data_dir: Path,
    *,
    port: int,
    login: Login,
    run_dir: Path,
    extra: Mapping[str, str] | None = None,
) -> Service:
    """A Label Studio that is not started yet.

    Args:
        data_dir: its database and uploads; prepared by :func:`prepare`.
        port: where it will listen, on this machine only.
        login: its first user; later starts leave an existing one as it is.
        run_dir: where log and process id go.
        extra: further environment variables.
    """
    command = [
        str(executable()), "start", "--no-browser",
        "--internal-host", "127.0.0.1", "--port", str(port),
        # One argument each: a password that begins with a dash must not be taken for an option.
        f"--username={login.username}", f"--password={login.password}",
        f"--user-token={login.token}",
        "--data-dir", str(data_dir),
    ]  # fmt: skip
    return Service(
        "Label Studio",
        command,
        env=clean_environment({**SETTINGS, **(extra or {})}),
        log_path=run_dir / "label-studio.log",
        pid_path=run_dir / "label-studio.pid",
    )


def prepare(data_dir: Path, *, progress: Progress) -> None:
    """Give a fresh data folder a migrated database; one that has a database is left alone."""
    if (data_dir / DATABASE).exists():
        return
    template = ENVIRONMENT / "template" / DATABASE
    template.parent.mkdir(parents=True, exist_ok=True)
    with (template.parent / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes start at once
        if not template.exists():
            progress("preparing Label Studio's database (once, about half a minute)")
            _migrate_into(template)
    data_dir.mkdir(parents=True, exist_ok=True)
    partial = data_dir / (DATABASE + ".partial")
    shutil.copyfile(template, partial)
    partial.rename(data_dir / DATABASE)


def migrate(data_dir: Path, extra: Mapping[str, str] | None = None) -> None:
    """Run all migrations, on SQLite in ``data_dir`` or on what ``extra`` names.

    Raises:
        ServiceError: with the end of what Label Studio said.
    """
    # `version` migrates and then only prints.
    done = subprocess.run(
        [str(executable()), "version", "--data-dir", str(data_dir)],
        env=clean_environment({**SETTINGS, **(extra or {})}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        raise ServiceError(f"Label Studio could not make its database:\n{done.stderr[-2000:]}")


def _migrate_into(template: Path) -> None:
    """Run all migrations on an empty database and keep it; appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=template.parent) as scratch:
        migrate(Path(scratch))
        (Path(scratch) / DATABASE).rename(template)
