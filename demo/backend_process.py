"""Our own service as a user runs it: ``rarefirst serve`` and the other commands, nothing inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from demo.service import Service, ServiceError, clean_environment

COMMAND = Path(sys.executable).parent / "rarefirst"


@dataclass(frozen=True)
class BackendSettings:
    """How the service is run.

    Attributes:
        label_studio_url: Label Studio's address.
        token: an API token of it.
        port: where the service will listen, on this machine only.
        data_dir: what ``RAREFIRST_DATA_DIR`` will say.
        user: basic-auth user.
        password: basic-auth password.
        extra: further environment variables.
    """

    label_studio_url: str
    token: str
    port: int
    data_dir: Path
    user: str
    password: str
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The service's address."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """The whole environment of the service and of its commands."""
        return clean_environment(
            {
                "LABEL_STUDIO_URL": self.label_studio_url,
                "LABEL_STUDIO_API_KEY": self.token,
                "BASIC_AUTH_USER": self.user,
                "BASIC_AUTH_PASS": self.password,
                "PORT": str(self.port),
                "RAREFIRST_HOST": "127.0.0.1",
                "RAREFIRST_OWN_URL": self.url,
                "RAREFIRST_DATA_DIR": str(self.data_dir),
                **self.extra,
            }
        )


class Backend:
    """The service and its commands.

    Args:
        settings: how it is run.
        run_dir: where log and process id go.
    """

    def __init__(self, settings: BackendSettings, *, run_dir: Path) -> None:
        self.settings = settings
        self.service = Service(
            "rarefirst",
            [str(COMMAND), "serve"],
            env=settings.environment(),
            log_path=run_dir / "rarefirst.log",
            pid_path=run_dir / "rarefirst.pid",
        )

    @property
    def url(self) -> str:
        """The service's address."""
        return self.settings.url

    def start(self, *, timeout_s: float = 60.0) -> None:
        """Start web and worker and wait until the web part answers."""
        self.service.start()
        self.service.wait_until_up(self.url + "/health", timeout_s=timeout_s)

    def stop(self) -> None:
        """Stop both, in order."""
        self.service.stop()

    def part_pid(self, part: str) -> int:
        """Process id of ``web`` or ``worker``, as ``rarefirst serve`` noted it.

        Raises:
            ServiceError: it is not running.
        """
        noted = json.loads((self.settings.data_dir / "serve.json").read_text())
        pid = noted.get(part)
        if not isinstance(pid, int):
            raise ServiceError(f"{part} is not running: {noted}")
        return pid

    def kill_part(self, part: str, number: int) -> int:
        """Send a signal to ``web`` or ``worker``. Returns: the process id it had."""
        pid = self.part_pid(part)
        os.kill(pid, number)
        return pid

    def command(self, *arguments: str, timeout_s: float = 120.0) -> str:
        """Run a ``rarefirst`` command. Returns: its standard output.

        Raises:
            ServiceError: it failed; the message is what it said.
        """
        done = subprocess.run(
            [str(COMMAND), *arguments],
            env=self.settings.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            raise ServiceError(
                f"rarefirst {' '.join(arguments)} ended with {done.returncode}: "
                # One line says it; of a traceback it is the last one.
                f"{(done.stderr or done.stdout or '(nothing said)').strip().splitlines()[-1]}"
            )
        return done.stdout

    def connect(self, project_id: int) -> str:
        """Connect a project. Returns: what the command said."""
        return self.command("connect", "--project", str(project_id))

    def what_it_does(self, project_id: int) -> str:
        """One line of what the loop says about a project, for a person who waits."""
        try:
            answer = json.loads(self.command("status", "--project", str(project_id), "--json"))
        except ServiceError as error:
            return str(error).splitlines()[0]
        project = answer["projects"][0]
        parts = [project["doing"] or "idle"]
        if project["total"]:
            parts.append(f"({project['done']} of {project['total']})")
        return " ".join([*parts, *project["problems"], *project["why_not"]])
