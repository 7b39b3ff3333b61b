"""Why tasks at the head of a queue are taken for rare, as it is published and told.

Made for the head only, from features that were read for the order anyway; kept beside the scores
of a publication (``why.json``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from backend.files import write_atomically

if TYPE_CHECKING:
    from models.recipes.fit_detection_miner import DetectionMiner
    from models.recipes.fit_miner import Miner
    from models.tasks.base import LabeledTexts
    from models.types import Examples

logger = logging.getLogger(__name__)

#: Tasks of a queue's head that are explained: more than are labeled before the next order.
HEAD = 100
#: Newest labels of tail classes that they are compared to.
KNOWN = 2000
_FILE = "why.json"
_DIGITS = 4


class NearLabel(BaseModel):
    """A labeled task of a tail class that a task is near to.

    Attributes:
        distance: as a multiple of what two labels of that class usually are apart; None where the
            class has one label.
    """

    model_config = ConfigDict(frozen=True)

    task: int
    label: str
    distance: float | None = None


class Detection(BaseModel):
    """A detected box.

    Attributes:
        label: its likeliest class; confidence: how sure the detector is.
        box: x0, y0, x1, y1 as shares of the picture.
        rarity: likelihood that it is of a tail class; None where nothing tells.
        decides: the task stands where it does for this one.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    confidence: float
    box: tuple[float, float, float, float]
    rarity: float | None = None
    decides: bool = False


class TaskWhy(BaseModel):
    """What is said of one task; None or empty where nothing can be.

    Attributes:
        tail_mass: the tail's share of the original head's softmax; where boxes are drawn, the
            largest probability that the detector gives a tail class.
        reconstruction_error: the autoencoder's; where boxes are drawn, that of the deciding one.
        error_above: by how many standard deviations it lies above the mean over the pool.
        nearest: labels of tail classes, the nearest first.
        detections: the surest first.
    """

    model_config = ConfigDict(frozen=True)

    tail_mass: float | None = None
    reconstruction_error: float | None = None
    error_above: float | None = None
    nearest: tuple[NearLabel, ...] = ()
    detections: tuple[Detection, ...] = ()


class HeadWhy(BaseModel):
    """The same of the head of a queue, by task."""

    model_config = ConfigDict(frozen=True)

    by_task: dict[int, TaskWhy] = {}

    def save(self, folder: Path) -> None:
        """Write it beside a publication's scores."""
        write_atomically(folder / _FILE, self.model_dump_json())

    @classmethod
    def load(cls, folder: Path) -> HeadWhy:
        """Read it; empty where there is none: older queues have none, and none is no failure."""
        try:
            return cls.model_validate_json((folder / _FILE).read_bytes())
        except FileNotFoundError:
            return cls()
        except (OSError, ValidationError) as error:
            logger.warning("%s is unreadable and taken as absent: %s", folder / _FILE, error)
            return cls()


def why_rare(
    miner: Miner | DetectionMiner, examples: Examples, known: LabeledTexts
) -> dict[int, TaskWhy]:
    """Why each of a few tasks is taken for rare, by id.

    A queue is worth more than its reasons: where they cannot be found, that is logged.
    """
    from models.errors import ModelError
    from models.recipes.explain import explain

    names = miner.classes.names
    try:
        said = explain(miner, examples, known)
    except ModelError as error:
        logger.warning("why tasks are rare cannot be said: %s", error)
        return {}
    return {
        int(task): TaskWhy(
            tail_mass=_rounded(one.tail_mass),
            reconstruction_error=_significant(one.error),
            error_above=_rounded(one.error_above),
            nearest=tuple(
                NearLabel(task=near.id, label=names[near.target], distance=_rounded(near.distance))
                for near in one.nearest
            ),
            detections=tuple(
                Detection(
                    label=names[box.target],
                    confidence=round(box.confidence, _DIGITS),
                    box=box.corners,
                    rarity=_rounded(box.rarity),
                    decides=box.decides,
                )
                for box in one.detections
            ),
        )
        for task, one in zip(examples.ids.tolist(), said, strict=True)
    }


def newest_of_tail(classes_by_task: Mapping[int, Sequence[str]], tail: Sequence[str]) -> list[int]:
    """Tasks whose label holds a class of the tail, the newest of many, ascending."""
    wanted = set(tail)
    return sorted(i for i, names in classes_by_task.items() if wanted.intersection(names))[-KNOWN:]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def _significant(value: float | None) -> float | None:
    """Errors of some autoencoders are spread over decades."""
    return None if value is None else float(f"{value:.4g}")
