"""One choice for each image (``Choices``): votes, targets and regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from models.errors import ShapeError
from models.types import IntArray


@dataclass(frozen=True)
class AnnotationVote:
    """One annotation, as far as the vote looks at it.

    Attributes:
        label: the chosen class; None where the annotator skipped or chose nothing.
        annotator: who; None where unknown, which counts as one annotator.
        ground_truth: whether it was marked as the truth.
        at: when it was last changed; None is older than any time.
    """

    label: str | None
    annotator: int | None = None
    ground_truth: bool = False
    at: datetime | None = None


@dataclass(frozen=True)
class Conflict:
    """A tie: the labels that have the same number of votes, sorted.

    Such a task is left out of fitting and reported.
    """

    labels: tuple[str, ...]


def vote_label(votes: Sequence[AnnotationVote]) -> str | Conflict:
    """Ground truth first, else the majority of each annotator's latest.

    Raises: ShapeError: if no vote holds a label; ask ``Classification.vote`` where that can be.
    """
    winner = Classification.vote(votes)
    if winner is None:
        raise ShapeError("found no annotation with a label; expected at least one")
    return winner


def choice_region(
    label: str, *, confidence: float, from_name: str, to_name: str
) -> dict[str, object]:
    """A predicted class as one region of Label Studio's result JSON.

    Args:
        label: the class name, as the label config has it.
        confidence: its probability in [0, 1].
        from_name: name of the ``Choices`` tag.
        to_name: name of the ``Image`` tag.
    """
    return {
        "from_name": from_name,
        "to_name": to_name,
        "type": "choices",
        "value": {"choices": [label]},
        "score": min(max(float(confidence), 0.0), 1.0),
    }


class Classification:
    """Single-choice image classification."""

    tag = "Choices"
    name = "classification"

    @staticmethod
    def classes_in(label: str) -> tuple[str, ...]:
        """The class that the label of an image is."""
        return (label,)

    @staticmethod
    def is_usable(label: str, classes: Collection[str]) -> bool:
        """Whether a label is one of some classes."""
        return label in classes

    @staticmethod
    def vote(annotations: Sequence[AnnotationVote]) -> str | Conflict | None:
        """The label that wins; None where nobody chose one."""
        chosen = [vote for vote in annotations if vote.label is not None]
        truths = [vote for vote in chosen if vote.ground_truth]
        latest: dict[int | None, AnnotationVote] = {}
        # Ties in time keep their order: Label Studio lists the newer annotation later.
        for vote in sorted(truths or chosen, key=_moment):
            latest[vote.annotator] = vote
        counts = Counter(vote.label for vote in latest.values() if vote.label is not None)
        if not counts:
            return None
        most = max(counts.values())
        winners = sorted(label for label, count in counts.items() if count == most)
        return winners[0] if len(winners) == 1 else Conflict(tuple(winners))

    @staticmethod
    def targets(labels: Sequence[str], class_names: Sequence[str]) -> IntArray:
        """(N,) class indices of labels.

        Raises: ShapeError: if a label is not among ``class_names``.
        """
        index = {name: number for number, name in enumerate(class_names)}
        unknown = sorted(set(labels) - set(index))
        if unknown:
            raise ShapeError(
                f"found labels {unknown}, expected some of {list(class_names)}; "
                "put them back into the label config or label those tasks again"
            )
        return np.asarray([index[label] for label in labels], dtype=np.int64)


def _moment(vote: AnnotationVote) -> float:
    return vote.at.timestamp() if vote.at is not None else float("-inf")
