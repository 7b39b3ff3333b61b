"""GALAXY on lines by hand, METHODS section 20.1, and against a search of graphs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.config import MinerConfig
from models.scorers.class_lines import Signs
from models.scorers.galaxy import CutSearch, Galaxy
from models.types import ClassSpace, Examples, FloatArray, IntArray, LabeledExamples


def _line(length: int, positives: int) -> Signs:
    """+ on top, - below."""
    return np.where(np.arange(length) < positives, 1, -1).astype(np.int8)


def _picks(truth: Signs, labeled: list[int], count: int) -> list[int]:
    known = np.zeros_like(truth)
    known[labeled] = truth[labeled]
    search = CutSearch(known)
    picks = []
    for _ in range(count):
        position, _ = search.next()
        assert search.next()[0] == position
        search.tell(position, int(truth[position]))
        picks.append(position)
    return picks


def test_the_line_of_65() -> None:
    picks = _picks(_line(65, 20), [0, 64], 12)
    # ceil(log2 64) = 6 answers close a gap 63 wide.
    assert picks[:6] == [32, 16, 24, 20, 18, 19]
    assert set(picks[6:10]) == {17, 21, 22, 23}
    assert picks[10:] == [15, 14]


def test_the_line_of_17() -> None:
    assert _picks(_line(17, 5), [0, 16], 4) == [8, 4, 6, 5]


def test_the_signs_may_be_swapped() -> None:
    truth = np.random.default_rng(0).choice(np.asarray([-1, 1], dtype=np.int8), 60)
    labeled = [3, 20, 41, 59]
    np.testing.assert_array_equal(_picks(truth, labeled, 56), _picks(-truth, labeled, 56))


def test_half_of_the_picks_are_positive_however_rare() -> None:
    truth = _line(10_000, 100)
    picks = _picks(truth, [0, 9_999], 100)
    assert int((truth[picks] > 0).sum()) == 47


def test_the_whole_line_is_asked_for_once() -> None:
    truth = np.random.default_rng(1).choice(np.asarray([-1, 1], dtype=np.int8), 200)
    assert sorted(_picks(truth, [0, 5, 100], 197)) == [
        i for i in range(200) if i not in (0, 5, 100)
    ]


def test_with_labels_of_one_sign_the_top_comes_first() -> None:
    assert _picks(_line(6, 0), [2], 5) == [0, 1, 3, 4, 5]
    # The first + below a - opens a gap.
    assert _picks(-_line(9, 4), [8], 4) == [0, 4, 2, 3]


def test_the_shortest_gap_comes_first_then_what_is_nearest_to_a_cut() -> None:
    signs = np.asarray([1, 0, 0, 0, -1, 0, 1, -1, -1, 0, 0, 0, 0, 0], dtype=np.int8)
    truth = np.where(signs, signs, 1).astype(np.int8)
    # 5 in the gap 4..6; 2 and 3 in 0..4; 1 and 9 are both two away from a cut, 10 follows 8|9.
    assert _picks(truth, np.flatnonzero(signs).tolist(), 6) == [5, 2, 3, 1, 9, 10]


def _by_brute_force(signs: Signs) -> int:
    """Steps 3 to 5 read off the whole line."""
    labeled = np.flatnonzero(signs)
    pairs = [(int(a), int(c)) for a, c in itertools.pairwise(labeled) if signs[a] != signs[c]]
    gaps = [(c - a, a) for a, c in pairs if c - a > 1]
    if gaps:
        length, before = min(gaps)
        return (2 * before + length) // 2
    unlabeled = np.flatnonzero(signs == 0).tolist()
    if not pairs:
        return int(unlabeled[0])
    return min(unlabeled, key=lambda i: (min(a - i if i < a else i - c for a, c in pairs), i))


@pytest.mark.parametrize("seed", range(10))
def test_it_picks_what_a_look_at_the_whole_line_picks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    length = int(rng.integers(5, 120))
    noise = rng.random(length) < 0.15
    truth = (_line(length, int(rng.integers(0, length))) * np.where(noise, -1, 1)).astype(np.int8)
    known = np.where(rng.random(length) < 0.1, truth, 0).astype(np.int8)
    search = CutSearch(known.copy())
    while not known.all():
        position, _ = search.next()
        assert position == _by_brute_force(known)
        # Every third answer comes from another line.
        if rng.random() < 0.3:
            position = int(rng.choice(np.flatnonzero(known == 0)))
        known[position] = truth[position]
        search.tell(position, int(truth[position]))


def test_without_answers_the_shortest_gap_is_cut_evenly() -> None:
    signs = np.zeros(65, dtype=np.int8)
    signs[[0, 64]] = 1, -1
    positions = [position for position, _ in CutSearch(signs).unanswered()]
    assert sorted(positions[:7]) == [8, 16, 24, 32, 40, 48, 56]
    assert positions[:3] == [32, 16, 48]
    assert set(positions) == set(range(1, 64))


def test_without_answers_a_closed_line_goes_outwards() -> None:
    signs = np.asarray([0, 0, 0, 1, -1, 0, 0], dtype=np.int8)
    positions = [position for position, _ in CutSearch(signs).unanswered()]
    assert positions == [2, 5, 1, 6, 0]
    signs = np.asarray([0, 1, 0, -1, 0, 0], dtype=np.int8)
    positions = list(dict.fromkeys(position for position, _ in CutSearch(signs).unanswered()))
    assert positions == [2, 0, 4, 5]


def _two_classes(first_id: int, scores: FloatArray) -> Examples:
    logits = np.stack([np.zeros(len(scores)), scores], axis=1).astype(np.float32)
    ids = np.arange(first_id, first_id + len(scores), dtype=np.int64)
    return Examples(ids, np.zeros((len(ids), 1), dtype=np.float32), logits)


def test_any_scale_of_the_probability_gives_the_same_picks() -> None:
    scores = np.sort(np.random.default_rng(0).normal(size=63))[::-1]

    def oracle(ids: IntArray) -> IntArray:
        answers: IntArray = (ids < 100 + 19).astype(np.int64)
        return answers

    picks = []
    for scale in (0.1, 1.0, 20.0):
        ends = _two_classes(0, np.asarray([9.0, -9.0]) * scale)
        pool = _two_classes(100, scores * scale)
        scorer = Galaxy(MinerConfig()).fit(
            LabeledExamples(ends, np.asarray([1, 0])), pool, classes=ClassSpace(("a", "b")), seed=0
        )
        picks.append((scorer.ask(pool, oracle, budget=12, seed=0).ids - 99).tolist())
    # The line of 65 again, through the scorer.
    assert picks[0][:6] == [32, 16, 24, 20, 18, 19]
    assert picks[0] == picks[1] == picks[2]


def test_without_answers_the_first_pick_is_the_same() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 30)
    logits = rng.normal(size=(90, 3)).astype(np.float32)
    features = np.zeros((90, 1), dtype=np.float32)
    labeled = LabeledExamples(Examples(np.arange(30), features[:30], logits[:30]), targets)
    pool = Examples(np.arange(30, 90), features[30:], logits[30:])
    scorer = Galaxy(MinerConfig()).fit(labeled, pool, classes=ClassSpace(("a", "b", "c")), seed=0)
    asked = scorer.ask(pool, lambda ids: np.zeros_like(ids), budget=5, seed=0)
    ranked = scorer.rank(pool, budget=5, seed=0)
    assert asked.ids[0] == ranked.ids[0]
    assert [reason.split()[-1] for reason in asked.reasons] == ["a", "b", "c", "a", "b"]
