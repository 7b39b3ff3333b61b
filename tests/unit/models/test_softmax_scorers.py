"""Scorers of the original head's softmax, by hand (METHODS sections 5, 16, 20.4)."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.config import MinerConfig
from models.errors import NoTailClass
from models.label_head import LabelHead
from models.recalibration import RecalibrationLayer
from models.scorers import SCORERS
from models.scorers.base import OriginalHead
from models.scorers.entropy import Entropy
from models.scorers.margin import Margin
from models.scorers.max_score import MaxScore
from models.scorers.softmax import Logs, SoftmaxScorer
from models.scorers.tail_mass import TailMass, TailMassAdjusted
from models.scorers.went import Went, WentNorm
from models.types import ClassSpace, Examples, LabeledExamples

CONFIG = MinerConfig()


def _logs(shares: object) -> Logs:
    with np.errstate(divide="ignore"):
        logs: Logs = np.log(np.asarray(shares, dtype=np.float64))
    return logs


def _fitted(
    scorer: type[SoftmaxScorer], counts: tuple[int, ...], tail: tuple[int, ...] = ()
) -> SoftmaxScorer:
    """Fitted with the frozen model's own logits, so that nothing but the counts is learned."""
    classes = ClassSpace(tuple(f"class {k}" for k in range(len(counts))), tail)
    targets = np.repeat(np.arange(len(counts)), counts)
    examples = Examples(
        np.arange(len(targets)),
        np.zeros((len(targets), 1), dtype=np.float32),
        np.zeros((len(targets), len(counts)), dtype=np.float32),
    )
    return scorer(CONFIG).fit(LabeledExamples(examples, targets), examples, classes=classes, seed=0)


def _pool(shares: Logs) -> Examples:
    logits = np.maximum(shares, -1e4).astype(np.float32)
    return Examples(np.arange(len(shares)), np.zeros((len(shares), 1), dtype=np.float32), logits)


