"""One container of the image: closed as docker/compose.yaml says, run by crun."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.service import Service
from tests.containers.compose_file import process_of

_MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/sched_debug", "/proc/timer_list")
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@dataclass(frozen=True)
class Container:
    """What crun is told, and the process that waits for the container's end.

    Attributes:
        name: the compose service.
        folder: crun's bundle.
        service: the process.
        health: its health check, as compose would run it.
        user: who it runs as, numbers.
    """

    name: str
    folder: Path
    service: Service
    health: list[str]
    user: str

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a further command in it, as `docker compose exec` does."""
        return subprocess.run(
            _crun(self.folder, "exec", "--user", self.user, "--no-new-privs", self.name, *command),
            capture_output=True,
            text=True,
            check=False,
        )

    def signal(self, name: str) -> None:
        """Send its first process a signal."""
        subprocess.run(_crun(self.folder, "kill", self.name, name), check=True)

    def is_well(self) -> bool:
        """What its health check says."""
        return self.run(*self.health).returncode == 0

    def log(self) -> str:
        """What it said."""
        return self.service.log_path.read_text(errors="replace")


def container(
    name: str,
    compose_service: Mapping[str, Any],
    image: Mapping[str, Any],
    *,
    root: Path,
    folder: Path,
    data: Path,
    secrets: Path,
    hosts: Path,
) -> Container:
    """A container that is not started yet.

    Args:
        name: the compose service.
        compose_service: what the compose file says of it.
        image: the image's own configuration.
        root: its root file system, mounted.
        folder: for crun's files and the log.
        data: the volume.
        secrets: the folder of the secret files.
        hosts: what stands in /etc/hosts.
    """
    for key, expected in (("read_only", True), ("cap_drop", ["ALL"]),
                          ("security_opt", ["no-new-privileges:true"])):  # fmt: skip
        if compose_service[key] != expected:
            raise ValueError(f"found {key}: {compose_service[key]}, expected {expected}")
    process = process_of(compose_service)
    (volume,) = (line.split(":")[1] for line in compose_service["volumes"])
    uid, gid = (int(number) for number in image["User"].split(":"))
    mounts = [
        _mount("/proc", "proc"),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        *(
            _mount(path, "tmpfs", "nosuid", "nodev", *options.split(","))
            for path, options in (line.split(":") for line in compose_service["tmpfs"])
        ),
        _bind(volume, data, "rw"),
        _bind("/etc/hosts", hosts, "ro"),
        *(
            _bind(f"/run/secrets/{file}", secrets / file, "ro")
            for file in compose_service["secrets"]
        ),
    ]
    config = {
        "ociVersion": "1.0.0",
        "process": {
            "terminal": False,
            "user": {"uid": uid, "gid": gid},
            "args": process.command,
            "env": [*image["Env"], *(f"{k}={v}" for k, v in process.environment.items())],
            "cwd": image["WorkingDir"],
            "capabilities": {
                kind: []
                for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")
            },
            "noNewPrivileges": True,
        },
        "root": {"path": str(root), "readonly": True},
        "hostname": name,
        "mounts": mounts,
        "linux": {
            # Not the network: all share the one that the whole run has for itself.
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
        },
    }
    bundle = folder / name
    bundle.mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps(config, indent=1))
    service = Service(
        name,
        _crun(bundle, "run", "--bundle", str(bundle), name),
        env=dict(os.environ),
        log_path=folder / f"{name}.log",
    )
    check = compose_service["healthcheck"]["test"]
    return Container(name, bundle, service, check[1:], image["User"])


def _crun(bundle: Path, *arguments: str) -> list[str]:
    return ["crun", "--root", str(bundle.parent / "crun"), "--cgroup-manager=disabled", *arguments]


def _mount(path: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": path, "type": kind, "source": kind, "options": list(options)}


def _bind(path: str, source: Path, mode: str) -> dict[str, Any]:
    return {
        "destination": path,
        "type": "bind",
        "source": str(source),
        "options": ["rbind", mode, "nosuid", "nodev"],
    }
