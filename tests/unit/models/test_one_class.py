"""Distances to what is common, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.config import MinerConfig
from models.scorers.knn_distance import KnnDistance
from models.scorers.mahalanobis import Mahalanobis, oas
from models.types import ClassSpace, Examples, FloatArray, IntArray, LabeledExamples

CONFIG = MinerConfig()
CLASSES = ClassSpace(("a", "b", "rare"), (2,))


def _examples(features: FloatArray, *, first_id: int = 0) -> Examples:
    return Examples(np.arange(len(features)) + first_id, np.asarray(features, dtype=np.float32))


def _labeled(features: FloatArray, targets: IntArray) -> LabeledExamples:
    return LabeledExamples(_examples(features, first_id=1000), np.asarray(targets))


def _clouds(counts: tuple[int, ...], seed: int = 0) -> tuple[FloatArray, IntArray]:
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(len(counts)), counts)
    features: FloatArray = rng.normal(size=(len(targets), 5)) + 6 * np.eye(3, 5)[targets]
    return features, targets


def test_neighbours_are_averaged() -> None:
    rng = np.random.default_rng(0)
    known, pool = rng.normal(size=(40, 3)) * [1, 9, 2], rng.normal(size=(20, 3)) * [1, 9, 2]
    labeled = _labeled(known, np.zeros(40, dtype=np.int64))
    scorer = KnnDistance(CONFIG).fit(labeled, _examples(pool), classes=CLASSES, seed=0)
    scale = known.std(axis=0)
    distances = np.linalg.norm((pool[:, None] - known) / scale, axis=2)
    expected = np.sort(distances, axis=1)[:, :10].mean(axis=1) / np.sqrt(3)
    assert scorer.scores(_examples(pool)) == pytest.approx(expected, rel=1e-4)
    queue = scorer.rank(_examples(pool), budget=20, seed=0)
    np.testing.assert_array_equal(queue.ids, np.argsort(-expected))


def test_fewer_labels_than_neighbours_do() -> None:
    labeled = _labeled(np.asarray([[0.0, 0], [2, 0]]), np.asarray([0, 1]))
    pool = _examples(np.asarray([[1.0, 0], [9, 0], [0, 0]]))
    scorer = KnnDistance(CONFIG).fit(labeled, pool, classes=CLASSES, seed=0)
    assert scorer.rank(pool, budget=3, seed=0).ids.tolist() == [1, 0, 2]


def test_of_many_labels_a_part_is_kept() -> None:
    features = np.random.default_rng(0).normal(size=(6000, 2))
    labeled = _labeled(features, np.zeros(6000, dtype=np.int64))
    scorer = KnnDistance(CONFIG).fit(labeled, labeled.examples, classes=CLASSES, seed=0)
    assert scorer.state()["references"].shape == (5000, 2)


def test_the_covariance_is_that_within_classes() -> None:
    features, targets = _clouds((300, 200, 0))
    scorer = Mahalanobis(CONFIG).fit(
        _labeled(features, targets), _examples(features), classes=CLASSES, seed=0
    )
    means = np.stack([features[targets == k].mean(axis=0) for k in (0, 1)])
    scale = features.std(axis=0)
    within = (features - means[targets]) / scale
    covariance = oas(torch.from_numpy(within.T @ within / 500), 500).numpy()
    pool = np.random.default_rng(1).normal(size=(30, 5)) * 4
    between = (pool[:, None] - means) / scale
    squared = np.einsum("nkd,de,nke->nk", between, np.linalg.inv(covariance), between)
    expected = np.sqrt(squared.min(axis=1) / 5)
    assert scorer.scores(_examples(pool)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("scorer", [Mahalanobis, KnnDistance])
def test_tail_labels_are_not_common(scorer: type[Mahalanobis | KnnDistance]) -> None:
    features, targets = _clouds((50, 50, 20))
    pool, truth = _clouds((40, 40, 6), seed=1)
    for labels in (targets, np.where(targets == 2, 0, targets)):
        fitted = scorer(CONFIG).fit(
            _labeled(features, labels), _examples(pool), classes=CLASSES, seed=0
        )
        found = (truth[fitted.rank(_examples(pool), budget=6, seed=0).ids] == 2).sum()
        # Labeled as common, the rare cloud is not far from what is common.
        assert (found >= 5) == (labels is targets)


def test_shrinkage_goes_to_the_identity_as_rows_get_few() -> None:
    rng = np.random.default_rng(0)
    true = np.diag([9.0, 4, 1, 0.25])
    for count, most in ((4, 1.0), (50, 0.2), (5000, 0.01)):
        rows = rng.normal(size=(count, 4)) @ np.sqrt(true)
        sample = torch.from_numpy(rows.T @ rows / count)
        found = oas(sample, count)
        assert float(torch.trace(found)) == pytest.approx(float(torch.trace(sample)))
        target = torch.eye(4, dtype=torch.float64) * torch.trace(sample) / 4
        share = float(torch.linalg.norm(found - sample) / torch.linalg.norm(target - sample))
        assert 0 < share <= most
        assert float(torch.linalg.eigvalsh(found).min()) > 0
    assert torch.equal(oas(torch.zeros((3, 3)), 5), torch.eye(3))


def test_more_features_than_labels_are_no_trouble() -> None:
    rng = np.random.default_rng(0)
    labeled = _labeled(rng.normal(size=(10, 80)), np.asarray([0, 1] * 5))
    pool = _examples(rng.normal(size=(20, 80)))
    scorer = Mahalanobis(CONFIG).fit(labeled, pool, classes=CLASSES, seed=0)
    scores = scorer.scores(pool)
    assert np.isfinite(scores).all()
    assert scores.min() > 0


def test_the_head_of_the_queue_is_that_of_a_full_sort() -> None:
    rng = np.random.default_rng(0)
    labeled = _labeled(rng.normal(size=(30, 4)), rng.integers(0, 2, 30))
    pool = _examples(rng.normal(size=(3000, 4)))
    for kind in (Mahalanobis, KnnDistance):
        scorer = kind(CONFIG).fit(labeled, pool, classes=CLASSES, seed=0)
        full = np.lexsort((pool.ids, -scorer.scores(pool).round(9)))
        np.testing.assert_array_equal(scorer.rank(pool, budget=25, seed=0).ids, full[:25])
