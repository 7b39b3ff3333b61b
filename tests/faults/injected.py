"""The faults: how each begins and ends, and what the service says meanwhile.

A new one: a class, and a line in `FAULTS`; the rounds and the single tests go over that table.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from backend.finetunes import Finetunes, Wish
from tests.faults import border
from tests.faults.parts import PARTS, Part
from tests.faults.yard import Yard

_HOUR_S = 3600.0
_CHILD_S = 40.0


class Fault:
    """Something that goes wrong for a while.

    Args:
        yard: where.
        rng: draws everything that is random in it.

    Attributes:
        lasts: a longer span says nothing more where it is False.
        alone: it has a test of its own, which waits until the service has said what is wrong.
        must_hit: it waits for what `says` waits for in every round, not in the single tests only.
        count: how often it hit, where it counts.
    """

    lasts = True
    alone = False
    must_hit = False

    def __init__(self, yard: Yard, rng: random.Random) -> None:
        self.yard = yard
        self.rng = rng
        self.count = 1

    def begin(self) -> None:
        """Let it begin."""
        raise NotImplementedError

    def end(self) -> None:
        """Let it end; also after a `begin` that failed."""

    def says(self) -> str:
        """What the service is expected to say while it lasts and does not; empty if all is said."""
        return ""


class _Kill(Fault):
    """Kill -9 of a part."""

    lasts = False
    parts: tuple[Part, ...] = PARTS

    def begin(self) -> None:
        time.sleep(self.rng.uniform(0, 1.5))
        for part in self.parts:
            self.yard.parts.kill(part)


class KillWeb(_Kill):
    """Kill -9 of the web process; gunicorn's own child has to notice."""

    parts = ("web",)


class KillWorker(_Kill):
    """Kill -9 of the worker."""

    parts = ("worker",)


class KillBoth(_Kill):
    """Kill -9 of both, as a crash of the machine does."""


class KillChild(Fault):
    """Kill -9 of a fine-tune, at any moment of it; then the worker too, every other time."""

    lasts = False

    def begin(self) -> None:
        store = self.yard.the_store
        Finetunes(store).ask(Wish(what="start"))
        store.hint("changed")
        deadline = time.monotonic() + _CHILD_S
        while not (children := self.yard.parts.children()):
            assert time.monotonic() < deadline, f"no fine-tune began: {self.yard.report}"
            time.sleep(0.05)
        time.sleep(self.rng.uniform(0, 4))
        if self.rng.random() < 0.5:
            self.yard.parts.kill("worker")
        for child in children:
            with_nobody = os.path.exists(f"/proc/{child}")  # noqa: PTH110 -- a moment, not a file
            if with_nobody:
                os.kill(child, signal.SIGKILL)
        # Tries again only after its pause, which is minutes: the rest of the round goes without.
        Finetunes(store).ask(Wish(what="cancel"))
        store.hint("changed")


class _Border(Fault):
    """Something between the service and Label Studio."""

    alone = True

    make: Callable[[random.Random, float], border.Share]
    words: tuple[str, ...] = ()

    def begin(self) -> None:
        self._spoiler = self.make(self.rng, self.rng.choice([0.3, 1.0]))
        self.yard.to_studio.spoiler = self._spoiler

    def end(self) -> None:
        self.yard.to_studio.spoiler = None
        self.count = self._spoiler.spoilt

    def says(self) -> str:
        report = self.yard.report
        said = report.label_studio if report is not None else ""
        if not self.words or any(word in said for word in self.words):
            return ""
        return f"status says {said!r}, expected one of {self.words}"


class ServerErrors(_Border):
    """Label Studio answers 500."""

    make = staticmethod(border.ServerError)
    words = ("answered 500",)


class Refusals(_Border):
    """Label Studio answers 401."""

    make = staticmethod(border.Refusal)
    words = ("token",)


class Slow(_Border):
    """Label Studio takes its time."""

    alone = False  # there is nothing to say

    make = staticmethod(border.Slowness)


class Truncated(_Border):
    """Answers end in the middle."""

    make = staticmethod(border.Truncation)
    words = ("ends in the middle", "broke")


class Resets(_Border):
    """Connections are torn down."""

    make = staticmethod(border.Resets)
    words = ("cannot reach", "broke")


class WrongCreated(Fault):
    """The answer to an import of scores counts wrongly."""

    alone = must_hit = True

    def says(self) -> str:
        return "" if self._spoiler.spoilt else "no scores were imported"

    def begin(self) -> None:
        self._spoiler = border.WrongCreated(self.rng)
        self.yard.to_studio.spoiler = self._spoiler

    def end(self) -> None:
        self.yard.to_studio.spoiler = None
        self.count = self._spoiler.spoilt


class _Webhooks(Fault):
    """Events do not come as they were sent."""

    make: Callable[[], border.Webhooks]

    def begin(self) -> None:
        self._spoiler = self.make()
        self.yard.to_web.spoiler = self._spoiler

    def end(self) -> None:
        self.yard.to_web.spoiler = None
        self._spoiler.end()
        self.count = self._spoiler.spoilt


class Dropped(_Webhooks):
    """Events get lost."""

    make = border.Dropped


