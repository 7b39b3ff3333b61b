"""What ``benchmarks.bccd`` splits and sums up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.blood.cells import KEPT, TEST_PICTURES, TRAIN_PICTURES, split
from benchmarks.blood.page import chance_f, goals, mined, page, tuned
from benchmarks.blood.tiles import Tiles
from models.metrics import average_f, published_budgets


def tiles(pictures: int = 200, each: int = 6) -> Tiles:
    count = pictures * each
    rng = np.random.default_rng(0)
    holds = rng.random((count, 3)) < (0.6, 0.1, 0.15)
    return Tiles(
        picture=np.repeat(np.arange(pictures), each),
        pixels=torch.zeros(count, 4, 1, 1, dtype=torch.uint8),
        maps=[],
        boxes=((),) * count,
        holds=holds,
        shows=np.zeros_like(holds),
    )


@pytest.mark.parametrize("tail", [(1,), (2,), (1, 2)])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_picture_is_tested_that_anything_was_learned_of(
    tail: tuple[int, ...], seed: int
) -> None:
    every = tiles()
    parts = split(every, tail, seed)
    tested = set(every.picture[parts.test].tolist())
    assert len(tested) == TEST_PICTURES
    assert not tested & set(every.picture[parts.train].tolist())
    assert not tested & set(every.picture[parts.pool].tolist())
    assert len(set(every.picture[parts.train].tolist())) <= TRAIN_PICTURES
    assert sorted([*parts.train, *parts.pool, *parts.test]) == list(range(len(every.picture)))


def test_the_training_tiles_hold_a_few_of_each_tail_class() -> None:
    every = tiles()
    held = every.holds[split(every, (1, 2), 0).train]
    assert KEPT <= held[:, 1].sum() <= 2 * KEPT
    assert KEPT <= held[:, 2].sum() <= 2 * KEPT
    assert held[:, 0].sum() > 50


def cell(seed: int, ours: float, others: float) -> dict[str, Any]:
    names = ("ap", "average_f", "p@10", "p@25", "p@50", "clear_ap", "clear_p@10", "clear_p@50")
    from benchmarks.blood.cells import SCORERS

    classes = {"WBC": {"ap": 0.1, "ap_50": 0.2, "ar": 0.3, "boxes": 5}}
    return {
        "seed": seed, "pool": 2000, "pool_tail": 100, "pool_fragments": 300,
        "train_boxes": {"WBC": 5}, "perfect": dict.fromkeys(names, 0.5),
        "scorers": {s: dict.fromkeys(names, ours if s == "rarefirst" else others) for s in SCORERS},
        "before": {"classes": classes},
    }  # fmt: skip


def after(scorer: str, ap: float) -> dict[str, Any]:
    classes = {"WBC": {"ap": ap, "ap_50": ap, "ar": ap, "boxes": 5}}
    figures = {"tail_ap": ap, "tail_ar": ap, "mean_ap": ap, "classes": classes}
    return {"scorer": scorer, "budget": 50, "after": figures, "new_boxes": {"WBC": 3}}


def test_chance_is_what_random_orders_have_on_average() -> None:
    one = cell(0, 0.3, 0.1)
    rng = np.random.default_rng(0)
    hits = np.arange(2000) < 100
    budgets = published_budgets(2000)
    found = [average_f(rng.permutation(hits), 100, budgets) for _ in range(300)]
    assert chance_f(one) == pytest.approx(float(np.mean(found)), rel=0.05)


def test_the_gain_is_between_chance_and_perfect() -> None:
    chance = chance_f(cell(0, 0, 0))
    told = mined([cell(0, 0.5, chance), cell(1, 0.5, chance)])
    assert told["scorers"]["rarefirst"]["gain"] == {"mean": 1.0, "std": 0.0}
    assert told["scorers"]["entropy"]["gain"]["mean"] == pytest.approx(0)


def test_goals_are_judged_with_the_spread() -> None:
    told: dict[str, Any] = {
        "mined": {"white": mined([cell(0, 0.40, 0.30), cell(1, 0.30, 0.20)])},
        "tuned": {"white": tuned([after("rarefirst", 0.3), after("random", 0.2)])},
    }
    found = goals(told)["white"]
    assert found["half_of_the_possible_gain"]
    assert found["above_beyond_the_spread"] == {"entropy": False, "max_score": False}
    assert found["fine_tuned_better_than_random_50"]
    told["mined"]["white"] = mined([cell(0, 0.40, 0.20), cell(1, 0.40, 0.20)])
    assert goals(told)["white"]["above_beyond_the_spread"] == {"entropy": True, "max_score": True}


def test_the_page_tells_every_scorer_and_the_fine_tunes() -> None:
    told: dict[str, Any] = {
        "command": "x", "date": "2026-11-22", "cpu_minutes": 1.0,
        "mined": {"white": mined([cell(0, 0.4, 0.2)])},
        "tuned": {"white": tuned([after("rarefirst", 0.3)])},
    }  # fmt: skip
    text = page(told)
    assert "| rarefirst | 0.400 ± 0.000 |" in text
    assert "| rarefirst 50 | 30.0 ± 0.0 / 30.0 |" in text
    assert "## Tail: platelets" not in text
