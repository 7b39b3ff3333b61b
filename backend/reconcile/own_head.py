"""What the frozen model's own head has to say of a project's labels, and what it has not.

``predicted_values`` in the label config name classes of a published model that stand for a label;
a class that is called like the label stands for it too. Where every label has one, the model's own
head predicts; else a plain head that is fitted on the labels.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from backend.reconcile.context import ProjectContext
from models.backbones import Backbone
from models.label_head import LabelHead, find_columns, label_head

#: Under which key of a version's config the notes are kept.
NOTES = "head_notes"
_SHOWN = 5


@dataclass(frozen=True)
class OwnHead:
    """The frozen model's own head over the labels.

    Attributes:
        head: None where it has none.
        notes: why what the label config asks for cannot be had, one sentence each.
    """

    head: LabelHead | None = None
    notes: tuple[str, ...] = ()


def own_head(context: ProjectContext) -> OwnHead:
    """Look at the active frozen model's head with the eyes of the label config."""
    state, interface = context.backbone_state, context.interface
    if state is None or interface is None:
        return OwnHead()
    wanted = dict(interface.predicted_values)
    if context.task.no_own_head:
        if state.how != "given":
            return _none(wanted, context.task.no_own_head)
        named = {one for some in wanted.values() for one in some}
        return OwnHead(None, _unknown(sorted(named - set(state.classes)), state.classes))
    if state.how not in {"pretrained", "given"}:
        return _none(
            wanted,
            "the frozen model is trained on this project's labels and has no others; published "
            "weights have (RAREFIRST_BACKBONE=resnet18 RAREFIRST_WEIGHTS=DEFAULT, for example)",
        )
    if state.classes and not wanted:
        return OwnHead()  # its logits are kept beside the features
    backbone = cast(Backbone, context.backbone())  # of a kind whose head may be another's
    classes = backbone.own_classes
    if classes is None:
        return _none(wanted, "nobody knows what the frozen model's head tells apart")
    columns = find_columns(context.sync.classes, wanted, classes)
    notes = _unknown(columns.unknown, classes)
    without = [
        label
        for label, some in zip(context.sync.classes, columns.of_label, strict=True)
        if not some
    ]
    if without:
        why = f"no class of the frozen model stands for {', '.join(without)}"
        return OwnHead(None, (*notes, *_none(wanted, why).notes))
    linear = backbone.linear_head()
    if linear is None:
        return _none(wanted, "the frozen model's head is no linear layer on its features")
    return OwnHead(label_head(*linear, columns), notes)


def _unknown(names: Sequence[str], classes: tuple[str, ...]) -> tuple[str, ...]:
    """A sentence for each class that the label config names and the frozen model lacks."""
    notes = [
        f"predicted_values: the frozen model knows no class {name!r}{_meant(name, classes)}"
        for name in names[:_SHOWN]
    ]
    if len(names) > _SHOWN:
        notes.append(f"predicted_values: {len(names) - _SHOWN} more are not known")
    return tuple(notes)


def _none(wanted: dict[str, tuple[str, ...]], why: str) -> OwnHead:
    """No head; that is worth a word only where somebody asked for it."""
    return OwnHead(None, (f"predicted_values are not used: {why}",) if wanted else ())


def _meant(name: str, classes: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name.replace("_", " "), classes, n=1)
    return f"; is {close[0]!r} meant?" if close else ""
