"""The fine-tunes of a project as they are kept, a folder each; and what a person asked for.

    finetunes/
        wish.json       what a person asked for, until the loop has taken it up
        0001/
            run.json    what is trained on what, and why it was begun
            record.json what became of it
            images.json, images/, the checkpoint, candidate/    deleted once the run is over
            progress.json, failure.json                         written by the child process
            log.txt, metrics.jsonl, review.json, outcome.json, verdict.json    kept

One run at most is not over. Its child process holds ``lock`` while it lives.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.files import write_atomically
from backend.projects import ProjectStore
from models.config import FinetuneConfig
from models.tasks.base import CLASSIFICATION

Model = TypeVar("Model", bound=BaseModel)
RunState = Literal["running", "promoted", "rejected", "cancelled", "failed", "superseded"]

KEPT = 20
_NUMBER = re.compile(r"\d{4,}")
#: What of a run is worth its room once it is over.
_STAYS = frozenset(
    {"run.json", "record.json", "progress.json", "log.txt", "metrics.jsonl", "verdict.json"}
    | {"outcome.json", "review.json", "failure.json"}
)


class FinetuneRun(BaseModel):
    """What is trained on what (``run.json``); written once.

    Attributes:
        why: one sentence.
        asked: a person asked for it.
        incumbent: fingerprint of the frozen model that it starts from and is judged against.
        classes: the label config's, in its order; tail: those that are rare.
        task: which kind of labels they are.
        labels: label by task id, as the mirror keeps it: every usable one.
        held_out: tasks that nothing is trained on.
        seen: tasks that the incumbent was trained on, of those in ``labels``.
        threads: of torch in the child process, so that a resumed run comes to the same bits.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    why: str = ""
    asked: bool = False
    incumbent: str
    classes: tuple[str, ...]
    tail: tuple[str, ...] = ()
    task: str = CLASSIFICATION
    labels: dict[int, str]
    held_out: tuple[int, ...] = ()
    seen: tuple[int, ...] = ()
    config: FinetuneConfig
    seed: int = 0
    threads: int = 1
    max_pixels: int


class FinetuneRecord(BaseModel):
    """What became of a run (``record.json``).

    Attributes:
        state: ``running`` until it is over; ``failed`` where trying again would change nothing,
            ``superseded`` where the frozen model that it started from is not the active one.
        reasons: sentences for a person; the first says what was decided.
        compared: what the verdict rests on.
        before, after: what the two networks are worth (balanced accuracy; of detectors the mean
            AP of the rare classes), None where nothing was measured.
        failure: why the last try ended before its time; empty where it did not.
        retry_s: when the next try is, Unix seconds.
        tries: how many have failed.
        candidate: fingerprint of the network that was trained.
    """

    model_config = ConfigDict(frozen=True)

    state: RunState = "running"
    reasons: tuple[str, ...] = ()
    compared: str = ""
    before: float | None = None
    after: float | None = None
    failure: str = ""
    retry_s: float = 0.0
    tries: int = 0
    candidate: str = ""
    ended_at: datetime | None = None


class FinetuneProgress(BaseModel):
    """How far a run is (``progress.json``).

    Attributes:
        began_s: when this try began, Unix seconds.
        spent_s: seconds spent by local day, over all tries.
    """

    model_config = ConfigDict(frozen=True)

    done: int = 0
    total: int = 0
    message: str = ""
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    began_s: float = 0.0
    pid: int = 0
    spent_s: dict[str, float] = Field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Spent so far."""
        return sum(self.spent_s.values())


class ChildFailure(BaseModel):
    """Why the child process ended without a verdict, in its own words (``failure.json``).

    Attributes:
        final: trying again would change nothing.
    """

    model_config = ConfigDict(frozen=True)

    reason: str
    final: bool = False


class Figures(BaseModel):
    """What a network was found to be worth, in short: of a classifier the first, else the others.

    Attributes:
        tail_ap: mean AP of the rare classes; mean_ap: of all.
    """

    model_config = ConfigDict(frozen=True)

    balanced_accuracy: float | None = None
    tail_ap: float | None = None
    mean_ap: float | None = None

    @property
    def worth(self) -> float | None:
        """By what networks are compared."""
        told = (self.balanced_accuracy, self.tail_ap, self.mean_ap)
        return next((figure for figure in told if figure is not None), None)


class StoredVerdict(BaseModel):
    """What was decided."""

    model_config = ConfigDict(frozen=True)

    promoted: bool
    reasons: tuple[str, ...] = ()
    compared: str = ""
    before: Figures | None = None
    after: Figures | None = None


class StoredOutcome(BaseModel):
    """Of ``outcome.json`` what the loop needs; the whole is the recipe's own."""

    model_config = ConfigDict(frozen=True)

    verdict: StoredVerdict
    candidate: str | None = None


