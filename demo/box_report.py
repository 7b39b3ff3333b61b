"""What a labeling run on boxes found, and whether the boxes that it showed lie on the objects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

import numpy as np

from demo.annotator import file_name
from demo.box_set import BoxPicture
from demo.label_studio_api import LabelStudioApi
from demo.report import RunReport
from models.detection.boxes import array, overlaps

MIN_OVERLAP: Final = 0.5
MIN_SHARE_PLACED: Final = 0.5
#: Of what an order that knows the truth would find beyond random order.
MIN_GAIN: Final = 0.25
#: Standard deviations of what random order finds.
MIN_DEVIATIONS: Final = 2.0
# Label Studio's percents of an edge, after 1.0 was written as single precision.
_ROUNDING: Final = 1e-4


@dataclass(frozen=True)
class ShownBoxes:
    """The boxes of the predictions that Label Studio shows.

    Attributes:
        tasks: tasks that have a prediction under the served version.
        with_boxes: of these, with a box at least.
        boxes: boxes on all of them.
        placed: of these, with an overlap (IoU) of 0.5 or more with an object.
        right: of these, with that object's class.
        outside: with a percent below 0 or above 100.
        surest: pictures that hold an object and have a box at least.
        surest_placed: of these, whose surest box has an overlap of 0.5 or more with an object.
    """

    tasks: int = 0
    with_boxes: int = 0
    boxes: int = 0
    placed: int = 0
    right: int = 0
    outside: int = 0
    surest: int = 0
    surest_placed: int = 0

    @property
    def share_placed(self) -> float:
        """Of the surest boxes, in [0, 1]; 0 where there is none."""
        return self.surest_placed / self.surest if self.surest else 0.0


@dataclass
class BoxReport(RunReport):
    """One run on one project of boxes.

    Attributes:
        boxes: what was shown before the last batch.
    """

    noun: ClassVar[str] = "pictures"

    boxes: ShownBoxes = ShownBoxes()

    @property
    def least_found(self) -> int:
        """Rare pictures that are promised: more than luck, and a part of what is possible."""
        count, rare, pool = len(self.served), self.rare_total, self.pool
        if not count:
            return 1
        share, best = rare / pool, min(count, rare)
        by_luck = count * share
        # Hypergeometric: drawn from the pool without putting back.
        spread = math.sqrt(count * share * (1 - share) * (pool - count) / max(pool - 1, 1))
        margin = max(MIN_DEVIATIONS * spread, MIN_GAIN * (best - by_luck))
        return min(math.ceil(by_luck + margin), best)

    def too_little(self) -> list[str]:
        """What is less than promised: rare pictures, and boxes in their places."""
        found = []
        if self.rare_found < self.least_found:
            found.append(
                f"{self.rare_found} pictures with something rare among {len(self.served)} labels, "
                f"at least {self.least_found} are expected "
                f"(random order: {self.random_share * self.rare_total:.1f})"
            )
        boxes = self.boxes
        if not boxes.boxes:
            found.append(f"no box was shown on any of {boxes.tasks} tasks")
        elif boxes.share_placed < MIN_SHARE_PLACED:
            found.append(
                f"the surest box lies on an object in {boxes.surest_placed} of {boxes.surest} "
                f"pictures that hold one, at least {MIN_SHARE_PLACED:.0%} are expected"
            )
        if boxes.outside:
            found.append(f"{boxes.outside} boxes reach beyond the picture")
        return found

    def remarks(self) -> list[str]:
        """What the boxes were like."""
        boxes = self.boxes
        return [
            f"{boxes.boxes} boxes were shown on {boxes.with_boxes} of {boxes.tasks} tasks, "
            f"{boxes.placed} of them on an object; the surest of a picture lay on one in "
            f"{boxes.surest_placed} of {boxes.surest} pictures that hold any"
        ]

    def as_json(self) -> dict[str, object]:
        """All of it, with what follows from it, for machines."""
        return {**super().as_json(), "boxes": asdict(self.boxes), "least_found": self.least_found}


def look_at_boxes(
    api: LabelStudioApi, project_id: int, truth: Mapping[str, BoxPicture]
) -> ShownBoxes:
    """Compare the boxes of the served predictions with the truth.

    Args:
        api: Label Studio as an annotator sees it.
        project_id: the project.
        truth: the pictures by file name.
    """
    version = api.model_version(project_id)
    names = {
        int(str(task["id"])): file_name(str(dict(task["data"])["image"]))  # type: ignore[arg-type]  # data is an object
        for task in api.tasks(project_id)
    }
    listed = api.request("GET", "/api/predictions", query={"task__project": project_id}).json()
    predictions = [one for one in listed if one["model_version"] == version]
    found = [_compared(one["result"], truth[names[one["task"]]]) for one in predictions]
    return ShownBoxes(
        len(predictions),
        sum(one.boxes > 0 for one in found),
        sum(one.boxes for one in found),
        sum(one.placed for one in found),
        sum(one.right for one in found),
        sum(one.outside for one in found),
        sum(one.surest for one in found),
        sum(one.surest_placed for one in found),
    )


def _compared(result: list[dict[str, Any]], picture: BoxPicture) -> ShownBoxes:
    """The boxes of one prediction against the truth."""
    percents = np.array(
        [[region["value"][key] for key in ("x", "y", "width", "height")] for region in result],
        dtype=np.float64,
    ).reshape(-1, 4)
    corners = np.concatenate([percents[:, :2], percents[:, :2] + percents[:, 2:]], axis=1)
    outside = (corners < -_ROUNDING).any(axis=1) | (corners > 100 + _ROUNDING).any(axis=1)
    overlap = overlaps(corners / 100, array(picture.boxes))
    placed, right = 0, 0
    for region, row in zip(result, overlap, strict=True):
        if len(row) and row.max() >= MIN_OVERLAP:
            placed += 1
            labels = region["value"]["rectanglelabels"]
            right += labels == [picture.boxes[int(row.argmax())].label]
    both = bool(result and picture.boxes)
    surest = max(range(len(result)), key=lambda row: result[row]["score"]) if both else 0
    met = both and overlap[surest].max() >= MIN_OVERLAP
    return ShownBoxes(
        1, int(len(result) > 0), len(result), placed, right, int(outside.sum()), both, int(met)
    )
