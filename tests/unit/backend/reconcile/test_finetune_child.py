"""The child process of a fine-tune: what it comes to, killed anywhere; disk and memory that end."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from backend.errors import BackendError, NoAnswer
from backend.finetunes import Finetune, FinetuneRun, Finetunes
from backend.projects import ProjectStore
from backend.reconcile import finetune_child, finetune_children
from backend.reconcile.finetune_child import carry_out, shortage
from backend.reconcile.finetune_children import BUSY, LEFT, NO_MEMORY, NO_ROOM
from backend.settings import Settings
from models.backbones import Backbone
from models.recipes import finetune_backbone as recipe
from tests.unit.backend.reconcile.finetune_squares import current, due_squares, last
from tests.unit.backend.reconcile.squares import Service

POINTS = ("before-a-checkpoint", "mid-epoch", "before-judging", "while-judging", "after-verdict")


class Killed(BaseException):
    """Stands in for SIGKILL: nothing catches it."""


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A project with a run that was begun, whose child process is not there."""
    monkeypatch.setattr(finetune_children, "command", lambda run_dir: ["true"])
    service = due_squares(tmp_path)
    service.round()
    yield service
    for child in finetune_children._children.values():
        child.kill()
        child.wait()
    finetune_children._children.clear()


def begun(service: Service, **changes: object) -> tuple[Finetune, FinetuneRun]:
    """The run, with a checkpoint after every epoch."""
    run = current(service.store)
    about = run.run
    assert about is not None
    config = about.config.model_copy(
        update={"checkpoint_every_s": 0.0, "min_steps": 0, "epochs": 20, **changes}
    )
    about = about.model_copy(update={"config": config})
    (run.path / "run.json").write_text(about.model_dump_json())
    return run, about


def again(run: Finetune) -> Finetune:
    """The same run from its beginning, where the loop does not see it."""
    other = Finetune(run.path.parent.with_name("undisturbed") / "0001")
    other.path.mkdir(parents=True)
    for name in ("run.json", "images.json"):
        (other.path / name).write_bytes((run.path / name).read_bytes())
    return other


def result(run: Finetune) -> tuple[bytes, dict[str, object]]:
    """Weights and verdict, bit for bit."""
    outcome = json.loads((run.path / "outcome.json").read_text())
    del outcome["seconds"]
    return (run.path / "candidate" / "weights.safetensors").read_bytes(), outcome


