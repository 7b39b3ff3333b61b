"""Stored model versions: numbered folders with a card, and a pointer to the active one.

A version is written to a temporary folder, flushed and renamed; the pointer is switched last. A
folder that does not match its card is skipped with a reason and the one before it is used. A
number is used once, also after its version was deleted (``latest``).
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from models.errors import CorruptVersion
from models.files import folder_digest, write_folder, write_text

logger = logging.getLogger(__name__)

_CARD = "version.json"
_LATEST = "latest"  # the highest number that a deleted version had
_DELETED = ".deleted-"
_NAME = re.compile(r"v([0-9]{4,9})")
_LIBRARIES = ("numpy", "safetensors", "torch", "torchvision")


def _library_versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


class VersionCard(BaseModel):
    """What a version is and where it comes from (``version.json`` in its folder)."""

    model_config = ConfigDict(frozen=True)

    parent: str | None = Field(
        default=None, description="Name of the version that was active before."
    )
    created_at: datetime = Field(
        default_factory=lambda: datetime.now(UTC), description="When it was made (UTC)."
    )
    kind: str = Field(description="Which scorer orders the queue.")
    snapshot_digest: str = Field(description="sha256 of the labels it was fitted on.")
    config: Mapping[str, JsonValue] = Field(description="The miner's settings.")
    metrics: Mapping[str, float] = Field(default_factory=dict, description="Figures of the fit.")
    seed: int = Field(default=0, description="Seed of everything random in it.")
    classes: tuple[str, ...] = Field(description="Class names in the label config's order.")
    tail: tuple[str, ...] = Field(default=(), description="Names of the tail classes.")
    backbone_fingerprint: str = Field(default="", description="Fingerprint of the frozen model.")
    explanation: str = Field(default="", description="A sentence for a person.")
    choice: str = Field(
        default="", description="How `scorer: auto` chose, with figures; empty where one was named."
    )
    libraries: Mapping[str, str] = Field(
        default_factory=_library_versions, description="Versions of the libraries that made it."
    )
    files_digest: str = Field(default="", description="sha256 of the other files; set when stored.")


@dataclass(frozen=True)
class Version:
    """A stored version.

    Attributes:
        name: ``v0001`` and on.
        path: its folder.
        card: what it is.
    """

    name: str
    path: Path
    card: VersionCard

    @property
    def number(self) -> int:
        """The number in its name."""
        return _number(self.name)


class VersionRegistry:
    """The versions under one folder.

    Args:
        root: the folder; made when the first version is.
        keep: versions that ``prune`` leaves.
    """

    def __init__(self, root: Path, keep: int = 10) -> None:
        self.root = root
        self.keep = keep
        self._problems: dict[str, str] = {}
        self._checked: dict[str, tuple[tuple[int, int, str], Version]] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """Why folders were skipped, one sentence each."""
        return tuple(self._problems.values())

    def create(self, write: Callable[[Path], None], card: VersionCard) -> Version:
        """Store a version under the next number; it becomes active by ``activate`` only.

        Args:
            write: fills the folder it is given.
            card: its ``files_digest`` is set here.
        """
        name = f"v{self._latest() + 1:04d}"
        stored = card

        def fill(folder: Path) -> None:
            nonlocal stored
            write(folder)
            digest = folder_digest(folder, leave_out=frozenset({_CARD}))
            stored = card.model_copy(update={"files_digest": digest})
            (folder / _CARD).write_text(stored.model_dump_json(indent=2))

        write_folder(self.root / name, fill)
        return Version(name, self.root / name, stored)

    def activate(self, name: str) -> None:
        """Let ``name`` be the active version.

        Raises: CorruptVersion: if it is not stored or not whole.
        """
        self.load(name)
        write_text(self.root / "active", name)

    def active(self) -> Version | None:
        """The active version, or the newest whole one before it; None where there is none."""
        try:
            wanted = (self.root / "active").read_text(errors="replace").strip()[:80]
        except FileNotFoundError:
            return None
        last = _number(wanted)
        if not last:
            self._note("active", f"the pointer {self.root / 'active'} holds {wanted!r}")
            last = max((_number(path.name) for path in self._folders()), default=0)
        names = [path.name for path in self._folders() if _number(path.name) <= last]
        if wanted not in names and _number(wanted):
            self._note(wanted, f"version {wanted} is active but its folder is gone")
        for name in reversed(names):
            try:
                return self.load(name)
            except CorruptVersion as error:
                self._note(name, f"version {name} is skipped: {error}")
        return None

    def load(self, name: str) -> Version:
        """One version, checked against its card.

        Raises: CorruptVersion: if it is not stored, or its files do not match its card.
        """
        if not _number(name):
            raise CorruptVersion(
                f"found {name[:80]!r}, expected the name of a version such as v0001"
            )
        path = self.root / name
        state = _state(path)
        known = self._checked.get(name)
        if known is not None and known[0] == state:
            return known[1]
        try:
            card = VersionCard.model_validate_json((path / _CARD).read_bytes())
        except (OSError, ValidationError) as error:
            raise CorruptVersion(
                f"{path / _CARD} cannot be read ({type(error).__name__}); "
                "delete the folder, the next fit makes a new version"
            ) from error
        found = folder_digest(path, leave_out=frozenset({_CARD}))
        if found != card.files_digest:
            raise CorruptVersion(
                f"the files of {path} have digest {found[:12]}, its card says "
                f"{card.files_digest[:12]}; delete the folder, the next fit makes a new version"
            )
        loaded = Version(name, path, card)
        self._checked[name] = (state, loaded)
        self._problems.pop(name, None)
        return loaded

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all stored versions, damaged ones included, oldest first."""
        return tuple(path.name for path in self._folders())

    def list(self) -> tuple[Version, ...]:
        """All whole versions, oldest first."""
        whole = []
        for path in self._folders():
            try:
                whole.append(self.load(path.name))
            except CorruptVersion as error:
                self._note(path.name, f"version {path.name} is skipped: {error}")
        return tuple(whole)

    def prune(self, *, spare: Collection[str] = ()) -> tuple[str, ...]:
        """Delete the oldest versions beyond ``keep``; returns their names.

        Args:
            spare: names that stay, as the active one does.
        """
        active = self.active()
        spared = {*spare, *((active.name,) if active else ())}
        names = self.names
        gone = tuple(name for name in names if name not in spared)
        gone = gone[: max(0, len(names) - self.keep)]
        for name in gone:
            self.delete(name)
        return gone

    def delete(self, name: str) -> None:
        """Delete a version, whole or damaged: it is gone in one step, its files follow.

        Whether anybody still needs it is the caller's to know.

        Raises: CorruptVersion: if it is not stored.
        """
        if name not in self.names:
            raise CorruptVersion(
                f"found no version {name!r}; expected one of {', '.join(self.names) or 'none yet'}"
            )
        # What is kept under a version's name elsewhere must never meet another of that name.
        write_text(self.root / _LATEST, str(self._latest()))
        (self.root / name).rename(self.root / f".{name}{_DELETED}{time.time_ns()}")
        self._problems.pop(name, None)
        self._checked.pop(name, None)
        for leftover in self.root.glob(f".v*{_DELETED}*"):  # of an earlier, killed deletion too
            shutil.rmtree(leftover, ignore_errors=True)

    def _latest(self) -> int:
        """The highest number in use or used before."""
        deleted = 0
        with contextlib.suppress(FileNotFoundError, ValueError):
            deleted = int((self.root / _LATEST).read_text())
        return max(deleted, *(_number(path.name) for path in self._folders()), 0)

    def _folders(self) -> tuple[Path, ...]:
        if not self.root.is_dir():
            return ()
        found = [path for path in self.root.iterdir() if path.is_dir() and _number(path.name)]
        return tuple(sorted(found, key=lambda path: _number(path.name)))

    def _note(self, name: str, problem: str) -> None:
        if self._problems.get(name) != problem:
            logger.warning("%s", problem)
        self._problems[name] = problem


def _number(name: str) -> int:
    match = _NAME.fullmatch(name)
    return int(match.group(1)) if match else 0


def _state(folder: Path) -> tuple[int, int, str]:
    """Changes whenever a file of the folder does; spares digesting on every look."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    stats = [path.stat() for path in files]
    return (
        max((stat.st_mtime_ns for stat in stats), default=0),
        sum(stat.st_size for stat in stats),
        "\0".join(path.name for path in files),
    )
