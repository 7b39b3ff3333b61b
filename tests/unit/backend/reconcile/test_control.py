"""What the control slice says of the pool: from ledger and labels alone, through the real order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.cli_tables import rare_left_words
from backend.reconcile.control import estimate
from backend.reconcile.ledger import DrawNote, Ledger
from backend.reconcile.order import Draw, control_ids, draw_notes, window
from backend.reports import RareLeftReport
from models.recipes.fit_miner import Miner
from models.types import Examples, IntArray, Judgement, RankedQueue
from tests.unit.backend.reconcile.squares import Service, begin_squares

Ids = NDArray[np.int64]


class ByScore:
    """A miner that orders by one number a task."""

    def __init__(self, scores: NDArray[np.float64]) -> None:
        self.scores = scores

    def rescore(
        self, examples: Examples, pool: IntArray, *, budget: int, seed: int
    ) -> tuple[Judgement, RankedQueue]:
        ids = examples.ids[pool]
        first = ids[np.argsort(-self.scores[ids], kind="stable")][:budget]
        rows = np.zeros(len(examples))
        judgement = Judgement(examples.ids, rows, rows.astype(np.int64), rows)
        return judgement, RankedQueue(first, ("tail x",) * len(first))


class Project:
    """Labels given in the served order; every version is fitted on the labels that are there."""

    def __init__(self, path: Path, *, seed: int, size: int, rare: int, share: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.seed, self.share = seed, share
        self.ledger = Ledger(path / f"{seed}.jsonl")
        self.is_rare = np.zeros(0, dtype=bool)
        self.scores: NDArray[np.float64] = np.zeros(0)
        self.labels: dict[int, tuple[str, ...]] = {}
        self.version = 0
        self.fitted_on: Ids = np.empty(0, dtype=np.int64)
        self.grow(size, rare)

    def grow(self, size: int, rare: int) -> None:
        """Import more tasks."""
        new = self.rng.permutation(size) < rare
        self.is_rare = np.concatenate([self.is_rare, new])
        self.scores = np.concatenate([self.scores, self.rng.normal(size=size) + 2.0 * new])

    @property
    def ids(self) -> Ids:
        return np.arange(len(self.is_rare), dtype=np.int64)

    @property
    def open(self) -> Ids:
        return np.setdiff1d(self.ids, np.asarray([*self.labels], dtype=np.int64))

    def fit(self) -> None:
        self.version += 1
        self.fitted_on = np.asarray(sorted(self.labels), dtype=np.int64)

    def publish(self, size: int) -> list[int]:
        """A window of the version's order, as the loop publishes it."""
        draw = Draw(share=self.share, block=size, seed=(self.seed, self.version))
        miner = cast(Miner, ByScore(self.scores))
        examples = Examples(self.ids, np.zeros((len(self.ids), 1), dtype=np.float16))
        queue, _ = window(
            miner,
            examples,
            fitted_on=self.fitted_on,
            open_ids=self.open,
            size=size,
            draw=draw,
            seed=0,
        )
        number = len(self.ledger.served())
        self.ledger.append(
            f"p{number}",
            kind="rarefirst",
            task_ids=queue.ids.tolist(),
            control_ids=control_ids(queue),
            draws=draw_notes(queue, draw, examples=self.ids, newest=int(self.ids[-1])),
        )
        return queue.ids.tolist()

    def label(self, ids: list[int]) -> None:
        self.labels |= {i: ("rare",) if self.is_rare[i] else ("common",) for i in ids}

    def estimate(self) -> RareLeftReport:
        return estimate(self.ledger, self.labels, ("rare",), self.open, control_share=self.share)

    @property
    def truth(self) -> int:
        return int(self.is_rare[self.open].sum())


def refitted(project: Project) -> None:
    """Ten labels a version."""
    for _ in range(15):
        project.fit()
        project.label(project.publish(40)[:10])


def topped_up(project: Project) -> None:
    """One version, published again when a third is left: draws of later blocks too."""
    project.fit()
    for _ in range(5):
        project.label(project.publish(40)[:27])


def gone_back(project: Project) -> None:
    """An older version is served again, between newer ones."""
    project.fit()
    first, version = project.fitted_on, project.version
    for number in range(12):
        if number % 4 == 3:
            newest, latest = project.fitted_on, project.version
            project.fitted_on, project.version = first, version
            project.label(project.publish(40)[:12])
            project.fitted_on, project.version = newest, latest
            continue
        if number:
            project.fit()
        project.label(project.publish(40)[:12])


@pytest.mark.parametrize(
    ("history", "rare", "share"),
    [
        pytest.param(refitted, 8, 0.2, id="refitted-eight-rare"),
        pytest.param(refitted, 120, 0.4, id="refitted-a-quarter-rare"),
        pytest.param(topped_up, 60, 0.2, id="topped-up"),
        pytest.param(gone_back, 60, 0.2, id="gone-back"),
    ],
)
def test_the_interval_holds_the_truth_through_order_and_ledger(
    tmp_path: Path, history: Callable[[Project], None], rare: int, share: float
) -> None:
    held, errors = [], []
    for seed in range(40):
        project = Project(tmp_path, seed=seed, size=500, rare=rare, share=share)
        history(project)
        found = project.estimate()
        assert found.total is not None
        held.append(found.total.low <= project.truth <= found.total.high)
        errors.append(found.total.likely - project.truth)
        assert (found.newer, found.tasks) == (0, len(project.open))
        assert found.found + project.truth == rare
    assert np.mean(held) >= 0.93
    assert abs(np.mean(errors)) < 15