def arm(point: str, die: Callable[[], None], patch: Callable[[object, str, object], None]) -> None:
    """Let the run die at a point; where exactly in an epoch, a seed decides."""
    step = random.Random(point).randint(2, 15)
    if point in {"before-a-checkpoint", "mid-epoch"}:
        seen = 0

        class Told(finetune_child._Spent):
            def tell(self, done: int, total: int, message: str = "") -> None:
                nonlocal seen
                trained = (self._path.parent / "checkpoint.safetensors").exists()
                if message.startswith("epoch") and trained == (point == "mid-epoch"):
                    seen += 1
                    # One step an epoch with so few labels: the first dies before its end.
                    if seen == (1 if point == "before-a-checkpoint" else step):
                        die()
                super().tell(done, total, message)

        patch(finetune_child, "_Spent", Told)
    elif point == "before-judging":
        patch(recipe._Run, "_kept", lambda *_: die())
    elif point == "while-judging":
        patch(recipe._Run, "_judge", lambda *_: die())
    else:
        patch(finetune_child._Spent, "end", lambda *_: die())


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_resumed_it_comes_to_the_same_bits(
    point: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, about = begun(service, batch=16)
    whole = again(run)
    settings, store = service.settings, service.store
    carry_out(whole, about, store, settings)

    def die() -> None:
        raise Killed

    with monkeypatch.context() as patched:
        arm(point, die, lambda where, name, new: patched.setattr(where, name, new))
        with pytest.raises(Killed):
            carry_out(run, about, store, settings)
    assert (run.outcome is not None) == (point == "after-verdict")
    carry_out(run, about, store, settings)
    assert result(run) == result(whole)
    assert run.outcome is not None
    assert run.outcome.verdict.promoted, run.outcome.verdict.reasons
    assert Backbone.load(run.path / "candidate").fingerprint == run.outcome.candidate


def test_what_came_of_it_is_promoted(service: Service) -> None:
    run, about = begun(service)
    carry_out(run, about, service.store, service.settings)
    progress = run.progress
    assert (progress.message, progress.pid) == ("ended", os.getpid())
    assert progress.seconds > 0
    first = service.served
    service.round()
    record = last(service.store).record
    assert record.state == "promoted", record.reasons
    assert record.before is not None
    assert record.after is not None
    assert record.after > record.before
    assert service.served.version > first.version


def test_an_image_that_cannot_be_read_is_left_out_in_every_try(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, about = begun(service, epochs=1)
    addresses = json.loads((run.path / "images.json").read_text())
    gone, *_ = addresses["of_task"]
    good = addresses["of_task"][gone]
    addresses["of_task"][gone] = "data:image/png;base64,AAAA"
    (run.path / "images.json").write_text(json.dumps(addresses))
    carry_out(run, about, service.store, service.settings)
    assert len(json.loads((run.path / "read.json").read_text())["ids"]) == 59
    addresses["of_task"][gone] = good
    (run.path / "images.json").write_text(json.dumps(addresses))
    carry_out(run, about, service.store, service.settings)  # finished, and not begun anew
    assert not (run.path / "images" / gone).exists()


def test_images_that_are_away_for_a_moment_decide_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, about = begun(service, epochs=1)
    true = finetune_child.media_of(service.settings)

    class Away:
        def fetch(self, uri: str, *, task_id: int, project_key: str) -> bytes:
            if task_id % 2:
                raise NoAnswer("the host did not answer")
            return true.fetch(uri, task_id=task_id, project_key=project_key)

    with monkeypatch.context() as patch:
        patch.setattr(finetune_child, "media_of", lambda settings: Away())
        with pytest.raises(BackendError, match="could not be had now"):
            carry_out(run, about, service.store, service.settings)
        assert not (run.path / "read.json").exists()
        run.keep(run.record.model_copy(update={"tries": 3}))  # patience ends
        finetune_child._pictures(run, about, service.store, service.settings, lambda *_: None)
    kept = json.loads((run.path / "read.json").read_text())["ids"]
    assert 0 < len(kept) < 60


def _raised(make: Callable[[], object]) -> Exception:
    try:
        make()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def _write(path: str) -> None:
    with Path(path).open("wb", buffering=0) as file:
        file.write(b"-")


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        pytest.param(lambda: _write("/dev/full"), NO_ROOM, "the disk is full", marks=FULL),
        (lambda: bytearray(2**60), NO_MEMORY, "not enough memory"),
        (lambda: torch.empty(2**58), NO_MEMORY, "not enough memory"),
        (lambda: Path("/nowhere/at/all").read_bytes(), 0, ""),
        (lambda: 1 / 0, 0, ""),
    ],
)
def test_shortage_is_told_by_what_is_really_raised(
    make: Callable[[], object], code: int, said: str
) -> None:
    found, reason = shortage(_raised(make))
    assert found == code
    assert said in reason


