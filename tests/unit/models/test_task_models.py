"""What differs between kinds of labels: which model is wished for, and what a miner is shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.errors import ConfigError
from models.tasks.base import CLASSIFICATION, DETECTION, Wanted, task_of
from models.types import Examples


def wanted(**changes: object) -> Wanted:
    given = {"architecture": "cnn4", "weights": "none", "classes": ("a", "b"), "seed": 0}
    return Wanted.model_validate({**given, **changes})


def examples(logits: list[list[float]] | None) -> Examples:
    said = None if logits is None else np.asarray(logits, dtype=np.float32)
    return Examples(np.asarray([3, 5]), np.eye(2, dtype=np.float16), said)


@pytest.mark.parametrize(
    ("head", "classes", "expected"),
    [
        (("a", "b"), ("a", "b"), [[2, 3], [4, 5]]),
        (("a", "b"), ("b", "a"), [[3, 2], [5, 4]]),
        (("a", "b"), ("b",), [[3], [5]]),
        (("a", "b"), ("a", "c"), None),
        ((), ("a",), None),
    ],
)
def test_a_classifier_shows_logits_where_its_head_tells_all_classes_apart(
    head: tuple[str, ...], classes: tuple[str, ...], expected: list[list[int]] | None
) -> None:
    stored = examples([[2, 3], [4, 5]])
    found = task_of(CLASSIFICATION).shown(stored, head=head, classes=classes)
    assert found.features is stored.features, "nothing is copied"
    assert (None if found.logits is None else found.logits.tolist()) == expected


def test_a_classifier_without_logits_shows_none() -> None:
    found = task_of(CLASSIFICATION).shown(examples(None), head=("a",), classes=("a",))
    assert found.logits is None


def test_detections_are_shown_packed_whatever_the_classes() -> None:
    stored = examples([[0.0, 0, 1, 1, 0.5, 3, -2, 2]] * 2)
    assert task_of(DETECTION).shown(stored, head=("a", "b"), classes=("b", "c")) is stored


def test_a_wish_is_told_from_another_one() -> None:
    classes, boxes = task_of(CLASSIFICATION), task_of(DETECTION)
    assert classes.source(wanted()) == "cnn4|none|", "as older releases remembered it"
    assert classes.source(wanted(input_size=640)) == classes.source(wanted())
    assert boxes.source(wanted()) != classes.source(wanted())
    sources = {boxes.source(wanted(**{k: v})) for k, v in (("input_size", 640), ("detections", 5))}
    assert len(sources | {boxes.source(wanted())}) == 3
    # A class that came or went makes no other model: the old one goes on until it is trained anew.
    assert boxes.source(wanted(classes=("a",))) == boxes.source(wanted())


def test_what_is_trained_on_the_labels(tmp_path: Path) -> None:
    classes, boxes = task_of(CLASSIFICATION), task_of(DETECTION)
    assert classes.trainable(wanted())
    assert not classes.trainable(wanted(architecture="resnet18", weights="DEFAULT"))
    # Published weights are those of a trunk: a detector's head knows nothing of the project.
    assert boxes.trainable(wanted(architecture="resnet18", weights="DEFAULT"))
    assert boxes.trainable(wanted(weights=str(tmp_path / "trunk.pt")))
    assert not boxes.trainable(wanted(weights=str(tmp_path))), "the folder of a whole detector"


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ConfigError, match="found task 'segmentation', expected one of class"):
        task_of("segmentation")


def test_the_table_of_kinds_loads_nothing_heavy() -> None:
    code = "import sys, models.tasks.base, models.tasks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
