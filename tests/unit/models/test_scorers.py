"""What single scorers promise beyond the common suite."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.config import MinerConfig
from models.scorers.diversity import Diversity, farthest_first
from models.scorers.duplicates import spread
from models.scorers.rarefirst import RareFirst
from models.scorers.turns import take_turns
from models.types import ClassSpace, Examples, FloatArray, LabeledExamples

CONFIG = MinerConfig(autoencoder_steps=200, members=2)
CLASSES = ClassSpace(("a", "b", "c"))


def _examples(features: FloatArray) -> Examples:
    return Examples(np.arange(len(features), dtype=np.int64), features.astype(np.float32))


def _turns(
    scores: FloatArray, share: float, *, pooled: FloatArray | None = None, give_up: float = 0.0
) -> tuple[list[int], list[int]]:
    rows, turns = take_turns(
        scores,
        scores.max(axis=1) if pooled is None else pooled,
        np.arange(len(scores)),
        budget=len(scores),
        share=share,
        give_up_share=give_up,
    )
    return rows.tolist(), turns.tolist()


def test_turns_go_round() -> None:
    scores = np.asarray([[9.0, 0], [8, 0], [0, 7], [0, 6]])
    assert _turns(scores, 0.5) == ([0, 2, 1, 3], [0, 1, 0, 1])


def test_what_is_nobodys_turn_goes_to_the_best_of_all() -> None:
    scores = np.asarray([[9.0, 0], [8, 0], [7, 0], [6, 0], [0, 5], [0, 4], [5.5, 0]])
    assert _turns(scores, 0.0) == ([0, 1, 2, 3, 6, 4, 5], [0, 0, 0, 0, 0, 1, 1])
    # Each class is owed a quarter: the second is served where it would fall behind.
    rows, turns = _turns(scores, 0.25)
    assert turns.index(1) < 4
    assert rows[0] == 0
    for place in range(1, 8):
        assert turns[:place].count(1) >= min(0.25 * place - 1, 2)


@pytest.mark.parametrize("share", [0.1, 0.2, 1 / 3])
def test_every_class_has_its_share_of_every_part(share: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(300, 3)) + np.asarray([8.0, 0.0, 0.0])
    _, turns = _turns(scores, share)
    for place in range(1, 200):
        served = np.bincount(turns[:place], minlength=3)
        assert (served >= np.floor(share * place) - 1).all()


def test_an_exhausted_class_gives_up_its_turn() -> None:
    # Class 1 has one good candidate; after it, only class 0 is worth a label.
    odds = np.asarray([[4.0, -5], [3, -5], [2, -5], [-5, 4], [-5, -4]])
    rows, turns = _turns(odds, 0.5, give_up=0.15)
    assert rows == [0, 3, 1, 2, 4]
    assert turns[:4] == [0, 1, 0, 0]
    assert _turns(odds, 0.5)[0] == [0, 3, 1, 4, 2]


def test_ties_go_by_id() -> None:
    rows, _ = take_turns(
        np.zeros((4, 1)),
        np.zeros(4),
        np.asarray([7, 3, 9, 1]),
        budget=4,
        share=0.5,
        give_up_share=0.1,
    )
    assert rows.tolist() == [3, 1, 0, 2]


def test_near_duplicates_come_last_of_their_part() -> None:
    rng = np.random.default_rng(0)
    scenes = rng.normal(size=(60, 16))
    which = np.repeat(np.arange(60), 5)
    shots = scenes[which] + 0.01 * rng.normal(size=(300, 16))
    usual = 2.0 * 16
    order = spread(_examples(shots), usual=usual)
    assert sorted(order.tolist()) == list(range(300))
    # 200 places hold 40 scenes: one picture of each, then the other four.
    assert order[:40].tolist() == list(range(0, 200, 5))
    assert order[200:220].tolist() == list(range(200, 300, 5))
    np.testing.assert_array_equal(spread(_examples(shots[:200]), usual=usual), order[:200])
    # Where nothing is alike the order stays, and where nobody knows what alike is.
    apart = _examples(rng.normal(size=(250, 16)))
    assert spread(apart, usual=usual).tolist() == list(range(250))
    assert spread(_examples(shots), usual=0.0).tolist() == list(range(300))


def test_a_compact_class_is_not_taken_for_duplicates() -> None:
    rng = np.random.default_rng(0)
    targets, truth = np.repeat([0, 1, 2], [30, 30, 6]), np.repeat([0, 1, 2], [60, 60, 12])
    features, pool = (
        _examples(5 * np.eye(3, 6)[of] + 0.05 * rng.normal(size=(len(of), 6)))
        for of in (targets, truth)
    )
    scorer = RareFirst(CONFIG).fit(
        LabeledExamples(features, targets), pool, classes=ClassSpace(("a", "b", "c"), (2,)), seed=0
    )
    assert set(scorer.rank(pool, budget=12, seed=0).ids.tolist()) == set(range(120, 132))


def test_diversity_goes_where_nothing_is_labeled() -> None:
    line = _examples(np.asarray([[0.0, 0], [1, 0], [2, 0], [10, 0]]))
    assert farthest_first(line, np.asarray([[0.0, 0.0]]), 3).tolist() == [3, 2, 1]
    # Without labels it begins in the middle.
    assert farthest_first(line, np.empty((0, 2)), 2).tolist() == [2, 3]


def test_diversity_covers_clusters_before_it_returns() -> None:
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(8), 20)
    features = rng.normal(scale=0.1, size=(160, 100)) + 5 * np.eye(8, 100)[cluster]
    rows = farthest_first(_examples(features), np.empty((0, 100)), 8)
    assert len(set(cluster[rows].tolist())) == 8


def test_a_large_labeled_set_is_thinned_out() -> None:
    rng = np.random.default_rng(0)
    examples = _examples(rng.normal(size=(2500, 3)))
    labeled = LabeledExamples(examples, np.zeros(2500, dtype=np.int64))
    scorer = Diversity(CONFIG).fit(labeled, examples, classes=CLASSES, seed=0)
    assert scorer.state()["centers"].shape == (2000, 3)


def _skewed(
    tail_labels: int, priors: tuple[float, ...] | None = None
) -> tuple[LabeledExamples, Examples, ClassSpace]:
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], [60, 60, tail_labels])
    features = rng.normal(size=(len(targets), 5)) + 3 * np.eye(3, 5)[targets]
    pool = rng.normal(size=(80, 5)) + 3 * np.eye(3, 5)[np.repeat([0, 1, 2], [36, 36, 8])]
    classes = ClassSpace(("a", "b", "c"), (2,), priors)
    return LabeledExamples(_examples(features), targets), _examples(pool), classes


def test_the_rarity_follows_the_priors() -> None:
    sums = []
    for share in (0.02, 0.3):
        labeled, pool, classes = _skewed(6, (0.5 - share / 2, 0.5 - share / 2, share))
        scorer = RareFirst(CONFIG).fit(labeled, pool, classes=classes, seed=0)
        logits = torch.from_numpy(scorer.layer.logits(pool.features))
        probabilities, _ = scorer.weigh_up(logits.T)
        assert 0 <= probabilities.min() <= probabilities.max() <= 1
        sums.append(float(probabilities.sum()))
    assert sums[0] < sums[1]


def test_without_a_label_of_the_tail_the_rest_of_the_pool_comes_first() -> None:
    labeled, pool, classes = _skewed(0)
    scorer = RareFirst(CONFIG).fit(labeled, pool, classes=classes, seed=0)
    assert scorer.unlearnable == (2,)
    assert scorer.metrics["autoencoder_weight"] == 0.5
    queue = scorer.rank(pool, budget=20, seed=0)
    assert set(queue.reasons) == {"one-class error"}
    # The last eight of the pool are of the third class.
    assert np.isin(queue.ids[:8], np.arange(72, 80)).sum() >= 6


def test_tail_classes_without_labels_are_served_beside_those_with() -> None:
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], [60, 60, 6])
    centers = 5 * np.eye(5, 6)
    labeled = LabeledExamples(
        _examples(rng.normal(size=(126, 6)) + centers[targets]), targets.astype(np.int64)
    )
    truth = np.repeat([0, 1, 2, 3, 4], [100, 100, 20, 20, 20])
    pool = _examples(rng.normal(size=(260, 6)) + centers[truth])
    classes = ClassSpace(("a", "b", "c", "d", "e"), (2, 3, 4))
    scorer = RareFirst(CONFIG).fit(labeled, pool, classes=classes, seed=0)
    assert (scorer.learnable, scorer.unlearnable) == ([2], (3, 4))
    queue = scorer.rank(pool, budget=40, seed=0)
    assert set(queue.reasons) == {"tail c", "one-class error"}
    found = np.bincount(truth[queue.ids], minlength=5)
    assert found[2] >= 12
    assert found[3] + found[4] >= 12


def test_the_autoencoder_does_not_know_the_tail() -> None:
    labeled, pool, classes = _skewed(20)
    scorer = RareFirst(CONFIG).fit(labeled, pool, classes=classes, seed=0)
    errors = scorer.reconstruction_error(labeled.examples)
    rare = labeled.targets == 2
    assert errors[rare].mean() > 2 * errors[~rare].mean()


@pytest.mark.parametrize(("share", "much"), [(0.002, False), (0.2, True)])
def test_what_the_pool_holds_decides_how_it_is_searched(share: float, much: bool) -> None:
    rng = np.random.default_rng(0)
    centers = 4 * np.eye(3, 8)
    targets = np.repeat([0, 1, 2], [100, 100, 20])
    truth = rng.choice(3, size=2000, p=[0.5 - share / 2, 0.5 - share / 2, share])
    scorer = RareFirst(CONFIG).fit(
        LabeledExamples(_examples(rng.normal(size=(220, 8)) + centers[targets]), targets),
        _examples(rng.normal(size=(2000, 8)) + centers[truth]),
        classes=ClassSpace(("a", "b", "c"), (2,)),
        seed=0,
    )
    figures = scorer.metrics
    assert (figures["pool_tail_share"] > 0.05) == much
    assert figures["autoencoder_weight"] == (0.5 if much else 0.0)
    assert figures["border_share"] == pytest.approx((0.25 if much else 0.75) * 20 / 30)


def test_a_restored_scorer_ranks_alike_and_is_not_fitted_again() -> None:
    labeled, pool, classes = _skewed(20)
    scorer = RareFirst(CONFIG).fit(labeled, pool, classes=classes, seed=0)
    other = RareFirst(CONFIG).restore(scorer.state(), classes=classes)
    assert other.metrics == scorer.metrics
    np.testing.assert_array_equal(
        other.rank(pool, budget=80, seed=0).ids, scorer.rank(pool, budget=80, seed=0).ids
    )
    with pytest.raises(RuntimeError, match="restored"):
        other.again(labeled.examples.features, labeled.targets)


def _apart(width: int = 64, pool: int = 6000) -> tuple[LabeledExamples, Examples, ClassSpace]:
    """Ten classes so far apart that powers of their logits underflow in single precision."""
    rng = np.random.default_rng(3)
    centers = 2.0 * rng.normal(size=(10, width))
    targets = np.repeat(np.arange(10), [20] * 9 + [5])
    truth = rng.choice(10, size=pool, p=[0.11] * 9 + [0.01])
    return (
        LabeledExamples(_examples(centers[targets] + rng.normal(size=(185, width))), targets),
        _examples(centers[truth] + rng.normal(size=(pool, width))),
        ClassSpace(tuple("abcdefghij"), (9,)),
    )


def test_logits_far_apart_are_ordered_in_single_precision_as_in_double() -> None:
    labeled, pool, classes = _apart()
    scorer = RareFirst(CONFIG).fit(labeled, pool, classes=classes, seed=0)
    logits = torch.from_numpy(scorer.layer.logits(pool.features)).T.contiguous()
    for single, double in zip(
        scorer.weigh_up(logits), scorer.weigh_up(logits.double()), strict=True
    ):
        torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-3)
    for size in (100, 1000):
        queue = scorer.rank(pool, budget=size, seed=0)
        np.testing.assert_array_equal(queue.ids, scorer.order(pool, size).ids)


@pytest.mark.parametrize(
    "priors", [(0.5, 0.5, 0.0), (0.0, 0.5, 0.5), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)]
)
def test_priors_of_zero_leave_numbers(priors: tuple[float, ...]) -> None:
    labeled, pool, _ = _skewed(6)
    classes = ClassSpace(("a", "b", "c"), (2,), priors)
    scorer = RareFirst(CONFIG).fit(labeled, pool, classes=classes, seed=0)
    for dtype in (torch.float32, torch.float64):
        logits = 50 * torch.from_numpy(scorer.layer.logits(pool.features)).T.to(dtype)
        for told in scorer.weigh_up(logits):
            assert torch.isfinite(told).all()
    assert len(scorer.rank(pool, budget=30, seed=0).ids) == 30


def test_turns_that_were_given_up_are_not_owed_later() -> None:
    good, spent = np.linspace(9, 5, 90), np.linspace(-2.4, -2.6, 200)
    odds = np.full((290, 2), -9.0)
    odds[:, 0] = np.concatenate([good, spent])
    odds[:3, 1] = 6
    odds[90:, 1] = np.linspace(-4, -5, 200)
    _, turns = _turns(odds, 0.45, give_up=0.15)
    late = np.bincount(turns[150:290], minlength=2)
    assert late[1] <= 0.6 * late.sum()


def test_many_tail_classes_without_labels_count_by_their_priors() -> None:
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1], [60, 60])
    truth = np.repeat([0, 1, 2], [300, 300, 80])
    features, pool = (
        _examples(rng.normal(size=(len(of), 6)) + 4 * np.eye(3, 6)[of]) for of in (targets, truth)
    )
    rarities = []
    for count in (1, 30):
        names = tuple(map(str, range(2 + count)))
        priors = (0.4, 0.4, *[0.2 / count] * count)
        classes = ClassSpace(names, tuple(range(2, 2 + count)), priors)
        scorer = RareFirst(CONFIG).fit(
            LabeledExamples(features, targets), pool, classes=classes, seed=0
        )
        logits = torch.from_numpy(scorer.layer.logits(pool.features)).T.double()
        rarities.append(scorer.weigh_up(logits)[0].numpy())
    np.testing.assert_allclose(rarities[1], rarities[0], atol=0.02)


def test_a_tail_class_of_which_nothing_is_known_is_ordered_by_the_error() -> None:
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1], [60, 60])
    features = _examples(rng.normal(size=(120, 6)) + 4 * np.eye(3, 6)[targets])
    pool = _examples(rng.normal(size=(200, 6)) + 4 * np.eye(3, 6)[rng.integers(3, size=200)])
    # Both labeled classes are of the tail: nothing common says where the third may be.
    scorer = RareFirst(CONFIG).fit(
        LabeledExamples(features, targets),
        pool,
        classes=ClassSpace(("a", "b", "c", "d"), (0, 1, 2)),
        seed=0,
    )
    queue = scorer.rank(pool, budget=60, seed=0)
    assert len(set(queue.ids.tolist())) == 60


def test_few_labels_far_apart_do_not_make_it_sure() -> None:
    labeled, pool, classes = _apart()
    scorer = RareFirst(CONFIG).fit(labeled, pool, classes=classes, seed=0)
    logits = torch.from_numpy(scorer.layer.logits(pool.features)).T.contiguous()
    rarity, _ = scorer.weigh_up(logits)
    best = rarity.sort(descending=True).values[:20].numpy()
    assert best[0] < 0.9999
    assert len(np.unique(best)) > 10
