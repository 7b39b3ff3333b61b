"""The paper's scorer and its ablations: which layer, which space, which budget."""

from __future__ import annotations

import numpy as np
import pytest

from models.autoencoder import LogitAutoencoder, softmax
from models.config import MinerConfig
from models.label_head import LabelHead
from models.scorers.paper import Paper, PaperLogit, PaperNoRc, PaperReleased
from models.types import ClassSpace, Examples, LabeledExamples

CONFIG = MinerConfig(autoencoder_steps=100, members=2)
CLASSES = ClassSpace(("a", "b", "c"), (2,))


def _world(seed: int) -> LabeledExamples:
    rng = np.random.default_rng(seed)
    targets = np.repeat([0, 1, 2], [40, 40, 6])
    features = (rng.normal(size=(86, 5)) + 3 * np.eye(3, 5)[targets]).astype(np.float32)
    return LabeledExamples(Examples(np.arange(86) + 100 * seed, features), targets)


LABELED, POOL = _world(1), _world(2).examples


def _fit(scorer: type[Paper], labeled: LabeledExamples = LABELED, **changes: object) -> Paper:
    config = CONFIG.model_copy(update=changes)
    return scorer(config).fit(labeled, POOL, classes=CLASSES, seed=0)


def test_the_order_is_that_of_the_error() -> None:
    scorer = _fit(Paper)
    errors = scorer.errors(POOL)
    queue = scorer.rank(POOL, budget=20, seed=0)
    np.testing.assert_array_equal(queue.ids, POOL.ids[np.argsort(-errors)[:20]])
    assert set(queue.reasons) == {"reconstruction error"}


def test_spaces_are_those_of_code_and_text() -> None:
    prob, logit = _fit(Paper), _fit(PaperLogit)
    assert prob.budget.space == "prob"
    assert logit.budget.space == "logit"
    # Between softmaxes: |p - q|^2 is 2 at most; in prob space it is the mean over the classes.
    assert 0 <= logit.errors(POOL).min() <= logit.errors(POOL).max() <= 2
    state = {k.removeprefix("autoencoder."): v for k, v in prob.state().items() if "auto" in k}
    autoencoder = LogitAutoencoder.from_state(state, space="prob")  # type: ignore[arg-type]
    layer = prob.state()
    logits = POOL.features @ layer["layer.weight"] + layer["layer.bias"]
    assert prob.errors(POOL) == pytest.approx(autoencoder.errors(logits), rel=1e-3, abs=1e-9)


def test_settings_of_the_default_do_not_change_what_a_name_means() -> None:
    other = {"recalibration": "released"}
    for scorer in (Paper, PaperLogit, PaperReleased, PaperNoRc):
        np.testing.assert_array_equal(_fit(scorer).errors(POOL), _fit(scorer, **other).errors(POOL))


def test_the_released_recipe_has_fifteen_epochs_and_one_autoencoder() -> None:
    released = _fit(PaperReleased)
    assert (released.form.form, released.form.epochs, released.form.min_steps) == (
        "released",
        15,
        0,
    )
    budget = released.budget
    assert (budget.members, budget.epochs, budget.space) == (1, 15, "prob")
    # 86 labels are two batches an epoch: 30 steps, not the thousands that ours takes.
    assert max(budget.min_steps, 15 * 2) == 30 < budget.max_steps
    assert released.state()["autoencoder.layer0"].shape[0] == 1
    assert _fit(Paper).state()["autoencoder.layer0"].shape[0] == 2


def test_without_recalibration_it_is_the_original_head_that_is_reconstructed() -> None:
    logits = np.random.default_rng(0).normal(size=(86, 3)).astype(np.float32)
    own = Examples(LABELED.examples.ids, LABELED.examples.features, logits)
    pool = Examples(POOL.ids, POOL.features, logits[::-1].copy())
    scorer = _fit(PaperNoRc, LabeledExamples(own, LABELED.targets))
    stored = {k.removeprefix("autoencoder."): v for k, v in scorer.state().items()}
    autoencoder = LogitAutoencoder.from_state(stored, space="prob")  # type: ignore[arg-type]
    expected = autoencoder.errors(np.asarray(pool.logits, dtype=np.float64))
    assert scorer.errors(pool) == pytest.approx(expected, rel=1e-9)
    assert softmax(logits).sum(axis=1) == pytest.approx(1)
    # The tail list and the classes of the labels are nothing to it: one class is enough.
    one = LabeledExamples(own.take(np.arange(10)), np.zeros(10, dtype=np.int64))
    assert len(_fit(PaperNoRc, one).rank(pool, budget=5, seed=0).ids) == 5


def test_it_does_not_look_at_the_tail_list() -> None:
    without = ClassSpace(CLASSES.names)
    for scorer in (Paper, PaperNoRc):
        fitted = scorer(CONFIG).fit(LABELED, POOL, classes=without, seed=0)
        np.testing.assert_array_equal(fitted.errors(POOL), _fit(scorer).errors(POOL))


def test_a_head_without_an_output_for_the_tail_is_reconstructed_too() -> None:
    head = LabelHead(np.eye(5, 2, dtype=np.float32), np.zeros(2, np.float32), np.arange(2), 3)
    scorer = _fit(PaperNoRc, LabeledExamples(LABELED.examples, LABELED.targets, head))
    assert np.isfinite(scorer.errors(POOL)).all()
    assert len(np.unique(scorer.errors(POOL))) > 10
