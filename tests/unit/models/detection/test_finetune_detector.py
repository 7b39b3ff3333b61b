"""From boxes and a detector to a judged candidate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.backbones.detector import Detector
from models.config import FinetuneConfig
from models.detection.boxes import Box, Boxes
from models.detection.coco import BoxMetrics
from models.errors import ConfigError, NotEnoughLabels, ShapeError
from models.recipes import finetune_detector as recipe
from models.recipes.detector_classes import with_classes
from models.recipes.finetune_detector import finetune_detector
from models.recipes.finetune_outcome import Outcome
from models.recipes.review_labels import Review
from tests.unit.models.detection.drawn import NAMES, drawn, tiny

COUNT = 40


class Killed(BaseException):
    """Stands for kill -9."""


def config(**changes: Any) -> FinetuneConfig:
    settings = {
        "strategy": "repeat_factor",
        "epochs": 12,
        "min_steps": 0,
        "batch": 6,
        "augmentation": "flip",
        "learning_rate": 5e-3,
        "clip": 5.0,
        "checkpoint_every_s": 0.0,
    }
    return FinetuneConfig(**{**settings, **changes})


def tune(
    run_dir: Path,
    detector: Detector | None = None,
    *,
    boxes: list[Boxes] | None = None,
    away: int = 3,
    seen: tuple[int, ...] = (),
    names: tuple[str, ...] = NAMES,
    tail: tuple[int, ...] = (1,),
    **changes: Any,
) -> Outcome:
    images, true = drawn(COUNT, rare=0.4)
    ids = np.arange(COUNT)
    return finetune_detector(
        detector or tiny(),
        images,
        boxes or true,
        ids=ids,
        class_names=names,
        tail=tail,
        held_out=ids % away == 0,
        seen=np.isin(ids, seen),
        config=config(**changes),
        run_dir=run_dir,
        seed=1,
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    run_dir = tmp_path_factory.mktemp("run")
    return run_dir, tune(run_dir)


def test_a_trained_detector_takes_the_place_of_one_that_knows_nothing(
    done: tuple[Path, Outcome],
) -> None:
    run_dir, outcome = done
    verdict = outcome.verdict
    assert verdict.promoted, verdict.reasons
    assert verdict.compared == "held-out"
    assert isinstance(verdict.before, BoxMetrics)
    assert isinstance(verdict.after, BoxMetrics)
    assert (verdict.after.tail_ap or 0) > (verdict.before.tail_ap or 0)
    assert verdict.held_out_by_class == {c.name: c.boxes for c in verdict.after.classes[:2]}
    candidate = Detector.load(run_dir / "candidate")
    assert candidate.fingerprint == outcome.candidate
    assert candidate.class_names == NAMES
    assert outcome.examples == COUNT - 14
    stored = Outcome.model_validate_json((run_dir / "outcome.json").read_bytes())
    assert stored == outcome


def test_the_review_names_pictures_that_were_learned_from(done: tuple[Path, Outcome]) -> None:
    review = Review.model_validate_json((done[0] / "review.json").read_bytes())
    assert review.by == "loss"
    assert all(doubt.id % 3 for doubt in review.suspects)
    assert all(json.loads(doubt.label) for doubt in review.suspects)


def test_asked_again_it_says_the_same(done: tuple[Path, Outcome]) -> None:
    run_dir, outcome = done
    assert tune(run_dir) == outcome


def test_a_folder_with_other_labels_is_refused(done: tuple[Path, Outcome]) -> None:
    with pytest.raises(ConfigError, match="holds a run on other labels"):
        tune(done[0], boxes=[()] * COUNT)


def test_killed_before_the_judgement_it_comes_to_the_same(
    done: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(recipe._Run, "_judge", die)
        with pytest.raises(Killed):
            tune(tmp_path)
    again = tune(tmp_path)
    assert again.verdict == done[1].verdict
    assert again.candidate == done[1].candidate


def test_the_incumbent_stays_as_it_is(tmp_path: Path) -> None:
    detector = tiny()
    before = {name: value.clone() for name, value in detector.network.state_dict().items()}
    tune(tmp_path, detector, epochs=1)
    after = detector.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_the_incumbent_has_seen_judges_nothing(tmp_path: Path) -> None:
    outcome = tune(tmp_path, seen=tuple(range(0, COUNT, 3)), epochs=1)
    assert not outcome.verdict.promoted
    assert outcome.verdict.compared == "nothing"
    assert outcome.verdict.reasons[0].startswith("rejected: blue has 0 boxes on 0 pictures")
    assert outcome.verdict.before is None


def test_too_few_held_out_boxes_promote_nothing_and_are_shown(tmp_path: Path) -> None:
    outcome = tune(tmp_path, away=20, epochs=1)
    assert not outcome.verdict.promoted
    assert "5 boxes on 3 pictures are needed" in outcome.verdict.reasons[0]
    assert outcome.verdict.before is not None


def test_a_training_that_diverges_is_no_candidate(tmp_path: Path) -> None:
    outcome = tune(tmp_path, learning_rate=1e30, clip=0.0, epochs=1)
    assert outcome.candidate is None
    assert "not finite" in outcome.verdict.reasons[0]


def test_a_class_that_came_later_is_learned_too(tmp_path: Path) -> None:
    outcome = tune(tmp_path, tiny(("red",)), epochs=1)
    assert isinstance(outcome.verdict.before, BoxMetrics)
    assert outcome.verdict.before.classes[1].ap == 0  # it knows nothing of blue
    assert Detector.load(tmp_path / "candidate").class_names == NAMES


def test_labels_that_teach_nothing_are_refused(tmp_path: Path) -> None:
    unknown = [(Box(None, 0.1, 0.1, 0.5, 0.5),)] * COUNT
    with pytest.raises(NotEnoughLabels, match="a box at least"):
        tune(tmp_path, boxes=unknown)
    with pytest.raises(ShapeError, match="expected as many of each"):
        tune(tmp_path / "other", boxes=unknown[:3])


def test_a_known_class_keeps_its_weights_in_another_order() -> None:
    detector = tiny(("red", "blue"))
    wider = with_classes(detector, ("blue", "green", "red"))
    assert wider.class_names == ("blue", "green", "red")
    picture = torch.rand(1, 3, 64, 64)
    before, after = (one.network.look(picture).logits for one in (detector, wider))
    assert torch.allclose(before[..., 0], after[..., 2], atol=1e-6)
    assert torch.allclose(before[..., 1], after[..., 0], atol=1e-6)
    assert torch.sigmoid(after[..., 1]).mean() < 0.1
    assert detector.class_names == ("red", "blue")
