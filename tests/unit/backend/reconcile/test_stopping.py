"""The worker ends: a round finishes the action at hand or leaves it, and begins no other one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from backend.reconcile.actions.bootstrap import BootstrapRun, wanted
from backend.reconcile.loop import Reconciler
from backend.settings import Settings
from benchmarks.wholeness import faults
from tests.unit.backend.reconcile.rounds import reconciler_of, run, served, settings_of, squares
from tests.unit.backend.reconcile.tiny_network import ADDRESS

SETTINGS = {
    **{"top_k": 20, "tail_min_labels": 10, "tail_threshold": 0.5, "backbone": ADDRESS},
    **{"embed_batch": 4, "embed_chunk": 16},
}


class Stopping:
    """Says that the worker ends from the n-th time on that it is asked."""

    def __init__(self, after: int) -> None:
        self.after, self.asked = after, 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked > self.after


def whole_round(data_dir: Path, stopping: Stopping | None) -> tuple[list[int], int]:
    """The queue after a round that was stopped and the one after it, and how often it was asked."""
    studio = squares(60, blue=(3, 17, 30, 50), labeled=24)
    settings = settings_of(data_dir=data_dir, **SETTINGS)
    loop = reconciler_of(studio, settings)
    if stopping is not None:
        (store,) = loop.discover()
        ending = Reconciler(settings, loop.client, loop.stores, stopping=stopping)
        ending.round(store, reason="hint")
        assert faults(data_dir) == []
        with store.lock() as free:
            assert free
    store = run(loop)
    assert len(set(studio.imports)) == len(studio.imports)  # no name is imported twice
    publication = served(store)
    assert studio.settings["model_version"] == publication.name
    return list(publication.task_ids), 0 if stopping is None else stopping.asked


def test_stopped_anywhere_the_next_worker_comes_to_the_same_queue(tmp_path: Path) -> None:
    never = Stopping(10_000)
    expected, asked = whole_round(tmp_path / "never", never)
    assert asked > 30
    rng = random.Random(0)
    for after in (0, 1, 2, 3, *rng.sample(range(4, asked), 6)):
        found, _ = whole_round(tmp_path / f"after-{after}", Stopping(after))
        assert found == expected, after


def test_one_that_ends_begins_nothing(tmp_path: Path) -> None:
    studio = squares(60, blue=(3, 17, 30, 50), labeled=24)
    settings = settings_of(data_dir=tmp_path, **SETTINGS)
    loop = reconciler_of(studio, settings)
    (store,) = loop.discover()
    before = dict(studio.calls)
    ending = Reconciler(settings, loop.client, loop.stores, stopping=lambda: True)
    assert ending.round(store, reason="hint")
    assert dict(studio.calls) == before


def test_a_training_whose_worker_was_gone_before_it_looked_ends(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    settings = Settings(data_dir=tmp_path / "data")
    config = BootstrapRun(
        **wanted(settings, ("red", "green")).model_dump(),
        labels={1: "red", 2: "green"},
        steps=100_000,
        device="cpu",
        max_pixels=10_000,
    )
    (tmp_path / "run.json").write_text(config.model_dump_json())
    command = [sys.executable, "-m", "backend.cli", "bootstrap", str(tmp_path)]
    ended = subprocess.run(
        [*command, "--parent", str(gone.pid)],
        env={**os.environ, "RAREFIRST_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr
