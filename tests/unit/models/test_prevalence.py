"""What is left in the pool: against exact tests, and over seeded replays of mining."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import hypergeom

from models.errors import ShapeError
from models.prevalence import Draw, RareLeft, rare_left


@dataclass
class Replay:
    """Rounds of labeling: a few tasks at random, the others by a score."""

    seed: int
    size: int
    rare: int
    per_round: int
    at_random: int
    helps: float  # how many standard deviations the score sets the rare ones apart

    def looks(self, rounds: int) -> list[tuple[list[Draw], int, int]]:
        """After each round: the draws so far, unlabeled tasks, rare ones among them."""
        rng = np.random.default_rng(self.seed)
        is_rare = np.arange(self.size) < self.rare
        score = rng.normal(size=self.size) + self.helps * is_rare
        is_open = np.ones(self.size, dtype=bool)
        draws: list[tuple[int, int, int, int]] = []
        looks = []
        for _ in range(rounds):
            before = ~is_open
            rows = np.flatnonzero(is_open)
            drawn = rng.choice(rows, self.at_random, replace=False)
            rest = np.setdiff1d(rows, drawn)
            mined = rest[np.argsort(-score[rest])][: self.per_round - self.at_random]
            draws.append(
                (len(drawn), int(is_rare[drawn].sum()), before.sum(), (before & is_rare).sum())
            )
            is_open[drawn] = is_open[mined] = False
            labeled, found = int((~is_open).sum()), int((~is_open & is_rare).sum())
            since = [Draw(n, k, int(labeled - a), int(found - b)) for n, k, a, b in draws]
            looks.append((since, int(is_open.sum()), int((is_open & is_rare).sum())))
        return looks


@pytest.mark.parametrize(
    ("size", "rare", "helps", "rounds", "at_random"),
    [
        pytest.param(800, 4, 3.0, 8, 4, id="half-a-percent-mined"),
        pytest.param(800, 40, 0.0, 8, 4, id="five-percent-no-better-than-random"),
        pytest.param(800, 40, 3.0, 30, 4, id="five-percent-nearly-all-found"),
        pytest.param(800, 40, 1.0, 30, 8, id="five-percent-half-of-it-control"),
        pytest.param(800, 240, 1.5, 15, 6, id="a-third-mined"),
        pytest.param(3000, 60, 1.0, 15, 10, id="two-percent-hard-to-tell"),
    ],
)
def test_the_interval_holds_the_truth(
    size: int, rare: int, helps: float, rounds: int, at_random: int
) -> None:
    held, errors = [], []
    for seed in range(80):
        replay = Replay(seed, size, rare, per_round=20, at_random=at_random, helps=helps)
        draws, unlabeled, truth = replay.looks(rounds)[-1]
        found = rare_left(draws, unlabeled=unlabeled)
        held.append(found.low <= truth <= found.high)
        errors.append(found.likely - truth)
        assert 0 <= found.low <= found.likely <= found.high <= unlabeled
    assert np.mean(held) >= 0.93
    # A number that cannot be negative is too large now and then, never by much on average.
    assert abs(np.mean(errors)) <= 0.015 * size


def test_at_most_holds_at_every_look_together() -> None:
    ever_wrong = []
    for seed in range(40):
        looks = Replay(seed, 600, 60, per_round=24, at_random=8, helps=1.0).looks(18)
        wrong = [
            truth > rare_left(draws, unlabeled=unlabeled).at_most
            for draws, unlabeled, truth in looks[::2]
        ]
        ever_wrong.append(any(wrong))
    assert np.mean(ever_wrong) <= 0.05


@pytest.mark.parametrize(("drawn", "rare"), [(30, 0), (30, 1), (60, 7), (25, 25), (200, 3)])
def test_one_draw_is_clopper_and_pearsons_interval(drawn: int, rare: int) -> None:
    size = 400
    found = rare_left([Draw(drawn, rare, drawn, rare)], unlabeled=size - drawn)
    totals = np.arange(rare, size - (drawn - rare) + 1)
    at_least = hypergeom.sf(rare - 1, size, totals, drawn)
    up_to = hypergeom.cdf(rare, size, totals, drawn)
    held = totals[(at_least > 0.025) & (up_to > 0.025)] - rare
    assert found.low == pytest.approx(held[0], abs=1.5)
    assert found.high == pytest.approx(held[-1], abs=1.5)
    assert found.at_most >= found.high - 2


def test_more_labels_narrow_it_down() -> None:
    few = rare_left([Draw(20, 1, 20, 1)], unlabeled=2000)
    many = rare_left([Draw(20, 1, 200, 30)] * 10, unlabeled=1820)
    assert many.high - many.low < (few.high - few.low) / 2
    assert few.likely == pytest.approx(2000 / 20, rel=0.02)


def test_what_was_mined_is_taken_off() -> None:
    # A tenth of 100 drawn from 1,000: about 100 rare then, of which 90 were found since.
    found = rare_left([Draw(100, 10, 300, 90)], unlabeled=700)
    assert found.likely == 10
    assert found.low == 0


def test_all_labeled_leaves_none() -> None:
    assert rare_left([Draw(5, 1, 50, 4)], unlabeled=0) == RareLeft(0, 0, 0, 0)


def test_a_large_pool_is_no_more_work() -> None:
    found = rare_left([Draw(3, k % 40 == 0, 90_000, 500) for k in range(300)], unlabeled=2_000_000)
    share = 8 / 900
    assert found.low < share * 2_090_000 - 500 < found.high


@pytest.mark.parametrize(
    ("draws", "words"),
    [
        ([], "no label of a random draw"),
        ([Draw(0, 0, 5, 1)], "no label of a random draw"),
        ([Draw(5, 2, 9, 1)], "expected the drawn ones among those labeled since"),
        ([Draw(5, 0, 6, 3)], "expected the drawn ones among those labeled since"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(draws: list[Draw], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        rare_left(draws, unlabeled=10)
    with pytest.raises(ShapeError, match="found -1 unlabeled"):
        rare_left([Draw(1, 0, 1, 0)], unlabeled=-1)