class Doubled(_Webhooks):
    """Events come twice."""

    make = border.Doubled


class Reordered(_Webhooks):
    """Events come late, the newest first."""

    make = border.Reordered


class ClockForward(Fault):
    """The clock jumps an hour ahead, and back."""

    jump_s = _HOUR_S

    def begin(self) -> None:
        self.yard.move_clock(self.jump_s)

    def end(self) -> None:
        self.yard.move_clock(0)


class ClockBack(ClockForward):
    """The clock jumps an hour back, and on again."""

    jump_s = -_HOUR_S


class _Disk(Fault):
    """The disk of the data directory fails; the worker may be killed meanwhile."""

    alone = True

    words: tuple[str, ...]

    def begin(self) -> None:
        self._logs = {part: len(self.yard.parts.log(part)) for part in PARTS}
        self.spoil()
        if self.rng.random() < 0.5:
            self.yard.parts.kill(self.rng.choice(PARTS))

    def spoil(self) -> None:
        """Let it fail."""
        raise NotImplementedError

    def says(self) -> str:
        new = "".join(self.yard.parts.log(part)[seen:] for part, seen in self._logs.items())
        return "" if any(word in new for word in self.words) else f"no log says {self.words}"


class DiskFull(_Disk):
    """Not one byte is left."""

    words = ("cannot be written (No space left", "No space left on device", "disk is full")

    def spoil(self) -> None:
        self.yard.disk.fill()

    def end(self) -> None:
        self.yard.disk.free()


class DiskReadOnly(_Disk):
    """Files may only be read."""

    words = ("cannot be written: Read-only file system", "(Read-only file system)", "readonly")

    def spoil(self) -> None:
        self.yard.disk.protect()

    def end(self) -> None:
        self.yard.disk.release()


class _Corrupt(Fault):
    """Files are damaged while everything runs; the worker may be killed afterwards."""

    lasts = False
    alone = True

    def begin(self) -> None:
        files = [path for path in self.files() if path.is_file()]
        for path in self.rng.sample(files, min(len(files), self.rng.choice([1, 3, len(files)]))):
            damage(path, self.rng)
        self.count = len(files)
        if self.rng.random() < 0.5:
            self.yard.parts.kill("worker")

    def files(self) -> list[Path]:
        """Which may be hit."""
        raise NotImplementedError


class CorruptMirror(_Corrupt):
    """Files of the mirror's tables are damaged."""

    def files(self) -> list[Path]:
        return sorted(self.yard.the_store.path("mirror").rglob("*"))


class CorruptRegistry(_Corrupt):
    """Files of the stored versions, or the pointer to the active one, are damaged."""

    def files(self) -> list[Path]:
        root = self.yard.the_store.path("versions")
        published = self.yard.the_store.publications().published
        newest = root / published.version if published is not None else root
        self.yard.damaged.add(newest.name)
        return [root / "active", *sorted(newest.rglob("*"))]


class CorruptImages(_Corrupt):
    """Cached images are damaged."""

    def files(self) -> list[Path]:
        return sorted((self.yard.disk.folder / "images").rglob("*"))


class CorruptQueue(_Corrupt):
    """The queue between web and worker is damaged."""

    def files(self) -> list[Path]:
        return sorted(self.yard.disk.folder.glob("queue.db*"))


class CorruptNotes(_Corrupt):
    """One of the small files that the loop keeps notes in is damaged."""

    alone = False

    def files(self) -> list[Path]:
        root = self.yard.the_store.root
        return [self.rng.choice(sorted([*root.glob("*.json"), root / "ledger.jsonl"]))]


def damage(path: Path, rng: random.Random) -> None:
    """Do to a file what a failing disk does: other bytes, zeros, half of it, or nothing left."""
    how = rng.choice(["flipped", "zeros", "truncated", "deleted"])
    if how == "deleted":
        path.unlink(missing_ok=True)
        return
    size = path.stat().st_size
    if how == "truncated" or size == 0:
        os.truncate(path, size // 2)
        return
    with path.open("r+b") as file:
        for _ in range(8):
            at = rng.randrange(size)
            length = min(64, size - at)
            file.seek(at)
            file.write(rng.randbytes(length) if how == "flipped" else b"\0" * length)


FAULTS: dict[str, type[Fault]] = {
    "kill web": KillWeb,
    "kill worker": KillWorker,
    "kill both": KillBoth,
    "kill child": KillChild,
    "Label Studio answers 500": ServerErrors,
    "Label Studio answers 401": Refusals,
    "Label Studio is slow": Slow,
    "truncated answers": Truncated,
    "connection resets": Resets,
    "wrong created": WrongCreated,
    "webhooks dropped": Dropped,
    "webhooks doubled": Doubled,
    "webhooks reordered": Reordered,
    "clock an hour ahead": ClockForward,
    "clock an hour back": ClockBack,
    "disk full": DiskFull,
    "disk read-only": DiskReadOnly,
    "corrupt mirror": CorruptMirror,
    "corrupt registry": CorruptRegistry,
    "corrupt image cache": CorruptImages,
    "corrupt queue": CorruptQueue,
    "corrupt notes": CorruptNotes,
}
