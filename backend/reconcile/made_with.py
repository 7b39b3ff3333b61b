"""Which settings a version and a publication were made with: others make another one due.

Remembered beside each, so that a change takes effect without a new label, once. What the label
config says with attributes of its tags is a setting too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import JsonValue

from backend.labelstudio.interface import ImageBoxes
from backend.reconcile.context import ProjectContext
from backend.reconcile.held_out import finetuning
from backend.settings import Settings
from models.config import MinerConfig
from models.registry import VersionCard

Made = Mapping[str, JsonValue]

#: Under which key of a version's config they are kept.
KEY = "settings"
#: Of these: whether the labels that are held out were left out.
HELD_OUT = "held_out"
_OF_A_FIT = (
    "scorer",
    "recalibration",
    "seed",
    "tail_threshold",
    "tail_min_labels",
    "tail_classes",
    "not_tail_classes",
    "tail_quota",
)


def fit_settings(context: ProjectContext) -> dict[str, JsonValue]:
    """What a version made now would be made with."""
    interface = context.interface
    return _plain(
        {
            **{
                name: getattr(context.settings, name)
                for name in (*_OF_A_FIT, *context.task.fit_settings)
            },
            "predicted_values": dict(interface.predicted_values) if interface else {},
            HELD_OUT: finetuning(context.settings),
        }
    )


def publication_settings(context: ProjectContext) -> dict[str, JsonValue]:
    """What a publication made now would be made with."""
    settings, interface = context.settings, context.interface
    made: dict[str, object] = {
        "top_k": settings.top_k,
        "control_share": settings.control_share,
        "preannotate": settings.preannotate,
    }
    if settings.preannotate and interface is not None:
        # Without pre-annotations nothing of these shows.
        made["model_score_threshold"] = interface.score_threshold
        made["control tag"] = [interface.control_name, interface.image_name]
        if isinstance(interface, ImageBoxes):
            made["labels of tags"] = interface.labels_of_control
    return _plain(made)


def miner_config(settings: Settings) -> MinerConfig:
    """The miner's numbers, as the settings have them."""
    return MinerConfig(
        scorer=settings.scorer,
        recalibration=settings.recalibration,
        empty_images=settings.empty_images,
    )


def made_with(card: VersionCard) -> Made | None:
    """What a version was made with; None where that was not remembered yet."""
    found = card.config.get(KEY)
    return found if isinstance(found, dict) else None


def changed(before: Made | None, now: Made) -> tuple[str, ...]:
    """Names of what is not as it was, of what is known: an older release remembered less."""
    known = before or {}
    return tuple(name for name in sorted(known) if known[name] != now.get(name))


def _plain(made: Mapping[str, object]) -> dict[str, JsonValue]:
    """As it comes back from a file: a tuple is a list there."""
    plain: dict[str, JsonValue] = json.loads(json.dumps(made))
    return plain
