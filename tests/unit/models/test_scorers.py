"""What single scorers promise beyond the common suite."""

from __future__ import annotations

import numpy as np
import torch

from models.autoencoder import LogitAutoencoder
from models.config import AutoencoderConfig, MinerConfig, RecalibrationConfig
from models.scorers.blend import DEFAULT_WEIGHT, WEIGHTS, choose_weight
from models.scorers.diversity import Diversity, farthest_first
from models.scorers.rarefirst import RareFirst
from models.scorers.turns import take_turns
from models.types import ClassSpace, Examples, FloatArray, LabeledExamples

CONFIG = MinerConfig(autoencoder_steps=200, members=2)
CLASSES = ClassSpace(("a", "b", "c"))


def _examples(features: FloatArray) -> Examples:
    return Examples(np.arange(len(features), dtype=np.int64), features.astype(np.float32))


def test_turns_go_round() -> None:
    scores = np.asarray([[9.0, 0], [8, 0], [0, 9], [0, 8]])
    rows, turns = take_turns(scores, scores / 10, np.arange(4), budget=4, give_up_share=0.15)
    assert rows.tolist() == [0, 2, 1, 3]
    assert turns.tolist() == [0, 1, 0, 1]


def test_an_exhausted_class_gives_up_its_turn() -> None:
    # Class 1 has one good candidate; after it, only class 0 is worth a label.
    likelihood = np.asarray([[0.9, 0.01], [0.8, 0.01], [0.7, 0.01], [0.01, 0.9], [0.01, 0.02]])
    rows, turns = take_turns(likelihood, likelihood, np.arange(5), budget=5, give_up_share=0.15)
    assert rows.tolist() == [0, 3, 1, 2, 4]
    assert turns.tolist()[:4] == [0, 1, 0, 0]
    strict, _ = take_turns(likelihood, likelihood, np.arange(5), budget=4, give_up_share=0.0)
    assert strict.tolist() == [0, 3, 1, 4]


def test_ties_go_by_id() -> None:
    rows, _ = take_turns(
        np.zeros((4, 1)), np.zeros((4, 1)), np.asarray([7, 3, 9, 1]), budget=4, give_up_share=0.1
    )
    assert rows.tolist() == [3, 1, 0, 2]


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


def test_with_no_label_of_any_tail_class_novelty_and_diversity_share_the_queue() -> None:
    labeled, pool, classes = _skewed(0)
    scorer = RareFirst(CONFIG).fit(labeled, pool, classes=classes, seed=0)
    assert scorer.unlearnable == (2,)
    queue = scorer.rank(pool, budget=20, seed=0)
    assert {"one-class error", "diversity"} == set(queue.reasons)
    assert 8 <= queue.reasons.count("diversity") <= 12


def test_the_autoencoder_does_not_know_the_tail() -> None:
    labeled, pool, classes = _skewed(20)
    scorer = RareFirst(MinerConfig(members=3)).fit(labeled, pool, classes=classes, seed=0)
    errors = scorer.reconstruction_error(labeled.examples)
    rare = labeled.targets == 2
    assert errors[rare].mean() > 2 * errors[~rare].mean()


def test_the_weight_of_the_error_is_fixed_while_labels_are_few() -> None:
    labeled, pool, classes = _skewed(5)
    scorer = RareFirst(CONFIG).fit(labeled, pool, classes=classes, seed=0)
    assert scorer.metrics["autoencoder_weight"] == DEFAULT_WEIGHT


def test_an_error_that_says_nothing_gets_no_weight() -> None:
    labeled, _, classes = _skewed(30)
    rng = np.random.default_rng(0)
    # Fitted on noise: its error has nothing to do with the classes.
    noise = LogitAutoencoder.fit(
        rng.normal(size=(50, 3)), config=AutoencoderConfig(members=1, min_steps=1, epochs=1)
    )
    weight = choose_weight(labeled, classes, noise, recalibration=RecalibrationConfig(), seed=0)
    assert weight in WEIGHTS
    assert weight <= 0.1
