"""Which pictures are labeled, which are the pool, which are the test.

Of each class 570 pictures are the test and 2,400 the pool, always the same; the labeled ones are
drawn by seed from the 2,030 that are left. The counts are those of the published recipe, scaled to
5,000 pictures a class: the tail classes first, then the others in label order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.sifar.pictures import CLASSES, PER_CLASS

TEST, POOL = 570, 2400
#: Labels of each class, rarest first: 14,398.
LABELS = (4, 58, 552, 1656, 1992, 2016, 2030, 2030, 2030, 2030)
#: A pool as skewed as the labels: 17,023, of which 74 are of the tail.
NATURAL = tuple(round(count * POOL / max(LABELS)) for count in LABELS)

IntArray = NDArray[np.int64]
PoolKind = Literal["uniform", "natural"]


@dataclass(frozen=True)
class Split:
    """Rows of the pictures.

    Attributes:
        tail: the tail classes, the rarer first.
        labeled: (L,) rows with labels.
        pool: (N,) rows without.
        test: (5,700,) rows that no ranker and no frozen model sees.
    """

    tail: tuple[int, int]
    labeled: IntArray
    pool: IntArray
    test: IntArray


def tail_of(names: str) -> tuple[int, int]:
    """``"airplane,automobile"`` to class indices, the rarer first.

    Raises: ValueError: if these are not two different classes.
    """
    found = [CLASSES.index(name) for name in names.split(",") if name in CLASSES]
    if len(set(found)) != 2 or len(found) != len(names.split(",")):
        raise ValueError(f"found the tail {names!r}; expected two of {', '.join(CLASSES)}")
    return found[0], found[1]


def make_split(
    tail: tuple[int, int],
    *,
    seed: int,
    pool: PoolKind = "uniform",
    tail_labels: int | None = None,
) -> Split:
    """The split of one draw.

    Args:
        tail: the rarer class, and the other rare one.
        seed: of the draw of the labeled pictures, and of a natural pool.
        pool: 2,400 of each class, or as many as the labels' skew says.
        tail_labels: labels of each tail class; None: 4 and 58.
    """
    order = [*tail, *(k for k in range(len(CLASSES)) if k not in tail)]
    labeled, pooled, test = [], [], []
    # The pool and the test are the same for every draw.
    fixed = np.random.default_rng(2021)
    drawn = np.random.default_rng([seed, 1])
    skewed = np.random.default_rng([seed, 2])
    own = {k: k * PER_CLASS + fixed.permutation(PER_CLASS) for k in range(len(CLASSES))}
    for place, k in enumerate(order):
        count = LABELS[place] if tail_labels is None or place > 1 else tail_labels
        test.append(own[k][:TEST])
        of_pool = own[k][TEST : TEST + POOL]
        if pool == "natural":
            of_pool = skewed.permutation(of_pool)[: NATURAL[place]]
        pooled.append(of_pool)
        labeled.append(drawn.permutation(own[k][TEST + POOL :])[:count])
    return Split(tail, *(np.sort(np.concatenate(rows)) for rows in (labeled, pooled, test)))
