"""Memory and open files of the service's processes, and what lies in its data directory.

Read from /proc (Linux): resident memory (RSS), the part that nobody shares (USS), a fair share of
what is shared (PSS), the most that there ever was (VmHWM), and open file handles.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from demo.backend_process import Backend
from demo.service import ServiceError

MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """What one process holds, in MiB, and how many files.

    Attributes:
        rss_mib: resident.
        uss_mib: resident and nobody else's: what its end would give back.
        pss_mib: resident, shared pages divided by those who share them.
        heap_mib: resident and of no file: what the program itself asked for.
        peak_mib: the most that was ever resident.
        handles: open file handles; threads: of the process.
    """

    rss_mib: float
    uss_mib: float
    pss_mib: float
    heap_mib: float
    peak_mib: float
    handles: int
    threads: int


def memory_of(pid: int) -> Memory | None:
    """What a process holds now; None where it is gone."""
    try:
        parts = _kib(Path(f"/proc/{pid}/smaps_rollup").read_text())
        status = _kib(Path(f"/proc/{pid}/status").read_text())
        handles = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  (names only: quick)
        threads = len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
    except (OSError, KeyError):
        return None
    if "Rss" not in parts:
        return None  # it is ending
    uss = parts["Private_Clean"] + parts["Private_Dirty"]
    return Memory(
        rss_mib=parts["Rss"] / 1024,
        uss_mib=uss / 1024,
        pss_mib=parts["Pss"] / 1024,
        heap_mib=parts["Anonymous"] / 1024,
        peak_mib=status["VmHWM"] / 1024,
        handles=handles,
        threads=threads,
    )


def _kib(text: str) -> dict[str, int]:
    """The lines ``Name:   123 kB`` of a file in /proc."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == "kB":
            found[words[0].rstrip(":")] = int(words[1])
    return found


def children_of(pid: int) -> list[int]:
    """Child processes of a process, theirs not included."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in path.read_text().split()]
    return found


def processes_of(backend: Backend) -> dict[str, int]:
    """The processes of a running service by name: supervisor, gunicorn, web, worker, trainings."""
    found: dict[str, int] = {}
    with contextlib.suppress(ServiceError, OSError, ValueError):
        found["supervisor"] = backend.service.pid
        found["gunicorn"] = backend.part_pid("web")
        for number, pid in enumerate(sorted(children_of(found["gunicorn"]))):
            found["web" if not number else f"web {number + 1}"] = pid
        found["worker"] = backend.part_pid("worker")
        for number, pid in enumerate(sorted(children_of(found["worker"]))):
            found[f"training {number + 1}"] = pid
    return found


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Bytes and number of the files in a data directory, by what they belong to.

    A project's folder counts by what lies in it (``mirror``, ``ledger.jsonl``), the rest by name;
    names that begin with a dot are on their way to a rename.
    """
    sizes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for root, _, names in os.walk(folder):
        parts = Path(root).relative_to(folder).parts
        for name in names:
            path = [*parts, name]
            kind = path[2] if path[0] == "projects" and len(path) > 2 else path[0]
            if kind.startswith("."):
                kind = "(temporary)"  # on its way to a rename
            with contextlib.suppress(OSError):
                size = os.stat(os.path.join(root, name)).st_size  # noqa: PTH116, PTH118  (quick)
                sizes[kind][0] += size
                sizes[kind][1] += 1
    return {kind: (size, count) for kind, (size, count) in sorted(sizes.items())}
