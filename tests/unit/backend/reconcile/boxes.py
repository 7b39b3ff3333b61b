"""A project of drawn boxes in the Label Studio in memory: bright squares on a dark ground.

Red and green ones, a few blue; some pictures hold none. Boxes are said in percents, as there.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from backend.labelstudio.records import AnnotationRecord, PredictionItem
from tests.unit.backend.reconcile.fake_label_studio import COLORS, FakeLabelStudio
from tests.unit.backend.reconcile.rounds import Start, starter

BOXES = """<View><Image name="image" value="$image"/><RectangleLabels name="box" toName="image">
<Label value="red"/><Label value="green"/><Label value="blue"/></RectangleLabels></View>"""
SIDE = 64

#: Class and x, y, width, height in percents.
Drawn = tuple[str, float, float, float, float]


def picture_of(drawn: Sequence[Drawn], seed: int) -> str:
    """A data URI of a dark picture, half as high as it is wide, with its boxes filled."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (SIDE // 2, SIDE, 3))
    for kind, x, y, width, height in drawn:
        left, top = round(x * SIDE / 100), round(y * SIDE / 200)
        right, bottom = round((x + width) * SIDE / 100), round((y + height) * SIDE / 200)
        pixels[top:bottom, left:right] = COLORS[kind]
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def region(drawn: Drawn) -> dict[str, object]:
    """A box as Label Studio stores it."""
    kind, x, y, width, height = drawn
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
    return {
        "from_name": "box",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": SIDE,
        "original_height": SIDE // 2,
        "image_rotation": 0,
        "value": {**value, "rectanglelabels": [kind]},
    }


class BoxesLabelStudio(FakeLabelStudio):
    """The same Label Studio, with boxes to draw.

    Attributes:
        drawn: the boxes of each task.
        shown: pre-annotations of the last import, by task.
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings["label_config"] = BOXES
        self.drawn: dict[int, tuple[Drawn, ...]] = {}
        self.shown: dict[int, list[dict[str, object]]] = {}

    def add_boxes(self, *drawn: Drawn) -> int:
        seed = len(self.task_rows)
        task_id = self.add_task(drawn[0][0] if drawn else "", uri=picture_of(drawn, seed))
        self.drawn[task_id] = drawn
        return task_id

    def annotate(self, task_id: int, label: str | None = None, *, by: int = 1) -> None:
        at = self.tick()
        annotation = AnnotationRecord(
            id=self.new_id(),
            result=tuple(region(drawn) for drawn in self.drawn[task_id]),
            completed_by=by,
            created_at=at,
            updated_at=at,
        )
        self._touch(task_id, (*self.task_rows[task_id].annotations, annotation))

    def import_predictions(self, project_id: int, items: Sequence[PredictionItem]) -> int:
        self.shown = {item.task: [dict(one) for one in item.result] for item in items}
        return super().import_predictions(project_id, items)


def boxes_project(count: int, *, blue: Collection[int], labeled: int) -> BoxesLabelStudio:
    """A project connected by hand: each fourth picture empty, the first ``labeled`` labeled."""
    fake = BoxesLabelStudio()
    for i in range(count):
        left = 10 + 5 * (i % 7)
        kind = "blue" if i in blue else ("red", "green")[i % 2]
        second = (("green", 60, 40, 30, 50),) if i % 3 == 0 else ()
        one: Drawn = (kind, left, 20, 30, 60)
        fake.add_boxes(*(() if i % 4 == 3 and i not in blue else (one, *second)))
    for task_id in list(fake.task_rows)[:labeled]:
        fake.annotate(task_id)
    fake.create_connection(1, "http://localhost:9090", title="rarefirst")
    return fake


def boxes_starter(label_studio: FakeLabelStudio, data_dir: Path, **usual: object) -> Start:
    """The loop with a detector that is small enough for tests."""
    given = {"top_k": 12, "tail_min_labels": 10, "tail_threshold": 0.5, "detector_size_px": SIDE}
    return starter(label_studio, data_dir, **{**given, **usual})