class Wish(BaseModel):
    """What a person asked for (``wish.json``).

    Attributes:
        strategy, epochs: None: as the settings say.
    """

    model_config = ConfigDict(frozen=True)

    what: Literal["start", "cancel"]
    strategy: str | None = None
    epochs: int | None = None
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class Finetune:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def number(self) -> int:
        """The number in its name."""
        return int(self.path.name)

    @property
    def run(self) -> FinetuneRun | None:
        """What is trained on what; None where it cannot be read."""
        return _read(self.path / "run.json", FinetuneRun)

    @property
    def record(self) -> FinetuneRecord:
        """What became of it."""
        return _read(self.path / "record.json", FinetuneRecord) or FinetuneRecord()

    @property
    def progress(self) -> FinetuneProgress:
        """How far it is."""
        return _read(self.path / "progress.json", FinetuneProgress) or FinetuneProgress()

    @property
    def failure(self) -> ChildFailure | None:
        """What its child process said of its end; None where it said nothing."""
        return _read(self.path / "failure.json", ChildFailure)

    @property
    def outcome(self) -> StoredOutcome | None:
        """What came of it; None while training and judging have not ended."""
        if not (self.path / "verdict.json").exists():  # written last
            return None
        return _read(self.path / "outcome.json", StoredOutcome)

    def keep(self, record: FinetuneRecord) -> None:
        """Write what became of it."""
        write_atomically(self.path / "record.json", record.model_dump_json(indent=1))

    def lock(self, *, wait_s: float = 0.0) -> int | None:
        """Hold the run for as long as this process lives; None where another one holds it."""
        held = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(held)
                    return None
                time.sleep(0.05)
            else:
                return held

    @property
    def alive(self) -> bool:
        """Whether a process holds the run."""
        if not (self.path / "lock").exists():
            return False
        held = self.lock()
        if held is None:
            return True
        os.close(held)
        return False

    def shed(self) -> None:
        """Delete what only a running one needs: images, checkpoints, the candidate."""
        for path in self.path.iterdir():
            if path.name in _STAYS:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


class Finetunes:
    """All runs of a project."""

    def __init__(self, store: ProjectStore) -> None:
        self.root = store.path("finetunes")

    def all(self) -> list[Finetune]:
        """Every run, oldest first."""
        if not self.root.is_dir():
            return []
        found = [path for path in self.root.iterdir() if _NUMBER.fullmatch(path.name)]
        runs = (Finetune(path) for path in sorted(found, key=lambda path: int(path.name)))
        return [run for run in runs if (run.path / "run.json").is_file()]

    def current(self) -> Finetune | None:
        """The run that is not over; None where every one is."""
        runs = self.all()
        return runs[-1] if runs and runs[-1].record.state == "running" else None

    def last_over(self) -> Finetune | None:
        """The newest run that counts as one: those that another frozen model overtook do not."""
        over = (run for run in reversed(self.all()))
        return next(
            (run for run in over if run.record.state not in {"running", "superseded"}), None
        )

    def next_number(self) -> int:
        """The number of the next run; one that was used is not used again while a later one is."""
        runs = self.all()
        return runs[-1].number + 1 if runs else 1

    def create(self, run: FinetuneRun, uris: dict[int, str]) -> Finetune:
        """Keep a new run; ``uris`` say where its images are."""
        folder = self.root / f"{run.number:04d}"
        shutil.rmtree(folder, ignore_errors=True)  # of a start that was killed
        folder.mkdir(parents=True)
        write_atomically(folder / "images.json", ImageAddresses(of_task=uris).model_dump_json())
        write_atomically(folder / "run.json", run.model_dump_json())
        return Finetune(folder)

    def prune(self, keep: int = KEPT) -> None:
        """Delete the oldest runs that are over, beyond ``keep``."""
        runs = self.all()
        for run in runs[: max(0, len(runs) - keep)]:
            if run.record.state != "running":
                shutil.rmtree(run.path, ignore_errors=True)

    # What a person asks for -------------------------------------------------------------------

    @property
    def wish(self) -> Wish | None:
        """What a person asked for, and nobody has taken up yet."""
        return _read(self.root / "wish.json", Wish)

    def ask(self, wish: Wish) -> None:
        """Ask for something; it takes the place of what was asked for before."""
        write_atomically(self.root / "wish.json", wish.model_dump_json())

    def take_up(self, wish: Wish) -> None:
        """A wish is carried out; a newer one stays."""
        if self.wish == wish:
            (self.root / "wish.json").unlink(missing_ok=True)


class ImageAddresses(BaseModel):
    """Where the images of a run are (``images.json``)."""

    model_config = ConfigDict(frozen=True)

    of_task: dict[int, str]


class ReadTasks(BaseModel):
    """Tasks whose image could be read, decided once for all tries (``read.json``)."""

    model_config = ConfigDict(frozen=True)

    ids: tuple[int, ...]


def spent_today_s(projects: Path, now: datetime | None = None) -> float:
    """Seconds of fine-tuning of this local day, over all projects of a data directory."""
    day = local_day(now)
    paths = projects.glob("*/finetunes/*/progress.json")
    told = (_read(path, FinetuneProgress) for path in paths)
    return sum(found.spent_s.get(day, 0.0) for found in told if found is not None)


def local_day(now: datetime | None = None) -> str:
    """The day by this machine's clock on the wall."""
    return (now or datetime.now(UTC)).astimezone().date().isoformat()


def _read(path: Path, model: type[Model]) -> Model | None:
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
