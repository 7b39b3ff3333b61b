"""Pictures with boxes as a project of Label Studio, and what its predictions are compared with."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import quoteattr

from rich.markup import escape

from demo.box_report import BoxReport, look_at_boxes
from demo.box_set import BoxPicture, BoxSet
from demo.job import Job
from demo.label_studio_api import LabelStudioApi
from demo.project import Region, Upload
from demo.report import RunReport
from models.detection.boxes import Box, Boxes, from_text, to_text

CONTROL: Final = "box"
NOTHING: Final = "(nothing)"
LABELS: Final = 60
STEPS: Final = "300"
FIRST_QUEUE_S: Final = 1200.0
# What is quick enough on two cores, and a multiple of the coarsest map's stride.
_SIZES_PX: Final = (128, 160, 192, 256, 320)


def box_config(classes: Sequence[str]) -> str:
    """A label config with one ``RectangleLabels`` over these classes."""
    labels = "".join(f"<Label value={quoteattr(name)}/>" for name in classes)
    return (
        '<View><Image name="image" value="$image" zoom="true"/>'
        f'<RectangleLabels name="{CONTROL}" toName="image">{labels}</RectangleLabels></View>'
    )


def box_region(box: Box, size: tuple[int, int]) -> Region:
    """A box as Label Studio's own page stores it.

    Args:
        box: as shares of the picture.
        size: width and height of the picture in pixels, upright.
    """
    return {
        "from_name": CONTROL,
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": size[0],
        "original_height": size[1],
        "image_rotation": 0,
        "value": {
            "x": 100 * box.x0,
            "y": 100 * box.y0,
            "width": 100 * (box.x1 - box.x0),
            "height": 100 * (box.y1 - box.y0),
            "rotation": 0,
            "rectanglelabels": [box.label],
        },
    }


def regions_of(picture: BoxPicture) -> list[Region]:
    """The truth about a picture, as an annotator draws it."""
    return [
        box_region(box, (picture.width, picture.height))
        for box in picture.boxes
        if box.label is not None
    ]


def drawn_boxes(result: Sequence[Mapping[str, object]]) -> Boxes:
    """The boxes of a result that is known to hold upright boxes with one label each."""
    found = []
    for region in result:
        value = region["value"]
        assert isinstance(value, dict)
        x0, y0 = value["x"] / 100, value["y"] / 100
        x1, y1 = x0 + value["width"] / 100, y0 + value["height"] / 100
        found.append(Box(value["rectanglelabels"][0], x0, y0, x1, y1))
    # Rounded as the truth is.
    return from_text(to_text(found))


def _input_size(chosen: BoxSet) -> int:
    """About the size of the pictures: the detector's input, in pixels."""
    side = statistics.median(max(one.width, one.height) for one in chosen.pool)
    return next((size for size in _SIZES_PX if size >= side), _SIZES_PX[-1])


def boxes_job(
    chosen: BoxSet, *, title: str = "Boxes", home: str = "", tail_named: bool = False
) -> Job:
    """Boxes on pictures, some classes of which are rare.

    Args:
        chosen: the pictures.
        title: of the project.
        home: ending of the folder in which a run with a person is remembered.
        tail_named: whether somebody named what is rare; our service then hears it too. Else it
            finds out by itself.
    """
    pictures = chosen.by_name

    def shows(name: str) -> str:
        """The rarest class on a picture."""
        classes = pictures[name].classes
        ordered = (*chosen.rare, *reversed(chosen.classes))
        return next((one for one in ordered if one in classes), NOTHING)

    def answers(task: Mapping[str, object]) -> list[str]:
        """The pictures whose boxes are stored on a task."""
        annotations = task["annotations"]
        assert isinstance(annotations, list)
        stored = [drawn_boxes(one["result"] or ()) for one in annotations]
        texts = {to_text(boxes) for boxes in stored}
        return [name for name in pictures if to_text(pictures[name].boxes) in texts]

    def look(api: LabelStudioApi, project_id: int, report: RunReport) -> None:
        assert isinstance(report, BoxReport)
        report.boxes = look_at_boxes(api, project_id, pictures)

    rare = " or ".join(chosen.rare)
    tail = {"RAREFIRST_TAIL_CLASSES": ",".join(chosen.rare)} if tail_named else {}
    return Job(
        title=title,
        label_config=box_config(chosen.classes),
        images=(
            *(Upload(one.name, one.content, regions_of(one)) for one in chosen.seeds),
            *(Upload(one.name, one.content) for one in chosen.pool),
        ),
        pool=len(chosen.pool),
        rare=chosen.rare,
        rare_in_pool=chosen.rare_in_pool,
        truth={name: name for name in pictures},
        regions=lambda name: regions_of(pictures[name]),
        shows=shows,
        answers=answers,
        report=BoxReport,
        look=look,
        environment={
            "RAREFIRST_PREANNOTATE": "true",
            "RAREFIRST_BACKBONE": "efficientnet_lite0",
            "RAREFIRST_WEIGHTS": "DEFAULT",
            "RAREFIRST_DETECTOR_SIZE_PX": str(_input_size(chosen)),
            "RAREFIRST_DETECTOR_STEPS": STEPS,
            **tail,
        },
        first_queue_s=FIRST_QUEUE_S,
        home=home,
        notes=chosen.notes,
        tips=(
            f'Press "Label All Tasks": pictures with [bold]{escape(rare)}[/bold] are rare (about '
            f"one task in {len(chosen.pool) / chosen.rare_in_pool:.0f}), yet they come first.",
            "The boxes that you see are what the model found: mend them, add what is missing, and "
            "submit.",
        ),
        labels=min(LABELS, len(chosen.pool) // 3),
    )
