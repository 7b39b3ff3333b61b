"""When what a task is predicted to hold is shown to annotators: alike in the queue and /predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from models.tasks.classification import choice_region
from models.tasks.detection import box_region
from models.types import FloatArray, IntArray

if TYPE_CHECKING:
    from backend.labelstudio.interface import Interface

#: Least confidence of a box, where the label config says none: a detector sees many faint ones.
BOX_CONFIDENCE = 0.3

# Confidences are kept in single precision: 0.9 comes back a little smaller.
_ROUNDING = 1e-6


class Said(Protocol):
    """What a model says of tasks, row by row: a judgement, or what is published of one."""

    @property
    def predicted(self) -> IntArray:
        """(N,) class numbers."""

    @property
    def confidence(self) -> FloatArray:
        """(N,) in [0, 1]."""

    @property
    def boxes(self) -> FloatArray | None:
        """(N, J, 6) as ``box_preannotation`` takes them; None where there are none."""


def shown(
    interface: Interface | None, classes: Sequence[str], said: Said, row: int
) -> tuple[dict[str, object], ...]:
    """The regions of one task, of whatever kind; none where the config asks for another kind.

    Args:
        interface: what the label config shows.
        classes: K names that ``said`` counts in.
        said: what is said of several tasks.
        row: which of them.
    """
    if said.boxes is not None:
        return box_preannotation(interface, classes, said.boxes[row])
    return preannotation(interface, classes[int(said.predicted[row])], float(said.confidence[row]))


def class_of(classes: Sequence[str], said: Said, row: int) -> str:
    """What a task looks like, or its surest box; empty where nothing is known or there."""
    return classes[int(said.predicted[row])] if said.confidence[row] > 0 else ""


def preannotation(
    interface: Interface | None, label: str, confidence: float
) -> tuple[dict[str, object], ...]:
    """The predicted class as the one region of a result, or nothing.

    Args:
        interface: what the label config shows; None where it is nothing that we serve.
        label: the predicted class.
        confidence: its probability, 0 where the model knows nothing. The label config may ask for
            more (``model_score_threshold``).
    """
    if interface is None or interface.task != "classification":
        return ()
    if confidence <= 0 or label not in interface.labels:
        return ()
    least = interface.score_threshold
    if least is not None and confidence + _ROUNDING < least:
        return ()
    region = choice_region(
        label,
        confidence=confidence,
        from_name=interface.control_name,
        to_name=interface.image_name,
    )
    return (region,)


def box_preannotation(
    interface: Interface | None,
    classes: Sequence[str],
    boxes: FloatArray,
    *,
    least: float = BOX_CONFIDENCE,
) -> tuple[dict[str, object], ...]:
    """The predicted boxes of a task as regions, the surest first.

    Args:
        interface: what the label config shows; nothing is shown unless that is boxes.
        classes: K names that the boxes' classes are numbers of.
        boxes: (J, 6): x0, y0, x1, y1 as shares of the picture, class, confidence; rows with
            confidence 0 are none.
        least: confidence below which a box is not shown; a tag's ``model_score_threshold`` counts
            instead.
    """
    if interface is None or interface.task != "detection":
        return ()
    regions: dict[object, dict[str, object]] = {}
    for x0, y0, x1, y1, number, confidence in sorted(boxes.tolist(), key=lambda row: -row[5]):
        label = classes[int(number)]
        control = interface.control_of(label)
        if control is None or not confidence > 0 or x1 <= x0 or y1 <= y0:
            continue
        own = control.score_threshold
        if confidence + _ROUNDING < (least if own is None else own):
            continue
        region = box_region(
            label,
            (x0, y0, x1, y1),
            confidence=confidence,
            from_name=control.name,
            to_name=interface.image_name,
        )
        regions.setdefault(region["id"], region)
    return tuple(regions.values())