@pytest.mark.parametrize(
    ("error", "code", "said", "final"),
    [
        (MemoryError(), NO_MEMORY, "there was not enough memory", False),
        (OSError(errno.ENOSPC, "No space left on device"), NO_ROOM, "the disk is full", False),
    ],
)
def test_a_shortage_is_told_and_the_run_goes_on_later(
    error: Exception,
    code: int,
    said: str,
    final: bool,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, about = begun(service, batch=16)
    whole = again(run)
    carry_out(whole, about, service.store, service.settings)
    before = service.served

    def die() -> None:
        raise error

    with monkeypatch.context() as patched:
        arm("mid-epoch", die, lambda where, name, new: patched.setattr(where, name, new))
        assert finetune_child._guarded(run, service.store, service.settings) == code
    service.round()
    assert said in run.record.failure
    assert any("tried again in" in why and said in why for why in service.report.why_not)
    assert service.served == before
    # Later, where the first try came to.
    run.keep(run.record.model_copy(update={"retry_s": 0.0}))
    assert finetune_child._guarded(run, service.store, service.settings) in {0, BUSY}
    carry_out(run, about, service.store, service.settings)
    assert result(run) == result(whole)


def test_what_never_works_is_not_tried_again(service: Service) -> None:
    run, _ = begun(service, strategy="luck")
    assert finetune_child._guarded(run, service.store, service.settings) == 1
    assert run.failure is not None
    assert run.failure.final
    service.round()
    assert last(service.store).record.state == "failed"
    assert "luck" in last(service.store).record.reasons[0]


# Processes of their own ---------------------------------------------------------------------------

_KILLER = """
import os, signal, sys
from pathlib import Path
import models.recipes.finetune_backbone
from backend.reconcile import finetune_child
from backend.settings import Settings
from tests.unit.backend.reconcile.test_finetune_child import arm
point, run_dir = sys.argv[1:3]
if point:
    arm(point, lambda: os.kill(os.getpid(), signal.SIGKILL), setattr)
sys.exit(finetune_child.main(Path(run_dir), parent=os.getppid(), settings=Settings()))
"""


@pytest.fixture
def as_child(
    service: Service, clean_environment: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Run the child process, to be killed at a point; returns its exit code."""
    monkeypatch.setenv("RAREFIRST_DATA_DIR", str(service.settings.data_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", service.settings.label_studio_url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "not-a-token")

    def run(folder: Path, point: str = "") -> int:
        command = [sys.executable, "-c", _KILLER, point, str(folder)]
        return subprocess.run(command, check=False, timeout=300).returncode

    return run


@pytest.mark.slow
def test_one_run_killed_five_times_with_sigkill(
    service: Service, as_child: Callable[..., int]
) -> None:
    run, _ = begun(service, batch=16)
    whole = again(run)
    assert as_child(whole.path) == 0
    for point in POINTS:
        assert as_child(run.path, point) == -signal.SIGKILL, point
        assert not run.alive
    assert as_child(run.path) == 0
    assert result(run) == result(whole)
    assert service.store.hinted_at("changed") is not None  # a round starts at once


@pytest.mark.slow
def test_files_that_may_not_grow_are_a_full_disk(
    service: Service, clean_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    run, _ = begun(service)
    monkeypatch.setenv("RAREFIRST_DATA_DIR", str(service.settings.data_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", service.settings.label_studio_url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "not-a-token")
    command = [sys.executable, "-c", _KILLER, "", str(run.path)]
    code = subprocess.run(
        command,
        check=False,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
    ).returncode
    assert code == NO_ROOM
    assert run.failure is not None
    assert "the disk is full" in run.failure.reason
    assert not run.failure.final


@pytest.mark.slow
def test_it_ends_when_the_project_is_paused_or_its_worker_is_gone(
    service: Service, as_child: Callable[..., int]
) -> None:
    run, _ = begun(service, epochs=100_000)
    service.store.path("paused").touch()
    assert as_child(run.path) == LEFT
    service.store.path("paused").unlink()
    script = (
        "import subprocess, sys, time;"
        "p = subprocess.Popen([sys.executable, '-m', 'backend.cli', 'finetune-child', sys.argv[1],"
        " '--parent', str(__import__('os').getpid())]);"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(run.path)], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        deadline = time.monotonic() + 120
        while not (run.path / "checkpoint.safetensors").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert run.alive
        assert os.getpriority(os.PRIO_PROCESS, child) >= 10
        worker.kill()
    deadline = time.monotonic() + 20
    while run.alive:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def store_of(settings: Settings) -> ProjectStore:
    """The only project's folder."""
    (path,) = (settings.data_dir / "projects").iterdir()
    return ProjectStore(path)


@pytest.mark.slow
def test_from_labels_to_a_better_queue_by_a_real_child(
    tmp_path: Path, clean_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = due_squares(tmp_path)
    monkeypatch.setenv("RAREFIRST_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("LABEL_STUDIO_URL", service.settings.label_studio_url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "not-a-token")
    store = service.round()
    first = service.served
    run = current(store)
    deadline = time.monotonic() + 120
    while finetune_children.is_running(run):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    service.round()
    assert run.record.state == "promoted", (run.path / "log.txt").read_text()
    assert service.served.version > first.version
    assert Finetunes(store).current() is None
