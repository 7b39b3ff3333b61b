"""Orders of pictures by their detections: aggregation, analytic values, the default's turns."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.config import MinerConfig
from models.detection.matching import LabeledSlots
from models.detection.scorers import DETECTION_SCORERS
from models.detection.scorers.base import mean_of_surest, most
from models.detection.scorers.rarefirst import RareFirstBoxes, with_background
from models.detection.scorers.uncertainty import Entropy, MaxScore
from models.detection.slots import Slots
from models.errors import NotEnoughLabels
from models.types import ClassSpace

CONFIG = MinerConfig()
PATCH = 9


def slots(
    pictures: list[int],
    *,
    confidence: list[float] | None = None,
    logits: NDArray[np.floating] | None = None,
    features: NDArray[np.floating] | None = None,
) -> Slots:
    count = len(pictures)
    return Slots(
        picture=np.asarray(pictures, dtype=np.int64),
        features=np.zeros((count, PATCH + 4)) if features is None else features,
        boxes=np.tile(np.asarray([0.1, 0.1, 0.5, 0.5], dtype=np.float32), (count, 1)),
        confidence=np.asarray(confidence or [0.9] * count, dtype=np.float32),
        anchor=np.zeros(count, dtype=np.int64),
        logits=np.zeros((count, 3), dtype=np.float32) if logits is None else logits,
    )


def test_the_mean_is_over_the_five_surest_that_count() -> None:
    # Surest first in each picture; below .05 nothing counts, nor does the sixth.
    some = slots([0] * 7 + [2] * 2, confidence=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.06, 0.04])
    values = np.asarray([1.0, 2, 3, 4, 5, 100, 100, 7, 100])
    assert mean_of_surest(values, some, 3).tolist() == [3.0, 0.0, 7.0]


def test_topk_one_is_the_score_of_the_best_box() -> None:
    some = slots([0, 0, 1], confidence=[0.9, 0.8, 0.7])
    values = np.asarray([2.0, 9, 4])
    assert mean_of_surest(values, some, 2, top=1).tolist() == [2.0, 4.0]


def test_duplicating_every_detection_leaves_the_mean() -> None:
    once = slots([0, 0], confidence=[0.9, 0.8])
    twice = slots([0, 0, 0, 0], confidence=[0.9, 0.9, 0.8, 0.8])
    values = np.asarray([1.0, 3])
    assert mean_of_surest(values, once, 1) == mean_of_surest(values.repeat(2), twice, 1)


def test_the_largest_does_not_drown_among_many() -> None:
    some = slots([0] * 6 + [1] * 2)
    values = np.asarray([0, 0, 0, 0, 0, 5, 1, 1.0])[:, None]
    assert most(values, some, 3, none=-9)[:, 0].tolist() == [5, 1, -9]


def test_entropy_and_max_score_of_known_logits() -> None:
    sure, torn = [50.0, 0, 0], [0.0, 0, 0]
    some = slots([0, 1], logits=np.asarray([sure, torn], dtype=np.float32))
    found = Entropy(CONFIG, patch_size=PATCH).scores(some, 3).together
    assert found.tolist() == pytest.approx([0, math.log(3), 0], abs=1e-6)
    found = MaxScore(CONFIG, patch_size=PATCH).scores(some, 3).together
    assert found.tolist() == pytest.approx([0, 2 / 3, 0], abs=1e-6)


def test_background_gets_its_share_of_the_priors() -> None:
    targets = np.asarray([0, 0, 1, 3, 3, 3, 3])
    known = LabeledSlots(slots([0] * 7), targets, 1, np.zeros(3, np.int64), np.zeros(3, np.int64))
    space = with_background(ClassSpace(("a", "b", "c"), (1,), (0.5, 0.3, 0.2)), known)
    assert space.names[-1] == "background"
    assert space.class_priors is not None
    assert sum(space.class_priors) == pytest.approx(1)
    assert space.class_priors[-1] == pytest.approx(5 / 11)
    assert space.class_priors[0] == pytest.approx(0.5 * 6 / 11)


def world(
    pictures: int, rng: np.random.Generator, rare: dict[int, int]
) -> tuple[Slots, NDArray[np.int64]]:
    """Six detections a picture, of class 0 or background 3; rare ones at chosen pictures."""
    picture = np.repeat(np.arange(pictures), 6)
    targets = np.where(np.tile(np.arange(6), pictures) < 3, 0, 3)
    for where, kind in rare.items():
        targets[6 * where + 4] = kind
    places = np.asarray([[4.0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 4]])
    box = places[targets] + 0.6 * rng.normal(size=(len(targets), 4))
    # The patch is noise: what is rare is seen in the box only.
    features = np.concatenate([rng.normal(size=(len(targets), PATCH)), box], axis=1)
    logits = np.where(targets[:, None] == np.arange(3), 1.0, -2.0).astype(np.float32)
    logits[:, 1:] = -4
    some = slots(picture.tolist(), logits=logits, features=features.astype(np.float32))
    return some, targets


@pytest.fixture(scope="module")
def labeled() -> LabeledSlots:
    rng = np.random.default_rng(0)
    some, targets = world(40, rng, {3: 1, 9: 1, 20: 2, 31: 2})
    counts = np.bincount(targets, minlength=4)[:3]
    return LabeledSlots(some, targets, 40, counts, np.zeros(3, np.int64))


CLASSES = ClassSpace(("common", "rare", "rarer"), (1, 2))


def test_one_rare_box_among_six_common_ones_brings_its_picture_to_the_front(
    labeled: LabeledSlots,
) -> None:
    pool, _ = world(60, np.random.default_rng(1), {7: 1, 22: 2, 41: 1, 55: 2})
    scorer = RareFirstBoxes(CONFIG, patch_size=PATCH)
    scorer.fit(labeled, pool, classes=CLASSES, seed=0)
    found = scorer.scores(pool, 60)
    assert set(np.argsort(-found.together)[:4].tolist()) == {7, 22, 41, 55}
    assert found.apart.shape == (60, 2)
    assert found.names == ("tail rare", "tail rarer")
    assert set(np.argsort(-found.apart[:, 0])[:2].tolist()) == {7, 41}
    assert found.rarity is not None
    assert 0 <= found.rarity.min() <= found.rarity.max() <= 1


@pytest.mark.parametrize("name", DETECTION_SCORERS)
def test_a_stored_scorer_says_the_same(name: str, labeled: LabeledSlots) -> None:
    pool, _ = world(30, np.random.default_rng(2), {7: 1})
    kind = DETECTION_SCORERS[name]
    config = MinerConfig(autoencoder_steps=200, members=2)
    fitted = kind(config, patch_size=PATCH).fit(labeled, pool, classes=CLASSES, seed=0)
    again = kind(config, patch_size=PATCH).restore(fitted.state(), classes=CLASSES)
    one, other = fitted.scores(pool, 30), again.scores(pool, 30)
    assert np.allclose(one.together, other.together)
    assert np.allclose(one.apart, other.apart)
    assert one.names == other.names


@pytest.mark.parametrize("name", DETECTION_SCORERS)
def test_pictures_without_a_detection_have_a_finite_score(name: str, labeled: LabeledSlots) -> None:
    pool, _ = world(30, np.random.default_rng(2), {})
    config = MinerConfig(autoencoder_steps=200, members=1)
    fitted = DETECTION_SCORERS[name](config, patch_size=PATCH)
    fitted.fit(labeled, pool, classes=CLASSES, seed=0)
    none = pool.take(np.zeros(0, dtype=np.int64))
    assert np.isfinite(fitted.scores(none, 4).together).all()


def test_detections_of_one_kind_cannot_be_told_apart(labeled: LabeledSlots) -> None:
    alike = LabeledSlots(
        labeled.slots, np.full(len(labeled.slots), 3), 40, labeled.objects, labeled.missed
    )
    with pytest.raises(NotEnoughLabels, match="one kind"):
        RareFirstBoxes(CONFIG, patch_size=PATCH).fit(alike, labeled.slots, classes=CLASSES, seed=0)
