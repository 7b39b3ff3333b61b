"""Task types: what differs between control tags. A new one is one file and one line here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from models.errors import ConfigError
from models.tasks.classification import Classification
from models.tasks.detection import Detection

__all__ = ["TASKS", "Classification", "Detection", "class_counts", "classes_in", "is_usable"]

TASKS: Mapping[str, type[Classification] | type[Detection]] = MappingProxyType(
    {Classification.tag: Classification, Detection.tag: Detection}
)


def classes_in(task: str, label: str) -> tuple[str, ...]:
    """The classes that the label of one image holds: one, or one for each box.

    Args:
        task: ``classification`` or ``detection``.
        label: as the mirror keeps it.
    Raises: ConfigError: if there is no such task. ShapeError: if the label is none of it.
    """
    return _named(task).classes_in(label)


def class_counts(task: str, labels: Iterable[str], *, once_an_image: bool = False) -> Counter[str]:
    """How often each class is in some labels.

    Args:
        task: as for ``classes_in``.
        labels: as the mirror keeps them.
        once_an_image: count images that hold the class, not boxes.
    """
    kind, counts = _named(task), Counter[str]()
    for label in labels:
        found = kind.classes_in(label)
        counts.update(set(found) if once_an_image else found)
    return counts


def is_usable(task: str, label: str, classes: Collection[str]) -> bool:
    """Whether a label says something of ``classes``."""
    return _named(task).is_usable(label, classes)


def _named(task: str) -> type[Classification] | type[Detection]:
    for kind in TASKS.values():
        if kind.name == task:
            return kind
    names = ", ".join(kind.name for kind in TASKS.values())
    raise ConfigError(f"found task {task!r}, expected one of {names}")
