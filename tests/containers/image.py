"""The image, built by buildah from docker/Dockerfile on a Debian made here.

No registry of images is asked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.containers.compose_file import ROOT

BASE = "localhost/rarefirst-base"
IMAGE = "localhost/rarefirst"
PIP_CONF = Path("/etc/pip.conf")
_CERTIFICATES = "/etc/ssl/certs"


@dataclass(frozen=True)
class Buildah:
    """buildah with a storage of its own.

    Attributes:
        storage: folder of images and containers.
    """

    storage: Path

    def __call__(self, *arguments: str, stream: bool = False) -> str:
        """Run a command of it; ``stream`` shows what it says instead of returning it."""
        done = subprocess.run(
            ["buildah", "--root", str(self.storage / "root"), "--runroot",
             str(self.storage / "run"), *arguments],
            cwd=ROOT,
            env={"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay", **os.environ},
            stdout=None if stream else subprocess.PIPE,
            text=True,
            check=True,
        )  # fmt: skip
        return (done.stdout or "").strip()

    def has(self, image: str) -> bool:
        """Whether it holds an image."""
        return image in self("images", "--format", "{{.Name}}").splitlines()

    def import_base(self, folder: Path) -> None:
        """Make Debian with Python in ``folder`` and import it as an image of one layer."""
        subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=python3,python3-venv,python3-pip",
             "bookworm", str(folder)],
            check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        container = self("from", "scratch")
        self("copy", "--quiet", container, f"{folder}/", "/")
        self("commit", "--quiet", container, BASE)
        self("rm", container)
        shutil.rmtree(folder)

    def build(self, *arguments: str) -> float:
        """Build the image. Returns: seconds it took, of which what was kept took none."""
        started = time.monotonic()
        secret = ["--secret", f"id=pip.conf,src={PIP_CONF}"] if PIP_CONF.exists() else []
        # The certificates of this machine, as the package index may stand behind a proxy of it.
        self(
            "build", "--layers", "--network=host", f"--build-arg=BASE_IMAGE={BASE}", *secret,
            f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro", "--format=docker", *arguments,
            "--file=docker/Dockerfile", f"--tag={IMAGE}", ".", stream=True,
        )  # fmt: skip
        return time.monotonic() - started

    def config(self) -> dict[str, Any]:
        """What the image says of how it is run: Env, Cmd, User, Healthcheck."""
        found = json.loads(self("inspect", "--type=image", IMAGE))
        config: dict[str, Any] = found["Docker"]["config"]
        return config

    def size_of(self, image: str) -> float:
        """Bytes of all files of an image."""
        for found in json.loads(self("images", "--json")):
            if f"{image}:latest" in (found["names"] or ()):
                return _bytes(found["size"])
        raise KeyError(image)

    @contextmanager
    def mounted(self) -> Iterator[tuple[Path, Path]]:
        """A container of the image. Yields: its root file system, and what differs in it."""
        container = self("from", "--pull-never", IMAGE)
        try:
            root = Path(self("mount", container))
            # overlay: the upper layer lies beside the merged folder.
            yield root, root.parent / "diff"
        finally:
            self("umount", container)
            self("rm", container)


def _bytes(text: str) -> float:
    """``5.38 GB`` as a number."""
    number, unit = text.split()
    return float(number) * {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
