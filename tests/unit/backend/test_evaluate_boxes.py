"""What `evaluate` says of a version that finds boxes."""

from __future__ import annotations

from io import StringIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from backend.cli_finetune_tables import evaluation_tables
from backend.evaluate_versions import Evaluation, VersionFigures, _answers, _figures
from models.detection.boxes import Box, to_text
from models.detection.coco import BoxMetrics
from models.tasks.base import DETECTION
from models.types import Judgement

CUP, FORK = Box("cup", 0.1, 0.1, 0.4, 0.5), Box("fork", 0.5, 0.5, 0.9, 0.9)
PROJECT: Any = SimpleNamespace(
    sync=SimpleNamespace(classes=("cup", "fork"), task=DETECTION),
    tail=SimpleNamespace(names=("fork", "one that was taken away")),
)


def judged() -> Judgement:
    boxes = np.zeros((2, 3, 6), dtype=np.float32)
    boxes[0, 0] = [*CUP.corners, 0, 0.9]
    boxes[1, 0] = [*FORK.corners, 1, 0.8]
    return Judgement(
        ids=np.array([7, 9]),
        rarity=np.zeros(2),
        predicted=np.array([0, 1]),
        confidence=np.array([0.9, 0.8]),
        boxes=boxes,
    )


def test_boxes_are_judged_as_coco_does() -> None:
    truth = {7: to_text([CUP]), 9: to_text([FORK, Box("fork", 0.1, 0.1, 0.3, 0.3)])}
    found = _figures(PROJECT, _answers(judged()), truth)
    assert isinstance(found, BoxMetrics)
    assert [one.ap for one in found.classes] == pytest.approx([1, 51 / 101])
    assert found.tail == (1,)
    assert found.boxes == 3
    shown = Evaluation(
        project=1,
        task=DETECTION,
        tail=("fork",),
        held_out=2,
        held_out_by_class={"cup": 1, "fork": 2},
        versions=(VersionFigures(name="0001", figures=found, frozen_model="fine-tuned 12345678"),),
    )
    text = StringIO()
    Console(file=text, width=160).print(evaluation_tables(shown))
    for words in ("AP of the rare", "at IoU .50", "0.505", "0.50 (0.50-0.50)", "3 boxes (cup 1"):
        assert words in text.getvalue()
    again = Evaluation.model_validate_json(shown.model_dump_json())
    assert again == shown
