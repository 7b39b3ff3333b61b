"""`scorer: auto`: what is better beyond chance is chosen, else the default; the card says why."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import pytest

from models.config import MinerConfig
from models.recipes import backtest as recipe
from models.recipes import choose_scorer as choosing
from models.recipes import fit_miner as fitting
from models.recipes.choose_scorer import QUICK, choose_scorer
from models.recipes.fit_miner import Miner, fit_miner
from models.scorers import SCORERS
from models.scorers.base import head_of_queue
from models.scorers.random import Random
from models.types import ClassSpace, Examples, LabeledExamples, RankedQueue

CLASSES = ClassSpace(("a", "b", "c"), (2,), (0.5, 0.46, 0.04))
CONFIG = MinerConfig(scorer="auto", autoencoder_steps=100, members=2)


class Knowing(Random):
    """Knows what no feature says: the tail has the highest ids."""

    learns: ClassVar[bool] = True

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        return head_of_queue(pool.ids.astype(np.float64), pool, budget, "known")


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    known = MappingProxyType({**SCORERS, "knowing": Knowing})
    for module in (recipe, choosing, fitting):
        monkeypatch.setattr(module, "SCORERS", known)
    monkeypatch.setattr(choosing, "CANDIDATES", ("rarefirst", "tail_mass", "knowing"))
    # A busy machine must not end a backtest early.
    monkeypatch.setattr(choosing, "QUICK", QUICK.model_copy(update={"time_limit_s": 600.0}))


def labels(*, telling: bool, counts: tuple[int, int, int] = (80, 80, 24)) -> LabeledExamples:
    """The tail has the highest ids; where ``telling``, a column tells each class too."""
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(3), counts)
    features = rng.normal(size=(len(targets), 4)).astype(np.float32)
    if telling:
        features[:, 1:] += 2 * np.eye(3, dtype=np.float32)[targets]
    return LabeledExamples(Examples(np.arange(len(targets)), features), targets)


def fit(given: LabeledExamples, config: MinerConfig = CONFIG) -> Miner:
    pool = Examples(given.examples.ids + 1000, given.examples.features)
    return fit_miner(given, pool, classes=CLASSES, config=config, seed=0)


def test_a_scorer_that_is_better_beyond_chance_is_chosen(tmp_path: Path) -> None:
    miner = fit(labels(telling=False))
    assert miner.kind == "knowing"
    assert miner.explanation == ""
    assert miner.choice.startswith("auto: knowing, which covers +0.")
    for name in ("knowing", "rarefirst", "tail_mass"):
        assert f"{name} 0." in miner.choice
        assert 0 <= miner.metrics[f"backtest_{name}"] <= 1
    assert miner.metrics["backtest_knowing"] > miner.metrics["backtest_rarefirst"] + 0.2
    miner.save(tmp_path)
    loaded = Miner.load(tmp_path)
    assert (loaded.kind, loaded.choice, loaded.config) == ("knowing", miner.choice, CONFIG)
    pool = labels(telling=False).examples
    queues = [it.queue(pool, budget=20, seed=0) for it in (miner, loaded)]
    assert queues[0].ids.tolist() == queues[1].ids.tolist()
    assert set(queues[0].reasons) == {"known"}
    # It still says how likely each is rare.
    assert miner.judge(pool).rarity.max() > 0


def test_where_nothing_is_better_the_default_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "CANDIDATES", ("random", "tail_mass", "rarefirst"))
    miner = fit(labels(telling=True))
    assert miner.kind == "rarefirst"
    assert miner.choice.startswith("auto: rarefirst, no other is better beyond chance in 8 hold-")
    assert "184 labels, 24 of them rare" in miner.choice


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((80, 80, 5), "found 5 labels of tail classes"),
        ((80, 80, 1), "found 0 labels of tail classes"),
        ((3, 2, 24), "found 5 labels of common classes"),
    ],
)
def test_too_few_labels_leave_the_default(counts: tuple[int, int, int], said: str) -> None:
    miner = fit(labels(telling=False, counts=counts))
    assert miner.kind == "rarefirst"
    assert miner.choice.startswith("auto: rarefirst, since scorers cannot be compared yet")
    assert said in miner.choice
    assert not any(name.startswith("backtest") for name in miner.metrics)


def test_what_takes_too_long_leaves_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "QUICK", QUICK.model_copy(update={"time_limit_s": 1e-9}))
    miner = fit(labels(telling=False))
    assert miner.kind == "rarefirst"
    assert "0 hold-outs were made within 1e-09 s" in miner.choice


def test_the_choice_is_a_function_of_labels_and_seed() -> None:
    given = labels(telling=False)
    choices = [
        choose_scorer(given, classes=CLASSES, config=CONFIG, seed=seed) for seed in (0, 0, 1)
    ]
    assert choices[0] == choices[1]
    assert choices[0].figures != choices[2].figures


def test_without_auto_nothing_is_compared() -> None:
    miner = fit(labels(telling=False), CONFIG.model_copy(update={"scorer": "tail_mass"}))
    assert (miner.kind, miner.choice) == ("tail_mass", "")
    assert not any(name.startswith("backtest") for name in miner.metrics)
