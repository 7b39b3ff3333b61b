"""From Label Studio's annotations of a task to one label: the vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backend.labelstudio.client import AnnotationRecord
from backend.labelstudio.interface import ImageChoices
from backend.mirror import LabelState
from models.tasks.classification import AnnotationVote, Conflict, vote_label


@dataclass(frozen=True)
class Vote:
    """What the annotations of one task came to.

    Attributes:
        state: unlabeled, labeled, conflict, skipped, or other (annotated, but nothing was chosen
            with the control that we serve).
        label: the label that won, empty unless labeled.
        annotations: annotations that count.
    """

    state: LabelState
    label: str
    annotations: int


def vote(annotations: Sequence[AnnotationRecord], interface: ImageChoices) -> Vote:
    """Ground truth first, else the majority of the annotators' latest; skips are left out."""
    votes = [
        AnnotationVote(
            label=label,
            annotator=annotation.completed_by,
            ground_truth=annotation.ground_truth,
            at=annotation.updated_at,
        )
        for annotation in annotations
        if not annotation.was_cancelled
        and (label := chosen_label(annotation.result, interface)) is not None
    ]
    if not votes:
        # Label Studio serves none of the annotated ones as unlabeled.
        if not annotations:
            return Vote("unlabeled", "", 0)
        skipped = all(annotation.was_cancelled for annotation in annotations)
        return Vote("skipped" if skipped else "other", "", 0)
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