def test_later_tasks_count_once_a_draw_could_bring_them(tmp_path: Path) -> None:
    project = Project(tmp_path, seed=0, size=300, rare=6, share=0.5)
    refitted(project)
    before = project.estimate()
    assert (before.tasks, before.newer) == (150, 0)
    project.grow(300, 150)
    later = project.estimate()
    assert (later.tasks, later.newer) == (150, 300)
    assert later.total == before.total
    refitted(project)
    after = project.estimate()
    assert (after.tasks, after.newer) == (len(project.open), 0)
    assert after.labels < 150, "what was drawn from half of the tasks says nothing of all"
    assert after.total is not None
    assert after.total.low <= project.truth <= after.total.high
    # A few newer tasks are no reason to forget what is known of the others.
    project.grow(10, 0)
    assert project.estimate().newer == 10
    assert project.estimate().labels == after.labels


def test_what_older_releases_wrote_down_counts(tmp_path: Path) -> None:
    line = {"name": "a", "origin": "queue", "ids": [1, 2, 30], "control": [5, 9]}
    (tmp_path / "l").write_text(json.dumps(line) + "\n")
    labels = {5: ("rare",), 9: ("common",), 1: ("common",), 100: ("rare",)}
    unlabeled = np.arange(10, 30)
    found = estimate(Ledger(tmp_path / "l"), labels, ("rare",), unlabeled, control_share=0.1)
    assert (found.labels, found.rare, found.tasks, found.newer) == (2, 1, 20, 0)
    assert found.found == 2
    assert found.total is not None
    assert found.total.high >= 10


def test_a_drawn_task_that_another_queue_held_later_is_no_draw(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    note = DrawNote(key="k", newest=50, control=(1, 2))
    ledger.append("a", kind="rarefirst", task_ids=[1, 2, 3], control_ids=[1, 2], draws=[note])
    ledger.append("b", kind="rarefirst", task_ids=[2, 4], control_ids=[])
    labels = dict.fromkeys((1, 2, 3, 4), ("rare",))
    found = estimate(ledger, labels, ("rare",), np.arange(5, 51), control_share=0.1)
    assert (found.labels, found.rare) == (1, 1)


def test_each_class_has_its_own_number(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    drawn = tuple(range(40))
    note = DrawNote(key="k", newest=400, control=drawn)
    ledger.append("a", kind="rarefirst", task_ids=drawn, control_ids=drawn, draws=[note])
    labels = {i: ("x",) if i < 4 else ("y",) if i < 5 else ("z", "z") for i in drawn}
    found = estimate(ledger, labels, ("x", "y"), np.arange(40, 401), control_share=0.1)
    assert found.total is not None
    x, y = found.by_class["x"], found.by_class["y"]
    assert (x.likely, y.likely, found.total.likely) == pytest.approx((36, 9, 45), abs=1)
    assert y.low == 0 < x.low < found.total.low


def test_a_task_with_several_classes_counts_for_each_and_once_in_total(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    drawn = tuple(range(40))
    note = DrawNote(key="k", newest=400, control=drawn)
    ledger.append("a", kind="rarefirst", task_ids=drawn, control_ids=drawn, draws=[note])
    labels = {i: ("x", "y", "y") if i < 4 else () if i < 8 else ("z",) for i in drawn}
    found = estimate(ledger, labels, ("x", "y"), np.arange(40, 401), control_share=0.1)
    assert (found.labels, found.rare, found.found) == (40, 4, 4)
    assert found.by_class["x"] == found.by_class["y"] == found.total


def test_nothing_is_made_up_without_a_label_of_the_slice(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    unlabeled = np.arange(2, 9)
    found = estimate(ledger, {1: ("x",)}, ("x",), unlabeled, control_share=0.0)
    assert (found.total, found.at_most, found.labels, found.newer) == (None, None, 0, 7)
    (words,) = rare_left_words(found)
    assert "RAREFIRST_CONTROL_SHARE=0.1" in words
    ledger.append("a", kind="rarefirst", task_ids=[2, 3], control_ids=[3])
    found = estimate(ledger, {1: ("x",), 2: ("x",)}, ("x",), unlabeled[1:], control_share=0.25)
    assert rare_left_words(found) == ["not known: no label of the random slice (25%) yet"]


def test_the_words_say_when_labeling_may_stop(tmp_path: Path) -> None:
    project = Project(tmp_path, seed=3, size=400, rare=80, share=0.5)
    said = []
    while len(project.open) > 10:
        project.fit()
        project.label(project.publish(40)[:20])
        said.append(rare_left_words(project.estimate()))
    first, *_ = said[0]
    assert first.startswith("about ")
    assert first.endswith(", labeled 13")
    assert len(said[0]) == 2, "no bound is told while it says little"
    stops = [any("finds hardly any more" in line for line in lines) for lines in said]
    assert stops == sorted(stops)
    assert stops[-1]
    at = stops.index(True)
    assert any(line.startswith("at most ") for line in said[at])


def test_a_project_tells_it_by_its_own_files(tmp_path: Path, clean_environment: None) -> None:
    service: Service = begin_squares(tmp_path, control_share=0.25)
    assert service.report.rare_left == RareLeftReport(control_share=0.25, found=2, newer=36)
    for _ in range(6):
        service.label(3)
        service.round()
    found = service.report.rare_left
    labels = service.report.labels_by_origin
    assert found.labels == labels["control"] > 0
    assert (found.tasks, found.newer, found.found) == (18, 0, 4)
    assert found.total is not None
    assert found.total.low == 0 <= found.total.high <= 18
    line = json.loads((service.store.path("ledger.jsonl")).read_text().splitlines()[0])
    assert [draw["control"] for draw in line["draws"]] == [line["control"]]
    # Without the mirror it is told again from ledger and labels.
    (service.store.path("report.json")).unlink()
    service.store.hint("changed")
    service.round()
    assert service.report.rare_left == found
