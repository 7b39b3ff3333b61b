"""What a scorer cannot work without: it refuses by it, the miner and the README read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import NoTailClass, NotEnoughLabels
from models.types import ClassSpace, LabeledExamples


@dataclass(frozen=True)
class Needs:
    """What must be there before a scorer can be fitted; nothing by default.

    Attributes:
        classes: how many classes must have labels.
        tail: whether some classes, but not all, must be in the tail.
        tail_labels: whether one of those must have a label.
        head_labels: whether a class outside of the tail must have a label.
        original_head: whether it looks through the original head. Where the frozen model has none
            over the label config's classes, a plain one is fitted in its place: that needs labels
            of two classes, and of a tail class where ``tail`` is set.
    """

    classes: int = 0
    tail: bool = False
    tail_labels: bool = False
    head_labels: bool = False
    original_head: bool = False

    def learns(self, *, own_head: bool) -> bool:
        """Whether labels are needed at all, given whether the frozen model has a head."""
        least = self.classes > 0 or self.tail_labels or self.head_labels
        return least or (self.original_head and not own_head)

    def lack_of_tail(self, classes: ClassSpace) -> str:
        """Why the tail does not do, as a sentence with what to do; empty where it does."""
        if self.tail and not classes.tail:
            return "no class is in the tail; name one, or label until one is rare"
        if self.tail and len(classes.tail) == classes.size:
            return (
                f"all {classes.size} classes are in the tail, so none is rarer than another; leave "
                "the common ones out of it"
            )
        return ""

    def lack_of_labels(
        self, seen: NDArray[np.int64], classes: ClassSpace, *, own_head: bool
    ) -> str:
        """Why the labels do not do, as a sentence with what to do; empty where they do.

        Args:
            seen: (K,) labels of each class.
            classes: names and tail.
            own_head: whether the frozen model has a head over these classes.
        """
        if self.original_head and classes.size < 2:
            return (
                f"found a class list of {classes.size}, expected two classes at least: with one "
                "there is nothing to be unsure of"
            )
        fitted = self.original_head and not own_head
        least = max(self.classes, 2 if fitted else 0)
        having = int(np.count_nonzero(seen))
        if least == 2 and having == 1:
            return (
                f"all {int(seen.sum())} labels are of one class, nothing can be told apart; label "
                "an example of another one"
            )
        if having < least:
            return f"found no label, expected labels of {least} class(es) at least; label some"
        tail = np.isin(np.arange(classes.size), classes.tail)
        if (self.tail_labels or (self.tail and fitted)) and not seen[tail].any():
            return (
                "no class of the tail has a label, so nothing can learn what it looks like: label "
                "an example of one"
            )
        if self.head_labels and not seen[~tail].any():
            return (
                "no class outside of the tail has a label, so nothing can learn what is common: "
                "label an example of one"
            )
        return ""

    def __str__(self) -> str:
        """For a table: the needs in a few words."""
        words = []
        if self.classes:
            words.append("labels" if self.classes == 1 else "labels of two classes")
        if self.head_labels:
            words.append("labels of common classes")
        if self.tail:
            words.append("a tail class with a label" if self.tail_labels else "a tail class")
        if self.original_head:
            words.append("original head")
        return ", ".join(words) or "nothing"


def check_needs(needs: Needs, labeled: LabeledExamples, classes: ClassSpace) -> None:
    """Refuse to fit without what is needed. The labels themselves are checked elsewhere.

    Raises:
        NoTailClass: if a tail is needed, and no class or every class is in it.
        NotEnoughLabels: if labels are missing.
    """
    lack = needs.lack_of_tail(classes)
    if lack:
        raise NoTailClass(lack)
    seen = np.bincount(labeled.targets, minlength=classes.size)
    lack = needs.lack_of_labels(seen, classes, own_head=has_own_head(labeled))
    if lack:
        raise NotEnoughLabels(lack)


def has_own_head(labeled: LabeledExamples) -> bool:
    """Whether the frozen model says something of the classes itself."""
    return labeled.head is not None or labeled.examples.logits is not None
