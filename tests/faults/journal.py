"""What was injected and survived: counts, recoveries, and what grows over the rounds."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.faults.invariants import INVARIANTS, Watcher
from tests.faults.rounds import Round
from tests.faults.yard import Yard

_GROWING = ("size_bytes", "files", "descriptors", "memory_mb", "queue_bytes", "log_bytes")


@dataclass
class Journal:
    """Every round that was played.

    Attributes:
        seed: as given by ``--fault-seed``.
    """

    seed: int
    rounds: list[Round] = field(default_factory=list)

    def slope(self, name: str, *, skip: int = 0) -> float:
        """How much a figure grows with each round: Theil and Sen's median of all slopes.

        A compaction now and then, or one large fine-tune, moves a line of least squares.
        """
        values = [float(getattr(one, name)) for one in self.rounds[skip:]]
        slopes = [
            (later - earlier) / (j - i)
            for i, earlier in enumerate(values)
            for j, later in enumerate(values[i + 1 :], start=i + 1)
        ]
        return statistics.median(slopes) if slopes else 0.0

    def write(self, path: Path, yard: Yard, watcher: Watcher) -> None:
        """Write all of it as JSON."""
        by_fault: dict[str, list[Round]] = defaultdict(list)
        for one in self.rounds:
            by_fault[one.fault].append(one)
        told = {
            "seed": self.seed,
            "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
            "rounds": len(self.rounds),
            "survived": sum(not one.wrong for one in self.rounds),
            "faults": {
                name: {
                    "rounds": len(some),
                    "survived": sum(not one.wrong for one in some),
                    "hits": sum(one.hits for one in some),
                    "recovery_s_median": round(statistics.median(o.recovered_s for o in some), 2),
                    "recovery_s_max": round(max(one.recovered_s for one in some), 2),
                }
                for name, some in sorted(by_fault.items())
            },
            "invariants": {name: len(self.rounds) for name in INVARIANTS},
            "watcher": {"looks": watcher.looks, "violations": watcher.violations},
            "labels": {
                "given": yard.labels,
                "rare": yard.rare,
                "rare_in_random_order": round(yard.expected_rare, 1),
                "served_twice": len(yard.served_twice),
            },
            "parts_that_ended_unasked": yard.parts.deaths,
            "growth_per_round": {name: round(self.slope(name), 3) for name in _GROWING},
            "first_and_last": {
                name: [round(getattr(one, name), 1) for one in (self.rounds[0], self.rounds[-1])]
                for name in _GROWING
                if self.rounds
            },
            "each": [asdict(one) for one in self.rounds],
        }
        path.write_text(json.dumps(told, indent=1) + "\n")
