"""When a task's predicted class is shown to annotators: the same in the queue and in /predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.tasks.classification import choice_region

if TYPE_CHECKING:
    from backend.labelstudio.interface import ImageChoices

# Confidences are kept in single precision: 0.9 comes back a little smaller.
_ROUNDING = 1e-6


def preannotation(
    interface: ImageChoices | None, label: str, confidence: float
) -> tuple[dict[str, object], ...]:
    """The predicted class as the one region of a result, or nothing.

    Args:
        interface: what the label config shows; None where it is nothing that we serve.
        label: the predicted class.
        confidence: its probability, 0 where the model knows nothing. The label config may ask for
            more (``model_score_threshold``).
    """
    if interface is None or confidence <= 0 or label not in interface.labels:
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
