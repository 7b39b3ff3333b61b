"""What a labeling run of the demo found, and whether that is what we promise."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar, Final

MIN_SHARE_FOUND: Final = 0.85
MIN_RARE_IN_FIRST_50: Final = 20


@dataclass(frozen=True)
class Batch:
    """One batch of labels and the order that came of it.

    Attributes:
        number: from 1.
        labels: labels given so far, this batch included.
        rare: rare ones in this batch.
        rare_so_far: rare ones so far.
        random_so_far: what random order is expected to have found by now.
        wait_s: seconds from the last label to the new order.
        reordered: whether the next tasks come in another order than before.
        version: the new order's version.
    """

    number: int
    labels: int
    rare: int
    rare_so_far: int
    random_so_far: float
    wait_s: float
    reordered: bool
    version: str


@dataclass
class RunReport:
    """One run on one project.

    Attributes:
        seed: of the project's data.
        project: Label Studio's project id.
        rare: what is rare: the two digits.
        pool: tasks in the pool.
        rare_total: rare ones among them.
        first_queue_s: seconds from connecting to the first published queue.
        batches: batch by batch.
        served: what each task shows, in the order in which they were served; of several classes
            the rarest.
        lost: labels that were given and are not in Label Studio.
        served_twice: tasks that were served more than once.
        problem: why the run ended early; empty otherwise.
    """

    noun: ClassVar[str] = "digits"

    seed: int
    project: int
    rare: tuple[str, ...]
    pool: int
    rare_total: int
    first_queue_s: float = 0.0
    batches: list[Batch] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    lost: int = 0
    served_twice: int = 0
    problem: str = ""

    @property
    def rare_found(self) -> int:
        """Rare tasks labeled."""
        return sum(digit in self.rare for digit in self.served)

    @property
    def share_found(self) -> float:
        """Of all rare tasks of the pool, in [0, 1]."""
        return self.rare_found / self.rare_total

    @property
    def random_share(self) -> float:
        """What random order is expected to find with as many labels, in [0, 1]."""
        return len(self.served) / self.pool

    @property
    def rare_in_first_50(self) -> int:
        """Rare tasks among the first 50 served."""
        return sum(digit in self.rare for digit in self.served[:50])

    @property
    def median_wait_s(self) -> float:
        """Median seconds from a batch's last label to the new order."""
        return statistics.median(batch.wait_s for batch in self.batches) if self.batches else 0.0

    def failures(self) -> list[str]:
        """What is not as promised; empty means that it worked."""
        found = [self.problem] if self.problem else []
        found += self.too_little()
        unchanged = [str(batch.number) for batch in self.batches if not batch.reordered]
        if unchanged:
            found.append(f"the order did not change after batch {', '.join(unchanged)}")
        if self.lost:
            found.append(f"{self.lost} labels are not in Label Studio")
        if self.served_twice:
            found.append(f"{self.served_twice} tasks were served twice")
        return found

    def too_little(self) -> list[str]:
        """What was found of the rare ones, where that is less than promised."""
        found = []
        if self.share_found < MIN_SHARE_FOUND:
            found.append(
                f"{self.rare_found} of {self.rare_total} rare digits found "
                f"({self.share_found:.0%}), at least {MIN_SHARE_FOUND:.0%} are expected"
            )
        if self.rare_in_first_50 < MIN_RARE_IN_FIRST_50:
            found.append(
                f"{self.rare_in_first_50} of the first 50 served are rare, at least "
                f"{MIN_RARE_IN_FIRST_50} are expected"
            )
        unseen = [digit for digit in self.rare if digit not in self.served]
        if unseen:
            found.append(f"rare digit {' and '.join(unseen)} was never served")
        return found

    def remarks(self) -> list[str]:
        """What is worth a line beside the table."""
        return []

    def as_json(self) -> dict[str, object]:
        """All of it, with what follows from it, for machines."""
        return {
            **asdict(self),
            "rare_found": self.rare_found,
            "share_found": round(self.share_found, 4),
            "random_share": round(self.random_share, 4),
            "rare_in_first_50": self.rare_in_first_50,
            "median_wait_s": round(self.median_wait_s, 2),
            "failures": self.failures(),
        }


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; the latter is 0 for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
