"""Checks of the machine that the service runs on: settings, folder, disk, device."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from backend.doctor.facts import ServiceFacts
from backend.doctor.finding import Finding, error, note, ok, warning

_MIB = 1 << 20
_FULL = 200 * _MIB
_LOW = 1024 * _MIB
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_GPU_NODES = ("/dev/nvidia0", "/dev/kfd")


def settings(facts: ServiceFacts) -> Iterator[Finding]:
    """What must be set is set."""
    missing = facts.settings.missing
    if missing:
        yield error(
            "settings.missing",
            f"{' and '.join(missing)} not set",
            why="without them nothing is read from Label Studio and nothing is published",
            mend=f"set {' and '.join(missing)} in the environment of `rarefirst serve` and of "
            "this command, then start the service again",
        )
    else:
        yield ok("settings", "Label Studio's address and token are set")


def password(facts: ServiceFacts) -> Iterator[Finding]:
    """Others who can reach the port are asked for a password."""
    if facts.settings.basic_auth is not None:
        yield ok("settings.password", "our endpoints ask for user and password")
    elif _is_loopback(facts.settings.host):
        yield ok("settings.password", f"no password, but only {facts.settings.host} is listened on")
    else:
        yield warning(
            "settings.open",
            f"no password is set, and {facts.settings.host}:{facts.settings.port} is open to "
            "whoever reaches this machine",
            why="anybody could read scores and ask for trainings",
            mend="set BASIC_AUTH_USER and BASIC_AUTH_PASS, start again, then `rarefirst doctor "
            "--fix` gives Label Studio the same; or RAREFIRST_HOST=127.0.0.1",
        )


def data_dir(facts: ServiceFacts) -> Iterator[Finding]:
    """The folder of everything that is kept can be written."""
    path = facts.data_dir
    try:
        path.mkdir(parents=True, exist_ok=True)
        for folder in (path, path / "projects"):
            if folder.is_dir():
                with tempfile.TemporaryFile(dir=folder) as file:
                    file.write(b"rarefirst")
    except OSError as failure:
        yield error(
            "data.unwritable",
            f"{path} cannot be written: {failure.strerror or failure}",
            why="mirror, versions, queue and marks are kept there; nothing can be learned",
            mend=f"give the user of the service (now {_user()}) the right to write {path}, or set "
            "RAREFIRST_DATA_DIR",
        )
        return
    yield ok("data", f"{path.resolve()} can be written")


def disk(facts: ServiceFacts) -> Iterator[Finding]:
    """There is room for what will be written."""
    free = shutil.disk_usage(facts.data_dir).free
    wanted = _LOW + max(0, facts.settings.image_cache_mb * _MIB - _size(facts.data_dir / "images"))
    said = f"{free / _MIB:,.0f} MiB free where {facts.data_dir} lies"
    mend = (
        "free some disk, move RAREFIRST_DATA_DIR, or make the image cache smaller "
        f"(RAREFIRST_IMAGE_CACHE_MB, now {facts.settings.image_cache_mb})"
    )
    if free < _FULL:
        yield error(
            "disk.full", said, why="the next version or mirror cannot be written", mend=mend
        )
    elif free < wanted:
        why = f"the image cache alone may grow until {wanted / _MIB:,.0f} MiB are used"
        yield warning("disk.low", said, why=why, mend=mend)
    else:
        yield ok("disk", said)


def device(facts: ServiceFacts) -> Iterator[Finding]:
    """What images are embedded on exists."""
    wanted = facts.settings.device
    if _DEVICE.fullmatch(wanted) is None:
        yield error(
            "device.unknown",
            f"RAREFIRST_DEVICE is {wanted!r}",
            why="no image can be embedded",
            mend="set RAREFIRST_DEVICE to auto, cpu, cuda or cuda:N",
        )
        return
    if wanted == "cpu":
        yield ok("device", "images are embedded on the processor")
        return
    there = any(Path(node).exists() for node in _GPU_NODES)
    if wanted == "auto" and not there:
        yield ok("device", "images are embedded on the processor; there is no GPU")
        return
    usable = _gpus()  # takes seconds: only where there may be one
    number = int(wanted.partition(":")[2] or 0)
    if number < usable:
        yield ok("device", f"images are embedded on GPU {number} of {usable}")
    elif wanted == "auto":
        yield note(
            "device.unused",
            "there is a GPU, but torch cannot use it",
            why="images are embedded on the processor, several times slower",
            mend="install a driver that fits, or a torch built for this GPU; RAREFIRST_DEVICE=cpu "
            "if that is meant",
        )
    else:
        yield error(
            "device.absent",
            f"RAREFIRST_DEVICE is {wanted}, and torch sees {usable} GPUs",
            why="no image can be embedded",
            mend="set RAREFIRST_DEVICE=auto, or install what is missing",
        )


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _size(folder: Path) -> int:
    """Bytes in a folder; the cache is two levels deep and bounded."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(root) / name).stat().st_size
            except OSError:
                continue
    return total


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _user() -> str:
    return str(os.getuid())
