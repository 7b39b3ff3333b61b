"""The miner of a detection project: whatever the labels allow, it gives a queue and says why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.config import MinerConfig
from models.detection.boxes import Box, Boxes
from models.detection.scorers import DETECTION_SCORERS
from models.detection.slots import ANCHOR, CONFIDENCE, LOGITS
from models.errors import ConfigError, CorruptVersion, ShapeError
from models.recipes import fit_detection_miner as module
from models.recipes.fit_detection_miner import DetectionMiner, LabeledImages, fit_detection_miner
from models.recipes.load_miner import load_miner
from models.types import ClassSpace, Examples

NAMES = ("common", "rare", "rarer")
CLASSES = ClassSpace(NAMES, (1, 2))
TOP, PATCH, BOX = 4, 9, 4
PLACES = np.asarray([[4.0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 4]])


def pictures(count: int, rare: dict[int, int], *, seed: int, first: int = 0) -> LabeledImages:
    """Pictures of four detections: two common objects, background, and what ``rare`` says."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 1 + TOP, PATCH + BOX)).astype(np.float16)
    said = np.zeros((count, 1 + TOP, LOGITS + 3), dtype=np.float32)
    said[:, 0, ANCHOR] = PATCH
    boxes: list[Boxes] = []
    for number in range(count):
        kinds = [0, 0, rare.get(number, 3), 3]
        some = []
        for slot, kind in enumerate(kinds, start=1):
            corners = (0.2 * slot, 0.1, 0.2 * slot + 0.15, 0.4)
            features[number, slot, PATCH:] = PLACES[kind] + 0.6 * rng.normal(size=BOX)
            logits = np.asarray([1.5 if kind == 0 else -1.0, -3, -3]) - 0.01 * slot
            said[number, slot, :4] = corners
            said[number, slot, CONFIDENCE] = 1 / (1 + np.exp(-logits.max()))
            said[number, slot, LOGITS:] = logits
            if kind < 3:
                some.append(Box(NAMES[kind], *corners))
        boxes.append(tuple(some))
    ids = np.arange(first, first + count, dtype=np.int64)
    rows = Examples(ids, features.reshape(count, -1), said.reshape(count, -1))
    return LabeledImages(rows, tuple(boxes))


LABELED = pictures(40, {3: 1, 9: 1, 20: 2, 31: 2}, seed=0)
RARE = {7: 1, 22: 2, 41: 1, 55: 2}
POOL = pictures(60, RARE, seed=1, first=100).examples


def fit(
    scorer: str = "rarefirst",
    labeled: LabeledImages = LABELED,
    classes: ClassSpace = CLASSES,
    head: tuple[str, ...] = NAMES,
    **more: object,
) -> DetectionMiner:
    config = MinerConfig.model_validate(
        {"scorer": scorer, "autoencoder_steps": 200, "members": 2, **more}
    )
    return fit_detection_miner(labeled, POOL, classes=classes, head=head, config=config, seed=0)


def test_rare_pictures_come_first_and_classes_take_turns() -> None:
    miner = fit()
    queue = miner.queue(POOL, budget=10, seed=0)
    assert set(queue.ids[:4].tolist()) == {100 + number for number in RARE}
    assert {"tail rare", "tail rarer"} <= set(queue.reasons)
    assert miner.kind == "rarefirst"
    assert miner.explanation == ""


def test_rarity_is_that_of_the_best_box() -> None:
    judgement = fit().judge(POOL)
    rare = [POOL.ids.tolist().index(100 + number) for number in RARE]
    others = np.setdiff1d(np.arange(60), rare)
    assert judgement.rarity[rare].min() > judgement.rarity[others].max()
    assert judgement.rarity.min() >= 0
    assert judgement.rarity.max() <= 1


def test_boxes_come_with_class_and_confidence_surest_first() -> None:
    judgement = fit().judge(POOL)
    assert judgement.boxes is not None
    assert judgement.boxes.shape == (60, TOP, 6)
    assert judgement.boxes[0, 0, :4].tolist() == pytest.approx([0.2, 0.1, 0.35, 0.4])
    assert (np.diff(judgement.boxes[:, :, 5], axis=1) <= 0).all()
    assert judgement.predicted.tolist() == [0] * 60
    assert np.allclose(judgement.confidence, judgement.boxes[:, 0, 5])


def test_rescore_is_judge_and_queue() -> None:
    miner = fit()
    rows = np.arange(5, 50)
    judgement, queue = miner.rescore(POOL, rows, budget=20, seed=0)
    assert np.array_equal(judgement.rarity, miner.judge(POOL).rarity)
    assert np.array_equal(queue.ids, miner.queue(POOL.take(rows), budget=20, seed=0).ids)


def test_chunks_do_not_change_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    miner = fit()
    whole = miner.queue(POOL, budget=60, seed=0).ids
    monkeypatch.setattr(module, "_CHUNK", 7)
    assert np.array_equal(miner.queue(POOL, budget=60, seed=0).ids, whole)


@pytest.mark.parametrize("scorer", [*DETECTION_SCORERS, "diversity"])
def test_every_scorer_orders_the_whole_pool_and_is_stored(scorer: str, tmp_path: Path) -> None:
    miner = fit(scorer)
    assert miner.kind == scorer
    queue = miner.queue(POOL, budget=100, seed=0)
    assert sorted(queue.ids.tolist()) == POOL.ids.tolist()
    assert len(queue.reasons) == 60
    assert all(queue.reasons)
    miner.save(tmp_path)
    again = load_miner(tmp_path)
    assert isinstance(again, DetectionMiner)
    assert np.array_equal(again.queue(POOL, budget=100, seed=0).ids, queue.ids)
    assert np.allclose(again.judge(POOL).rarity, miner.judge(POOL).rarity)


