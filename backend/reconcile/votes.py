"""From Label Studio's annotations of a task to one label: the vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backend.labelstudio.client import AnnotationRecord
from backend.labelstudio.interface import ImageBoxes, ImageChoices, Interface
from backend.mirror import LabelState
from models.detection.boxes import to_text
from models.tasks.classification import AnnotationVote, Conflict, vote_label
from models.tasks.detection import BoxAnnotation, Detection, boxes_of


@dataclass(frozen=True)
class Vote:
    """What the annotations of one task came to.

    Attributes:
        state: unlabeled, labeled, conflict, skipped, or other (annotated, but with nothing made
            with a control that we serve).
        label: the label that won, empty unless labeled; of boxes their text.
        annotations: annotations that count.
        notes: what of them is not taken as it is, one sentence each.
    """

    state: LabelState
    label: str
    annotations: int
    notes: tuple[str, ...] = ()


def vote(annotations: Sequence[AnnotationRecord], interface: Interface) -> Vote:
    """Ground truth first, else what most annotators' latest say; skips are left out."""
    kept = [annotation for annotation in annotations if not annotation.was_cancelled]
    if isinstance(interface, ImageBoxes):
        found = _vote_on_boxes(kept, interface)
    else:
        found = _vote_on_choice(kept, interface)
    if found is not None:
        return found
    # Label Studio serves none of the annotated ones as unlabeled.
    if not annotations:
        return Vote("unlabeled", "", 0)
    return Vote("other" if kept else "skipped", "", 0)


def _vote_on_choice(
    annotations: Sequence[AnnotationRecord], interface: ImageChoices
) -> Vote | None:
    """The class that wins; None where nobody chose one."""
    votes = [
        AnnotationVote(
            label=label,
            annotator=annotation.completed_by,
            ground_truth=annotation.ground_truth,
            at=annotation.updated_at,
        )
        for annotation in annotations
        if (label := chosen_label(annotation.result, interface)) is not None
    ]
    if not votes:
        return None
    winner = vote_label(votes)
    if isinstance(winner, Conflict):
        return Vote("conflict", "", len(votes))
    return Vote("labeled", winner, len(votes))


def chosen_label(result: Sequence[Mapping[str, object]], interface: ImageChoices) -> str | None:
    """The choice made with the control that we serve, None where there is none."""
    for region in result:
        if region.get("from_name") != interface.control_name or region.get("type") != "choices":
            continue
        value = region.get("value")
        choices = value.get("choices") if isinstance(value, Mapping) else None
        if isinstance(choices, list) and choices and isinstance(choices[0], str):
            return choices[0]
    return None


def _vote_on_boxes(annotations: Sequence[AnnotationRecord], interface: ImageBoxes) -> Vote | None:
    """The boxes that annotators agree on; None where nobody looked for any."""
    votes: list[BoxAnnotation] = []
    notes: dict[str, None] = {}
    for annotation in annotations:
        if _of_another_config(annotation.result, interface):
            continue
        boxes, reasons = boxes_of(annotation.result, interface.labels_of_control)
        notes |= dict.fromkeys(reasons)
        votes.append(
            BoxAnnotation(
                boxes=boxes,
                annotator=annotation.completed_by,
                ground_truth=annotation.ground_truth,
                at=annotation.updated_at,
            )
        )
    merged = Detection.vote(votes)
    if merged is None:
        return None
    return Vote("labeled", to_text(merged), len(votes), tuple(notes))


def _of_another_config(result: Sequence[Mapping[str, object]], interface: ImageBoxes) -> bool:
    """Whether nothing is of our controls, and something of one that the config does not hold.

    Such an annotation does not say that there is nothing: its boxes may have had another name.
    """
    made_with = {str(name) for region in result if (name := region.get("from_name")) is not None}
    ours = interface.labels_of_control.keys()
    return made_with.isdisjoint(ours) and not made_with <= {*ours, *interface.beside}
