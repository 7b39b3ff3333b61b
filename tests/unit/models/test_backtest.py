"""Backtests on planted data, of which it is known who wins."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType, SimpleNamespace
from typing import ClassVar, Self

import numpy as np
import pytest

from models.config import BacktestConfig, MinerConfig
from models.errors import ConfigError, NotEnoughLabels, OutOfTime, ShapeError
from models.holdouts import Provenance
from models.label_head import LabelHead
from models.recipes import backtest as recipe
from models.recipes.backtest import backtest
from models.recipes.backtest_report import BacktestReport
from models.scorers import SCORERS
from models.scorers.base import head_of_queue
from models.scorers.random import Random
from models.types import ClassSpace, Examples, IntArray, LabeledExamples, RankedQueue

CLASSES = ClassSpace(("a", "b", "c", "d"), (2, 3), (0.5, 0.42, 0.04, 0.04))
CONFIG = MinerConfig(autoencoder_steps=100, members=2)
SETTINGS = BacktestConfig(repeats=8)


class Column(Random):
    """Orders by the feature at ``column``; keeps what it was shown."""

    learns: ClassVar[bool] = True
    column: ClassVar[int] = 0
    seen: ClassVar[list[tuple[set[int], set[int]]]] = []

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        self.seen.append((set(labeled.examples.ids.tolist()), set(pool.ids.tolist())))
        return self

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        return head_of_queue(pool.features[:, self.column], pool, budget, "column")


class Telling(Column):
    column = 1


class Refusing(Column):
    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        raise NotEnoughLabels("found no head; expected one")


class Asking(Column):
    """Asks for everything, and then orders by the answers: as good as can be."""

    def ask(
        self, pool: Examples, oracle: Callable[[IntArray], IntArray], *, budget: int, seed: int
    ) -> RankedQueue:
        return head_of_queue(oracle(pool.ids), pool, budget, "asked")


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = {"noise": Column, "telling": Telling, "refusing": Refusing, "asking": Asking}
    monkeypatch.setattr(recipe, "SCORERS", MappingProxyType({**SCORERS, **planted}))
    monkeypatch.setattr(Column, "seen", [])


def labels(counts: tuple[int, ...] = (120, 100, 16, 12), seed: int = 0) -> LabeledExamples:
    """Column 0 is noise, column 1 tells the tail from the head."""
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.repeat(np.arange(4), counts))
    features = rng.normal(size=(len(targets), 6)).astype(np.float32)
    features[:, 1] += 4 * (targets >= 2)
    ids = rng.permutation(len(targets)).astype(np.int64) + 500
    return LabeledExamples(Examples(ids, features), targets)


def run(*scorers: str, given: LabeledExamples | None = None, seed: int = 0) -> BacktestReport:
    return backtest(
        given or labels(),
        classes=CLASSES,
        scorers=scorers,
        config=CONFIG,
        settings=SETTINGS,
        seed=seed,
    )


def test_what_is_better_beyond_chance_is_chosen() -> None:
    report = run("noise", "telling")
    assert (report.default, report.chosen) == ("noise", "telling")
    best, default = report.results
    assert (best.scorer, best.better, default.better) == ("telling", True, False)
    assert best.against_default is not None
    assert best.against_default.low > 0.3
    assert default.against_default is None
    assert best.found[0].mean > 0.8 * report.hidden_rare > 11
    assert best.recall_by_class["c"].mean > 0.8
    # Noise finds what random order does.
    assert default.found[-1].low <= report.by_chance[-1] <= default.found[-1].high
    assert report.prevalence == pytest.approx(0.08)
    assert "telling would have found" in report.conclusion
    assert "more than chance" in report.conclusion


def test_where_nothing_differs_the_default_stays() -> None:
    report = run("random", "noise")
    assert report.chosen == "random"
    assert not any(result.better for result in report.results)
    assert "the other scorer is not better than random beyond chance" in report.conclusion


def test_rarefirst_is_the_default_wherever_it_is_named() -> None:
    report = run("random", "rarefirst")
    assert (report.default, report.chosen) == ("rarefirst", "rarefirst")
    assert report.results[0].scorer == "rarefirst"
    assert "none" not in report.conclusion


def test_hidden_labels_never_reach_a_fit() -> None:
    run("noise", "telling")
    assert len(Column.seen) == 16
    for known, hidden in Column.seen:
        assert not known & hidden
        assert len(known | hidden) == 248
    # Both scorers saw the same hold-outs, and every hold-out is another one.
    assert Column.seen[0::2] == Column.seen[1::2]
    assert len({frozenset(hidden) for _, hidden in Column.seen}) == 8


def test_the_same_seed_tells_the_same_in_whatever_order_labels_come() -> None:
    given = labels()
    turned = np.arange(len(given))[::-1].copy()
    other = LabeledExamples(given.examples.take(turned), given.targets[turned])
    reports = [run("telling", "tail_mass", given=it) for it in (given, given, other)]
    plain = [
        [result.model_copy(update={"seconds": 0.0}) for result in report.results]
        for report in reports
    ]
    assert plain[0] == plain[1] == plain[2]
    other_seed = run("telling", "tail_mass", seed=1)
    assert other_seed.of("telling").coverage != reports[0].of("telling").coverage


def test_a_scorer_that_refuses_says_why_and_the_others_go_on() -> None:
    report = run("noise", "refusing", "telling")
    assert [result.scorer for result in report.results] == ["telling", "noise", "refusing"]
    assert report.results[-1].refused == "found no head; expected one"
    assert report.results[-1].coverage is None
    with pytest.raises(NotEnoughLabels, match="refusing: found no head"):
        run("refusing")


def test_a_scorer_that_asks_is_told_the_answers() -> None:
    asking = run("noise", "asking").of("asking")
    assert asking.asks
    assert asking.found[0].mean == 14
    assert asking.average_precision is not None
    assert asking.average_precision.mean == 1


def test_a_tail_class_with_one_label_is_learned_from_only() -> None:
    report = run("noise", "telling", given=labels((120, 100, 16, 1)))
    assert list(report.results[0].recall_by_class) == ["c"]
    assert "d has one label" in report.notes[0]


def test_logits_of_a_head_that_saw_the_labels_are_not_shown() -> None:
    given = labels()
    truth = 9 * np.eye(4, dtype=np.float32)[given.targets]
    noise = Examples(given.examples.ids, given.examples.features[:, 2:], truth)
    found = [
        backtest(
            LabeledExamples(noise, given.targets),
            classes=CLASSES,
            scorers=["tail_mass"],
            config=CONFIG,
            settings=SETTINGS,
            provenance=Provenance(trained_on=trained_on),
            seed=0,
        )
        for trained_on in (0, 200)
    ]
    means = [it.coverage.mean for report in found for it in report.results if it.coverage]
    assert means[0] > 0.8
    assert means[1] < 0.3
    assert "trained on 200 of the labels" in found[1].notes[-1]


def test_a_head_that_saw_the_labels_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[LabelHead | None] = []

    class Looking(Telling):
        def fit(
            self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
        ) -> Self:
            shown.append(labeled.head)
            return self

    monkeypatch.setattr(recipe, "SCORERS", MappingProxyType({"looking": Looking}))
    head = LabelHead(np.eye(6, 4, dtype=np.float32), np.zeros(4, np.float32), np.arange(4), 4)
    for trained_on, expected in ((0, head), (200, None)):
        backtest(
            LabeledExamples(labels().examples, labels().targets, head),
            classes=CLASSES,
            scorers=["looking"],
            config=CONFIG,
            settings=SETTINGS,
            provenance=Provenance(trained_on=trained_on),
            seed=0,
        )
        assert {id(found) for found in shown} == {id(expected)}
        shown.clear()


def test_the_time_limit_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(recipe, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    # A look at the clock before each fit, and two in it; the fourth hold-out is not finished.
    settings = BacktestConfig(repeats=50, time_limit_s=3 * 2 * 3 + 2)
    given = {"classes": CLASSES, "config": CONFIG, "scorers": ["noise", "telling"], "seed": 0}
    report = backtest(labels(), settings=settings, **given)
    assert report.repeats == 3
    assert "3 of 50 hold-outs" in report.notes[-1]
    whole = backtest(labels(), settings=BacktestConfig(repeats=3), **given)
    assert [it.found for it in report.results] == [it.found for it in whole.results]
    with pytest.raises(OutOfTime, match="1 hold-outs were made within 7 s, expected 2"):
        backtest(labels(), settings=BacktestConfig(time_limit_s=7), **given)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'best', 'auto'; expected some of rarefirst"):
        run("best", "rarefirst", "auto")
    with pytest.raises(ConfigError, match="found scorers none"):
        run()
    given = labels()
    broken = given.examples.features.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ShapeError, match="NaN"):
        run("noise", given=LabeledExamples(Examples(given.examples.ids, broken), given.targets))
    with pytest.raises(ConfigError, match="took no part"):
        run("noise").of("telling")


def test_progress_is_told_fit_by_fit() -> None:
    told: list[tuple[int, int, str]] = []
    backtest(
        labels(),
        classes=CLASSES,
        scorers=["noise", "telling"],
        config=CONFIG,
        settings=BacktestConfig(repeats=2),
        seed=0,
        progress=lambda done, total, message="": told.append((done, total, message)),
    )
    assert told == [(1, 4, "noise"), (2, 4, "telling"), (3, 4, "noise"), (4, 4, "telling")]