def nothing() -> LabeledImages:
    return LabeledImages(POOL.take(np.zeros(0, dtype=np.int64)), ())


@pytest.mark.parametrize(
    ("labeled", "classes", "words"),
    [
        (nothing(), CLASSES, "0 labels are too few"),
        (LABELED, ClassSpace(NAMES), "no class is in the tail"),
        (LabeledImages(LABELED.examples, ((),) * 40), CLASSES, "no box was drawn yet"),
        (
            LabeledImages(LABELED.examples, ((Box("rare", 0.0, 0.9, 0.1, 1.0),),) * 40),
            CLASSES,
            "finds none of the 40 labeled boxes",
        ),
    ],
)
def test_where_nothing_can_be_mined_the_queue_is_diverse_and_says_why(
    labeled: LabeledImages, classes: ClassSpace, words: str
) -> None:
    miner = fit(labeled=labeled, classes=classes)
    assert miner.kind == "diversity"
    assert words in miner.explanation
    assert miner.queue(POOL, budget=5, seed=0).reasons == ("diversity",) * 5


def test_a_tail_class_without_a_box_is_named() -> None:
    some = pictures(40, {3: 1, 9: 1}, seed=0)
    miner = fit(labeled=some)
    assert miner.kind == "rarefirst"
    assert "no box of rarer yet" in miner.explanation


def test_auto_is_the_default_and_says_so() -> None:
    miner = fit("auto")
    assert miner.kind == "rarefirst"
    assert "single choices" in miner.choice


def test_a_scorer_of_choices_is_refused() -> None:
    with pytest.raises(ConfigError, match="for boxes expected"):
        fit("galaxy")


def test_classes_that_came_after_the_detector_are_mined_by_their_boxes() -> None:
    # The detector was trained on two of the classes, in another order.
    two = _with_head(LABELED, [1, 0]), _with_head(LabeledImages(POOL, ((),) * 60), [1, 0])
    config = MinerConfig()
    miner = fit_detection_miner(
        two[0], two[1].examples, classes=CLASSES, head=("rare", "common"), config=config, seed=0
    )
    queue = miner.queue(two[1].examples, budget=4, seed=0)
    assert set(queue.ids.tolist()) == {100 + number for number in RARE}
    judgement = miner.judge(two[1].examples)
    assert judgement.predicted.tolist() == [0] * 60


def test_other_classes_of_a_given_detector_stand_for_a_label() -> None:
    # It tells apart "cell" and "thing"; the label config says what they are.
    head = ("cell", "thing", "noise")
    miner = fit_detection_miner(
        LABELED, POOL, classes=CLASSES, head=head, config=MinerConfig(), seed=0,
        stands_for={"common": ("cell", "thing"), "rare": ("noise", "unheard of")},
    )  # fmt: skip
    assert miner.columns == ((0, 1), (2,), ())
    judgement = miner.judge(POOL)
    assert judgement.predicted.tolist() == [0] * 60
    without = fit_detection_miner(
        LABELED, POOL, classes=CLASSES, head=head, config=MinerConfig(), seed=0
    )
    assert without.judge(POOL).confidence.max() == 0


def _with_head(some: LabeledImages, columns: list[int]) -> LabeledImages:
    said: NDArray[np.float32] = np.asarray(some.examples.logits).reshape(-1, 1 + TOP, LOGITS + 3)
    fewer = np.concatenate([said[..., :LOGITS], said[..., LOGITS:][..., columns]], axis=-1)
    rows = Examples(some.examples.ids, some.examples.features, fewer.reshape(len(said), -1))
    return LabeledImages(rows, some.boxes)


def test_rows_of_another_detector_are_refused() -> None:
    miner = fit()
    with pytest.raises(ShapeError, match="another frozen model"):
        miner.judge(_with_head(LabeledImages(POOL, ((),) * 60), [0]).examples)


def emptied(some: Examples, numbers: list[int]) -> Examples:
    said = np.asarray(some.logits).copy().reshape(len(some), 1 + TOP, -1)
    said[numbers, 1:] = 0
    return Examples(some.ids, some.features, said.reshape(len(some), -1))


@pytest.mark.parametrize("scorer", ["rarefirst", "entropy", "paper"])
def test_pictures_without_a_detection_come_last_or_first(scorer: str) -> None:
    pool = emptied(POOL, [4, 33])
    last = fit(scorer).queue(pool, budget=60, seed=0)
    assert set(last.ids[-2:].tolist()) == {104, 133}
    first = fit(scorer, empty_images="first").queue(pool, budget=60, seed=0)
    assert set(first.ids[:2].tolist()) == {104, 133}
    assert first.reasons[:2] == ("nothing detected",) * 2


def test_damage_is_told(tmp_path: Path) -> None:
    fit().save(tmp_path)
    card = json.loads((tmp_path / "miner.json").read_text())
    card["kind"] = "unheard of"
    (tmp_path / "miner.json").write_text(json.dumps(card))
    with pytest.raises(CorruptVersion, match="delete the folder"):
        load_miner(tmp_path)
    (tmp_path / "miner.json").write_text("{")
    with pytest.raises(CorruptVersion, match="delete the folder"):
        load_miner(tmp_path)


def test_boxes_that_nothing_found_are_counted() -> None:
    more = (*LABELED.boxes[:-1], (*LABELED.boxes[-1], Box("rare", 0.0, 0.9, 0.1, 1.0)))
    miner = fit(labeled=LabeledImages(LABELED.examples, more))
    assert miner.metrics["boxes_not_found"] == 1
    assert miner.metrics["boxes"] == 85
