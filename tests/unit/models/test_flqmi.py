"""FLQMI by hand, METHODS section 20.4, and against a search of everything."""

from __future__ import annotations

import numpy as np
import pytest

from models.config import MinerConfig
from models.scorers import flqmi
from models.scorers.flqmi import Flqmi, gradient_directions, greedy_order
from models.types import ClassSpace, Examples, FloatArray, IntArray, LabeledExamples

CLASSES = ClassSpace(("a", "b", "c"), tail=(2,))


def _value(likeness: FloatArray, picked: list[int], eta: float) -> float:
    some = likeness[picked]
    return float(some.max(axis=0).sum() + eta * some.max(axis=1).sum())


def test_gains_by_hand() -> None:
    likeness = np.asarray([[0.9, 0.1], [0.8, 0.1], [0.2, 0.6]], dtype=np.float32)
    assert [_value(likeness, [i], 1) for i in range(3)] == pytest.approx([1.9, 1.7, 1.4])
    assert greedy_order(likeness, np.arange(3), budget=9, eta=1.0).tolist() == [0, 2, 1]
    assert _value(likeness, [0, 2], 1) == pytest.approx(3.0)
    # Resemblance alone takes what is most like any.
    assert greedy_order(likeness, np.arange(3), budget=3, eta=50.0).tolist() == [0, 1, 2]


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_it_picks_what_a_search_of_everything_picks(eta: float) -> None:
    rng = np.random.default_rng(0)
    likeness = rng.random((60, 7)).astype(np.float32).round(2)
    ids = rng.permutation(60)
    picked: list[int] = []
    for row in greedy_order(likeness, ids, budget=60, eta=eta).tolist():
        gains = {
            i: round(_value(likeness, [*picked, i], eta), 5) for i in range(60) if i not in picked
        }
        best = max(gains.values())
        assert gains[row] == best
        picked.append(row)
    assert sorted(picked) == list(range(60))


def test_ties_go_by_id() -> None:
    likeness = np.full((4, 2), 0.5, dtype=np.float32)
    assert greedy_order(likeness, np.asarray([7, 3, 9, 1]), budget=3, eta=1.0).tolist() == [3, 1, 0]


def test_a_cosine_of_gradients_needs_no_gradients() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(5, 3)), np.asarray([0, 1, 2, 2, 0])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = p - np.eye(3)[targets]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(gradient_directions(np.log(p), targets), expected, atol=1e-12)


def test_a_sure_prediction_has_a_direction_too() -> None:
    logs = np.asarray([[-1e-40, -92.0, -95.0]])
    found = gradient_directions(logs, np.asarray([0]))[0]
    share = 1 / (1 + np.exp(-3.0))
    expected = np.asarray([-1, share, 1 - share])
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-12)


def _problem(rare: int) -> tuple[LabeledExamples, Examples, IntArray]:
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], [40, 40, rare])
    truth = np.repeat([0, 1, 2], [90, 90, 20])
    middle = 3 * np.eye(3, 6)
    features = [(rng.normal(size=(len(t), 6)) + middle[t]).astype("f4") for t in (targets, truth)]
    labeled = LabeledExamples(Examples(np.arange(len(targets)), features[0]), targets)
    return labeled, Examples(np.arange(1000, 1200), features[1]), truth


def test_likeness_is_that_of_the_full_gradients() -> None:
    labeled, pool, _ = _problem(6)
    scorer = Flqmi(MinerConfig()).fit(labeled, pool, classes=CLASSES, seed=0)
    weight, bias = scorer.state()["head.weight"], scorer.state()["head.bias"]

    def gradients(features: FloatArray, targets: IntArray | None) -> FloatArray:
        logits = features.astype(np.float64) @ weight + bias
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        a = p - np.eye(3)[logits.argmax(axis=1) if targets is None else targets]
        h = np.concatenate([np.ones((len(features), 1)), features], axis=1)
        full = (a[:, :, None] * h[:, None, :]).reshape(len(a), -1)
        unit: FloatArray = full / np.linalg.norm(full, axis=1, keepdims=True)
        return unit

    rare = labeled.targets == 2
    theirs = gradients(labeled.examples.features[rare], labeled.targets[rare])
    expected = (1 + gradients(pool.features, None) @ theirs.T) / 2
    order = greedy_order(expected.astype(np.float32), pool.ids, budget=30, eta=1.0)
    np.testing.assert_array_equal(scorer.rank(pool, budget=30, seed=0).ids, pool.ids[order])


def test_the_rare_class_is_found() -> None:
    labeled, pool, truth = _problem(6)
    queue = Flqmi(MinerConfig()).fit(labeled, pool, classes=CLASSES, seed=0)
    ids = queue.rank(pool, budget=20, seed=0).ids
    # 20 of 200 are rare: random order finds 2.
    assert int((truth[ids - 1000] == 2).sum()) >= 12


def test_of_many_rare_labels_a_part_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flqmi, "_MOST", 10)
    monkeypatch.setattr(flqmi, "_ENTRIES", 200 * 4)
    labeled, pool, _ = _problem(30)
    scorer = Flqmi(MinerConfig()).fit(labeled, pool, classes=CLASSES, seed=0)
    assert len(scorer.state()["rare.targets"]) == 10
    queue = scorer.rank(pool, budget=5, seed=0)
    assert len(queue.ids) == 5
    assert set(queue.reasons) == {"like c"}
