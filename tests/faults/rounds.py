"""A round: labels, a fault, more labels, the end of the fault, rest; then what must hold."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from tests.faults.injected import FAULTS
from tests.faults.invariants import broken, size_of
from tests.faults.yard import LEAST_UNLABELED, Yard

_SAYS_S = 120.0


@dataclass
class Round:
    """What one round came to.

    Attributes:
        fault: its name in `FAULTS`; hits: how often it hit.
        recovered_s: from the end of the fault until the loop was at rest.
        wrong: invariants that do not hold, and what the service did not say.
        size_bytes, files: of the data directory; descriptors, memory_mb: of all our processes.
        log_bytes: of both logs.
    """

    fault: str
    seconds: float = 0.0
    recovered_s: float = 0.0
    hits: int = 0
    wrong: list[str] = field(default_factory=list)
    size_bytes: int = 0
    files: int = 0
    descriptors: int = 0
    memory_mb: float = 0.0
    queue_bytes: int = 0
    log_bytes: int = 0


def deck(seed: int, rounds: int, kinds: Collection[str] = tuple(FAULTS)) -> list[str]:
    """Which fault each round has: every one comes once before any comes twice."""
    rng, dealt = random.Random(f"deck {seed}"), []
    while len(dealt) < rounds:
        dealt += rng.sample(list(kinds), len(kinds))
    return dealt[:rounds]


def play(yard: Yard, name: str, seed: str, *, must_say: bool = False) -> Round:
    """One round.

    Args:
        yard: where.
        name: of the fault.
        seed: of everything random.
        must_say: let the fault last until the service has said what is wrong.
    """
    rng = random.Random(seed)
    began = time.monotonic()
    outcome = Round(name)
    yard.label(rng.choice([0, 1, 2]))
    fault = FAULTS[name](yard, rng)
    try:
        fault.begin()
        if fault.lasts:
            time.sleep(rng.uniform(0, 0.7))
            yard.label(rng.choice([1, 2, 3]))
            time.sleep(rng.uniform(0, 0.7))
        if must_say or fault.must_hit:
            silent = _until_said(fault.says)
            outcome.wrong += [silent] if silent else []
    finally:
        fault.end()
    ended = time.monotonic()
    if not fault.lasts:
        yard.label(rng.choice([1, 2]))
    if yard.unlabeled < LEAST_UNLABELED:
        yard.take_back(rng, 12)
    yard.rest()
    outcome.recovered_s = time.monotonic() - ended
    outcome.hits = fault.count
    outcome.wrong += broken(yard)
    outcome.size_bytes, outcome.files = size_of(yard.disk.folder)
    outcome.descriptors, outcome.memory_mb = yard.parts.open_files(), yard.parts.memory_mb()
    outcome.queue_bytes = sum(p.stat().st_size for p in yard.disk.folder.glob("queue.db*"))
    outcome.log_bytes = sum(len(yard.parts.log(part)) for part in yard.parts.services)
    outcome.seconds = time.monotonic() - began
    return outcome


def _until_said(says: Callable[[], str]) -> str:
    deadline = time.monotonic() + _SAYS_S
    while (silent := says()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return silent
