"""Faults that the service has something to say of, one by one; the others in rounds at random.

All of them, again and again, are what ``make soak`` is for.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.faults.injected import FAULTS
from tests.faults.invariants import Watcher
from tests.faults.journal import Journal
from tests.faults.rounds import deck, play
from tests.faults.yard import Yard

ALONE = [name for name, kind in FAULTS.items() if kind.alone]
TOGETHER = [name for name, kind in FAULTS.items() if not kind.alone]
LONG = 200
#: Of the first rounds: caches fill, versions and publications reach the number that is kept.
_WARMING_UP = 40


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    given: int = request.config.getoption("--fault-seed")
    return given


@pytest.mark.parametrize("fault", ALONE)
def test_a_fault(fault: str, yard: Yard, watcher: Watcher, journal: Journal, seed: int) -> None:
    outcome = play(yard, fault, f"{seed} {fault}", must_say=True)
    journal.rounds.append(outcome)
    assert outcome.hits, "the fault never hit anything"
    assert outcome.wrong == [], f"--fault-seed {seed}"
    assert watcher.violations == []


def random_rounds(
    yard: Yard, watcher: Watcher, journal: Journal, seed: int, faults: Sequence[str]
) -> None:
    for number, fault in enumerate(faults):
        told = f"--fault-seed {seed}, round {number}: {fault}"
        try:
            outcome = play(yard, fault, f"{seed} {number} {fault}")
        except AssertionError as error:
            raise AssertionError(f"{told}: {error}") from error
        journal.rounds.append(outcome)
        assert outcome.wrong == [], told
        assert watcher.violations == [], told


def test_random_rounds(
    yard: Yard, watcher: Watcher, journal: Journal, seed: int, request: pytest.FixtureRequest
) -> None:
    count = request.config.getoption("--fault-rounds") or len(TOGETHER)
    random_rounds(yard, watcher, journal, seed, deck(seed, count, TOGETHER))
    assert watcher.looks > count


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
def test_many_random_rounds(
    yard: Yard, watcher: Watcher, journal: Journal, seed: int, request: pytest.FixtureRequest
) -> None:
    count = request.config.getoption("--fault-rounds") or LONG
    before = len(journal.rounds)
    random_rounds(yard, watcher, journal, seed, deck(seed, count))
    if count >= 2 * _WARMING_UP:
        warm = before + _WARMING_UP
        assert journal.slope("files", skip=warm) < 1
        assert journal.slope("size_bytes", skip=warm) < 50_000
        assert journal.slope("descriptors", skip=warm) < 0.5
        # Its log of writes is begun anew at a thousand pages of 4 KiB.
        assert max(one.queue_bytes for one in journal.rounds) < 16 * 2**20
    assert yard.rare > yard.expected_rare, "the rare ones came first, over all rounds"
