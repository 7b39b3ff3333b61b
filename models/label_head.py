"""The frozen model's own head, seen from a project's labels.

A published model tells a thousand classes apart, a project a few labels. Each label stands for
some of those classes: those that the label config names, and the one that is called like it. Its
logit is then the logsumexp over theirs, so its share of the softmax is the sum of their shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.types import FloatArray, IntArray


@dataclass(frozen=True)
class LabelHead:
    """A linear head over M classes of the frozen model that stand for K labels.

    Attributes:
        weight: (D, M) float32, from penultimate features.
        bias: (M,) float32.
        label: (M,) which of the K labels each class stands for; a class may be there twice.
        num_labels: K; every label has a class.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    label: IntArray
    num_labels: int


@dataclass(frozen=True)
class Columns:
    """Which classes of the frozen model stand for each label.

    Attributes:
        of_label: column numbers by label, in the labels' order; empty where there are none.
        unknown: names that the frozen model does not know.
    """

    of_label: tuple[tuple[int, ...], ...]
    unknown: tuple[str, ...]


def find_columns(
    labels: Sequence[str], stand_ins: Mapping[str, Sequence[str]], model_classes: Sequence[str]
) -> Columns:
    """Look the labels up among the frozen model's classes.

    A name is taken as it is written; where no class is called so, letter case and underscores do
    not count (``sports_car`` is ``sports car``). Of classes with the same name all count.

    Args:
        labels: the project's.
        stand_ins: names of classes that stand for a label, by label.
        model_classes: what the frozen model tells apart, in the order of its outputs.
    """
    exact: dict[str, list[int]] = {}
    loose: dict[str, list[int]] = {}
    for column, name in enumerate(model_classes):
        exact.setdefault(name, []).append(column)
        loose.setdefault(_loosely(name), []).append(column)
    unknown: list[str] = []
    of_label = []
    for label in labels:
        columns = list(exact.get(label) or loose.get(_loosely(label), []))
        for name in stand_ins.get(label, ()):
            found = exact.get(name) or loose.get(_loosely(name), [])
            unknown += [] if found else [name]
            columns += found
        of_label.append(tuple(dict.fromkeys(columns)))
    return Columns(tuple(of_label), tuple(dict.fromkeys(unknown)))


def label_head(weight: FloatArray, bias: FloatArray, columns: Columns) -> LabelHead | None:
    """The head over the labels; None where a label has no class.

    Args:
        weight: (D, C) of the frozen model's own head.
        bias: (C,) of it.
        columns: classes by label.
    """
    if not columns.of_label or not all(columns.of_label):
        return None
    chosen = [column for some in columns.of_label for column in some]
    label = [number for number, some in enumerate(columns.of_label) for _ in some]
    return LabelHead(
        weight=np.ascontiguousarray(weight[:, chosen], dtype=np.float32),
        bias=np.asarray(bias[chosen], dtype=np.float32),
        label=np.asarray(label, dtype=np.int64),
        num_labels=len(columns.of_label),
    )


def _loosely(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()