def test_uniform_and_certain_shares() -> None:
    logs = _logs([[1.0, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    assert Entropy(CONFIG).score(logs) == pytest.approx([0, np.log(3)], abs=1e-12)
    assert MaxScore(CONFIG).score(logs) == pytest.approx([0, 2 / 3], abs=1e-12)
    assert Margin(CONFIG).score(logs) == pytest.approx([-1, 0], abs=1e-12)


def test_entropy_and_least_confidence_need_not_agree_for_three_classes() -> None:
    logs = _logs([[0.5, 0.5, 0], [0.6, 0.2, 0.2]])
    assert MaxScore(CONFIG).score(logs) == pytest.approx([0.5, 0.4])
    assert Entropy(CONFIG).score(logs) == pytest.approx([0.693, 0.950], abs=1e-3)


def test_for_two_classes_confidence_entropy_and_margin_order_alike() -> None:
    share = np.random.default_rng(0).random(200)
    logs = _logs(np.stack([share, 1 - share], axis=1))
    orders = [scorer(CONFIG).score(logs).argsort() for scorer in (MaxScore, Entropy, Margin)]
    np.testing.assert_array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])


def test_for_two_classes_ties_go_by_id() -> None:
    share = np.asarray([0.3, 0.7, 0.5, 0.7, 0.3, 0.1])
    pool = _pool(_logs(np.stack([share, 1 - share], axis=1)))
    for scorer in (MaxScore, Entropy, Margin):
        assert _fitted(scorer, (1, 1)).rank(pool, budget=6, seed=0).ids.tolist() == [
            2,
            0,
            1,
            3,
            4,
            5,
        ]


def test_saturated_shares_are_still_told_apart() -> None:
    # In single precision all of these are exactly (0, 1).
    pool = _pool(np.asarray([[0.0, 40], [0, 20], [0, 30], [0, 60]]))
    for name in ("max_score", "entropy", "margin"):
        scores = _fitted(SCORERS[name], (1, 1)).scores(pool)  # type: ignore[arg-type]
        assert scores[1] > scores[2] > scores[0] >= scores[3]
    assert _fitted(TailMass, (1, 1), (1,)).rank(pool, budget=4, seed=0).ids.tolist() == [3, 0, 2, 1]


def test_went_is_entropy_where_labels_are_balanced() -> None:
    shares = np.random.default_rng(0).dirichlet((1, 1, 1), 50)
    for scorer in (Went, WentNorm):
        scores = _fitted(scorer, (7, 7, 7)).score(_logs(shares))
        assert scores == pytest.approx(Entropy(CONFIG).score(_logs(shares)))


def test_went_as_printed_ranks_visible_rare_classes_last() -> None:
    went = _fitted(Went, (35, 4983, 14982))
    assert went.seen[0] * 3 / went.seen.sum() == pytest.approx(0.00525)
    scores = went.score(_logs([[0.01, 0.0, 0.99], [0.0, 0.01, 0.99]]))
    q = 0.01 / 0.00525
    rest = 0.99 * 20000 / (3 * 14982)
    assert scores[0] == pytest.approx(-q * np.log(q) - rest * np.log(rest))
    assert scores[0] < 0 < scores[1]
    # METHODS section 5: s = 0.0035, p = 0.01 alone contributes -3.0.
    assert -(0.01 / 0.0035) * np.log(0.01 / 0.0035) == pytest.approx(-3.0, abs=0.01)


def test_normalised_went_is_an_entropy() -> None:
    norm = _fitted(WentNorm, (1, 100, 1000))
    scores = norm.score(_logs(np.random.default_rng(1).dirichlet((0.1, 1, 1), 100)))
    assert scores.min() >= 0
    assert scores.max() <= np.log(3) + 1e-12
    # q is uniform where the shares are those of the labels.
    assert norm.score(_logs([[1 / 1101, 100 / 1101, 1000 / 1101]])) == pytest.approx(np.log(3))


def test_a_class_without_labels_counts_as_one_in_went() -> None:
    logs = _logs([[0.2, 0.3, 0.5]])
    none, one = _fitted(Went, (0, 5, 5)), _fitted(Went, (1, 5, 5))
    q = np.asarray([0.2, 0.3, 0.5]) / (np.asarray([1, 5, 5]) * 3 / 10)
    assert none.score(logs) == pytest.approx(-(q * np.log(q)).sum())
    assert np.isfinite(one.score(logs)).all()


def test_tail_mass_is_the_share_of_the_tail() -> None:
    shares = np.random.default_rng(0).dirichlet((1, 1, 1, 1), 60)
    odds = _fitted(TailMass, (3, 3, 3, 3), (1, 3)).score(_logs(shares))
    assert 1 / (1 + np.exp(-odds)) == pytest.approx(shares[:, [1, 3]].sum(axis=1))


def test_prior_scaling_by_hand() -> None:
    adjusted = _fitted(TailMassAdjusted, (100, 400, 500), (0,))
    assert isinstance(adjusted, TailMassAdjusted)
    logs = adjusted.adjusted(_logs([[0.2, 0.2, 0.6]]))
    assert np.exp(logs[0]) == pytest.approx([2, 0.5, 1.2])
    assert adjusted.score(_logs([[0.2, 0.2, 0.6]])) == pytest.approx(np.log(2 / 1.7))


def test_prior_scaling_changes_nothing_where_labels_are_balanced() -> None:
    logs = _logs(np.random.default_rng(0).dirichlet((1, 1, 1), 30))
    plain = _fitted(TailMass, (5, 5, 5), (0,)).score(logs)
    assert _fitted(TailMassAdjusted, (5, 5, 5), (0,)).score(logs) == pytest.approx(plain)


def test_prior_scaling_leaves_out_what_has_no_label() -> None:
    adjusted = _fitted(TailMassAdjusted, (0, 4, 4), (0, 1))
    # Class 0 has no prior: classes 1 and 2 are left.
    assert adjusted.score(_logs([[0.9, 0.05, 0.05]])) == pytest.approx([0.0])


@pytest.mark.parametrize("scorer", [TailMass, TailMassAdjusted])
def test_a_head_that_knows_one_side_only_has_no_tail_mass(scorer: type[TailMass]) -> None:
    rng = np.random.default_rng(0)
    examples = Examples(np.arange(60), rng.normal(size=(60, 4)).astype(np.float32))

    def fit(outputs: tuple[int, ...]) -> TailMass:
        weight = rng.normal(size=(4, len(outputs))).astype(np.float32)
        head = LabelHead(weight, np.zeros(len(outputs), np.float32), np.asarray(outputs), 4)
        labeled = LabeledExamples(examples, np.arange(60) % 4, head)
        classes = ClassSpace(("a", "b", "c", "d"), (2, 3))
        return scorer(CONFIG).fit(labeled, examples, classes=classes, seed=0)

    with pytest.raises(NoTailClass, match=r"no output for any tail class.*take tail_mass_rc"):
        fit((0, 1))
    with pytest.raises(NoTailClass, match="no output for any common class"):
        fit((2, 3, 3))
    # It need not know all of either side.
    assert np.isfinite(fit((0, 3)).scores(examples)).all()


def test_recalibrated_tail_mass_is_that_of_its_layer() -> None:
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], [30, 30, 6])
    features = (rng.normal(size=(66, 4)) + 2 * np.eye(3, 4)[targets]).astype(np.float32)
    labeled = LabeledExamples(Examples(np.arange(66), features), targets)
    classes = ClassSpace(("a", "b", "c"), (2,))
    for name in ("tail_mass_rc", "tail_mass_paper_rc"):
        scorer = SCORERS[name](CONFIG).fit(labeled, labeled.examples, classes=classes, seed=3)
        assert isinstance(scorer, TailMass)
        layer = RecalibrationLayer.fit(
            features,
            targets,
            num_classes=3,
            config=type(scorer).form,
            seed=3,  # type: ignore[attr-defined]
        )
        logits = layer.logits(features).astype(np.float64)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        expected: NDArray[np.float64] = np.log(shares[:, 2] / (1 - shares[:, 2]))
        assert scorer.scores(labeled.examples) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_a_head_with_several_outputs_for_a_class_adds_their_shares() -> None:
    rng = np.random.default_rng(0)
    own = LabelHead(
        weight=rng.normal(size=(4, 5)).astype(np.float32),
        bias=rng.normal(size=5).astype(np.float32),
        label=np.asarray([0, 1, 1, 2, 0]),
        num_labels=3,
    )
    examples = Examples(np.arange(20), rng.normal(size=(20, 4)).astype(np.float32))
    none = examples.take(np.arange(0))
    head = OriginalHead.fit(LabeledExamples(none, np.arange(0), own), num_classes=3)
    exact = np.concatenate([np.exp(logs.numpy()) for _, logs in head.log_batches(examples)], axis=1)
    single = np.concatenate([shares.numpy() for _, shares in head.batches(examples)], axis=1)
    assert exact == pytest.approx(single, abs=1e-6)
    assert exact.sum(axis=0) == pytest.approx(1)
