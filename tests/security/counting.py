"""How many inputs each line of docs/SECURITY.md was tried with: `make hostile`.

A test says how many (the fixture ``tried``), hypothesis says how many examples it made, and any
other test is one input; of a parametrized one each case is.

    python -m tests.security.counting        # the files in which the page's tests stand
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_security_page import ROOT, existing, rows

# Of hypothesis's own statistics; invalid ones were never tried.
_EXAMPLES = re.compile(r"- (\d+) passing, (\d+) failing")
_AT_LENGTH = re.compile(r"_at_length$")


def files() -> list[str]:
    """Files that hold tests of the page."""
    known = existing()
    named = {name for cells in rows() for name in re.findall(r"`(test_\w+)`", cells[2])}
    paths = {path for name in named for path in known[name]}
    return sorted(str(path.relative_to(ROOT)) for path in paths if "e2e" not in path.parts)


class Counts:
    """Inputs by test, as reports come in."""

    def __init__(self) -> None:
        self.inputs: Counter[str] = Counter()
        self.answers: dict[str, Counter[str]] = {}
        self._said: set[str] = set()

    def take(self, report: pytest.TestReport) -> None:
        """Count what a test did, by what its report says."""
        name = report.nodeid.rpartition("::")[2].partition("[")[0]
        if report.when == "call":
            for kind, value in report.user_properties:
                if kind == "tried" and isinstance(value, dict):
                    self._said.add(report.nodeid)
                    more: dict[str, Any] = dict(value)
                    self.inputs[name] += int(more.pop("inputs"))
                    self.answers.setdefault(name, Counter()).update(more)
        elif report.when == "teardown" and report.nodeid not in self._said:
            told = str(getattr(report, "_hypothesis_stats", ""))
            made = sum(int(count) for found in _EXAMPLES.findall(told) for count in found)
            self.inputs[name] += made or 1

    def table(self) -> list[tuple[str, int]]:
        """Every threat of the page with its inputs, those of the long versions added."""
        known = existing()
        found = []
        for threat, _, tested in rows():
            names = re.findall(r"`(test_\w+)`", tested)
            here = {path for name in names for path in known.get(name, [])}
            longer = [
                name
                for name in self.inputs
                if _AT_LENGTH.search(name)
                and here & set(known.get(name, []))
                and any(_alike(name, other) for other in names)
            ]
            found.append((threat, sum(self.inputs[name] for name in [*names, *longer])))
        return found

    def write(self, path: Path) -> None:
        """Keep all counts as JSON."""
        told = {
            "total": self.inputs.total(),
            "threats": dict(self.table()),
            "tests": dict(sorted(self.inputs.items())),
            "answers": {name: dict(found) for name, found in sorted(self.answers.items()) if found},
        }
        path.write_text(json.dumps(told, indent=1))


def _alike(longer: str, name: str) -> bool:
    """Whether a test is the long version of another: they begin with the same words."""
    words = _AT_LENGTH.sub("", longer).split("_")
    return name.split("_")[: len(words)] == words


if __name__ == "__main__":
    sys.stdout.write("\n".join(files()) + "\n")
