"""How long the dashboard's pages take with 100,000 mirrored tasks, the first time and warm.

A data directory is made by hand: one project with a full mirror, a publication of every task, 2,000
rounds of history, ten versions, 500 images that could not be read. A process of its own then makes
the web application and asks for each page: the first time (imports included) and, warm, the median
of several. Memory is the process's peak (VmHWM), after the pages of small files and after all.
Then `rarefirst web` is started and headless Chromium opens the project's page: `first_paint`.
Prints JSON; `met` says whether both first pages, and the first paint, took less than a second.

    .venv/bin/python -m benchmarks.dashboard [--tasks 100000] [--repeats 9] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from backend.mirror import Mirror, MirroredTask
from backend.projects import ProjectStore, ProjectStores, Publication, Publications, PublishedScores
from backend.reconcile.state import Failure, Failures, LabelSnapshot, SyncState
from backend.reports import ProjectReport, RoundEntry
from backend.why_rare import HEAD, HeadWhy, NearLabel, TaskWhy
from benchmarks.dashboard_pages import URL
from benchmarks.dashboard_paint import first_paints
from benchmarks.stage import conclude, say
from models.registry import VersionCard, VersionRegistry

LIMIT_S = 1.0
CLASSES = ("scratch", "dent", *(f"class {k}" for k in range(8)))
TAIL = CLASSES[:2]
LABELS, ROUNDS, VERSIONS, FAILURES, MINER_BYTES = 5_000, 2_000, 10, 500, 2_000_000


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    args.add_argument("--tasks", type=int, default=100_000)
    args.add_argument("--repeats", type=int, default=9)
    args.add_argument("--keep", type=Path, help="Make the data directory here and leave it.")
    given = args.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        say(f"a project of {given.tasks:,} tasks in {folder}")
        fill(folder, given.tasks)
        command = [sys.executable, "-m", "benchmarks.dashboard_pages", str(folder)]
        command.append(str(given.repeats))
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        first = {path: found["pages"][path]["first_s"] for path in ("/", "/project/1")}
        say("first paint in Chromium")
        paint = first_paints(folder, given.repeats)
    found |= {"first_paint": paint, "tasks": given.tasks, "limit_s": LIMIT_S}
    painted_s = float(str(paint["first_ms"])) / 1000
    conclude(found, met=max(painted_s, *first.values()) < LIMIT_S)


def fill(folder: Path, tasks: int) -> None:
    """Make the data directory."""
    store = ProjectStores(folder, URL).create(1, 1_795_231_806, "100,000 tasks")
    rng = np.random.default_rng(0)
    labeled = min(LABELS, tasks // 10)
    kinds = rng.choice(CLASSES, labeled, p=[0.005, 0.01, *([0.985 / 8] * 8)]).tolist()
    mirror = Mirror(store.path("mirror"))
    for start in range(0, tasks, 20_000):
        ids = range(start + 1, min(start + 20_000, tasks) + 1)
        mirror.upsert([_task(i, kinds) for i in ids])
    store.write("sync.json", SyncState(classes=CLASSES))
    counts = {name: kinds.count(name) for name in CLASSES}
    _report(store, tasks, labeled, counts)
    _history(store, labeled, counts)
    _publish(store, tasks, labeled, rng)
    _versions(store, kinds, rng)
    bad = {
        int(i): Failure(reason=f"answered {400 + i % 20}", digest="d", image=f"/data/{i}.png")
        for i in range(tasks - FAILURES, tasks)
    }
    store.write("failures.json", Failures(by_task=bad))


def _task(number: int, kinds: list[str]) -> MirroredTask:
    uri = f"/data/upload/1/{number:08d}-picture.png"
    if number > len(kinds):
        return MirroredTask(number, uri)
    return MirroredTask(number, uri, "labeled", kinds[number - 1], 1)


def _report(store: ProjectStore, tasks: int, labeled: int, counts: dict[str, int]) -> None:
    fair = {name: count // 5 for name, count in counts.items()}
    store.write(
        "report.json",
        ProjectReport(
            project_id=1,
            title="100,000 tasks",
            at=datetime.now(UTC),
            tasks=tasks,
            labeled=labeled,
            embedded=tasks - FAILURES,
            failed={f"answered {400 + k}": FAILURES // 20 for k in range(20)},
            labels_by_class=counts,
            labels_by_origin={"initial": labeled // 5, "queue": labeled - labeled // 5},
            unchosen=labeled // 5,
            unchosen_rare=sum(fair[name] for name in TAIL),
            unchosen_by_class=fair,
            tail=TAIL,
            version="v0010",
            queue_left=tasks - labeled,
            next="nothing to do",
        ),
    )


def _history(store: ProjectStore, labeled: int, counts: dict[str, int]) -> None:
    began, lines = datetime.now(UTC) - timedelta(days=30), []
    for number in range(1, ROUNDS + 1):
        share = number / ROUNDS
        entry = RoundEntry(
            at=began + timedelta(minutes=20 * number),
            reason="hint",
            labels_by_class={name: int(count * share) for name, count in counts.items()},
            labels_by_origin={"initial": 0, "queue": int(labeled * share)},
            rare_found=int(sum(counts[name] for name in TAIL) * share),
            queue_labeled=10 + number % 10,
            queue_rare=number % 10,
            queue_kind="rarefirst",
            tail=TAIL,
            version=f"v{number // 200 + 1:04d}",
            publication=f"a-v{number // 20:04d}-1",
            seconds={"fit": 1.0, "publish": 1.0} if number % 20 == 0 else {"embed": 1.0},
        )
        lines.append(entry.model_dump_json())
    store.path("history.jsonl").write_text("\n".join(lines) + "\n")


def _publish(store: ProjectStore, tasks: int, labeled: int, rng: np.random.Generator) -> None:
    ids = np.arange(1, tasks + 1)
    queue = rng.permutation(ids[labeled:])
    scores = PublishedScores(
        ids=ids,
        rarity=rng.random(tasks),
        predicted=rng.integers(0, len(CLASSES), tasks),
        confidence=rng.random(tasks),
        classes=CLASSES,
        queue=queue,
        reasons=("tail scratch",) * len(queue),
    )
    folder = store.path("publications", "a-v0010-1")
    folder.mkdir(parents=True)
    scores.save(folder)
    near = tuple(NearLabel(task=k, label=TAIL[0], distance=1.0) for k in (1, 2, 3))
    why = TaskWhy(tail_mass=0.5, reconstruction_error=1.0, error_above=1.0, nearest=near)
    HeadWhy(by_task={int(task): why for task in queue[:HEAD]}).save(folder)
    now = datetime.now(UTC)
    published = Publication(
        name="a-v0010-1",
        version="v0010",
        kind="rarefirst",
        state="published",
        created_at=now,
        published_at=now,
        task_ids=tuple(queue.tolist()),
    )
    store.write("publication.json", Publications(published=published))


def _versions(store: ProjectStore, kinds: list[str], rng: np.random.Generator) -> None:
    registry = VersionRegistry(store.path("versions"))
    snapshot = LabelSnapshot(
        ids=tuple(range(1, len(kinds) + 1)), labels=tuple(kinds), classes=CLASSES
    ).model_dump_json()

    def write(folder: Path) -> None:
        (folder / "labels.json").write_text(snapshot)
        (folder / "miner.safetensors").write_bytes(rng.bytes(MINER_BYTES))

    for _ in range(VERSIONS):
        card = VersionCard(
            kind="rarefirst",
            snapshot_digest="0" * 64,
            config={},
            metrics={"tail_labels": 20.0, "pool": 95_000.0},
            classes=CLASSES,
            tail=TAIL,
            backbone_fingerprint="f" * 64,
        )
        registry.activate(registry.create(write, card).name)


if __name__ == "__main__":
    main()
