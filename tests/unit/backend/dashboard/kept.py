"""A project's folder made by hand: everything that the dashboard reads, without the loop."""

from __future__ import annotations

import base64
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from backend.finetunes import FinetuneRecord, FinetuneRun, Finetunes
from backend.labelstudio.image_cache import ImageCache, image_key
from backend.mirror import Mirror, MirroredTask
from backend.projects import ProjectStore, Publication, Publications, PublishedScores
from backend.reconcile.state import Failure, Failures, LabelSnapshot, SyncState
from backend.reports import ProjectReport, RareEstimate, RareLeftReport, RoundEntry
from backend.settings import Settings
from backend.why_rare import Detection, HeadWhy, NearLabel, TaskWhy
from models.config import FinetuneConfig
from models.detection.boxes import Box, to_text
from models.registry import VersionCard, VersionRegistry
from tests.canary import secret, watch_login

EVIL = '<script>alert("x")</script>'
USER, PASSWORD = "label", secret("the password of pages", like="pass wörd")
watch_login(USER, PASSWORD, "the password of pages")
#: What a browser sends with a form of the page that it shows.
OURS = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
T0 = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def token_of(page: str) -> str:
    """The token in a page's forms: one for all."""
    found = set(re.findall(r'name="token" value="([^"]+)"', page))
    assert len(found) == 1
    return found.pop()


def png(colour: tuple[int, int, int] = (200, 30, 30), side: int = 32) -> bytes:
    """A small picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "PNG")
    return buffer.getvalue()


class Kept:
    """A project of 12 tasks: 1-4 labeled, 5-12 queued; class ``rare`` is rare.

    Args:
        settings: of the service.
        store: an empty project's folder.
        rare: name of the rare class.
        boxes: boxes are drawn.
    """

    def __init__(
        self, settings: Settings, store: ProjectStore, *, rare: str = "rare", boxes: bool = False
    ) -> None:
        self.settings, self.store, self.rare, self.boxes = settings, store, rare, boxes
        self.classes = ("common", rare, "other")
        self.uris = {task: f"/data/upload/1/{task}.png" for task in range(1, 12)}
        self.uris[12] = "data:image/png;base64," + base64.b64encode(png()).decode()
        self.uris[6] = f"/data/upload/1/{EVIL}.png"

    def label(self, name: str) -> str:
        """A label as the mirror keeps it."""
        return to_text((Box(name, 0.1, 0.1, 0.5, 0.5),) * 2) if self.boxes else name

    def fill(self) -> Kept:
        """Write everything."""
        self.mirror()
        self.cache(5)
        self.cache(4)
        self.report()
        self.history()
        self.publish()
        self.version("v0001")
        self.finetune()
        self.failures()
        return self

    def mirror(self) -> None:
        """Twelve tasks, four labeled."""
        named = dict(zip(range(1, 5), ("common", "common", "other", self.rare), strict=True))
        Mirror(self.store.path("mirror")).upsert(
            [
                MirroredTask(task, uri, "labeled", self.label(named[task]), 1)
                if task in named
                else MirroredTask(task, uri)
                for task, uri in self.uris.items()
            ]
        )
        task = "detection" if self.boxes else "classification"
        self.store.write("sync.json", SyncState(classes=self.classes, task=task))

    def cache(self, task: int) -> None:
        """Keep the image of a task as the loop does."""
        cache = ImageCache(self.settings.data_dir / "images", max_bytes=1 << 20)
        cache.put(image_key(self.uris[task], self.store.key), png())

    def report(self, **given: object) -> None:
        """What the last look said."""
        counts = {"common": 60, self.rare: 10, "other": 30}
        found = {
            "project_id": 1,
            "title": "squares",
            "at": T0,
            "tasks": 500,
            "labeled": 100,
            "embedded": 480,
            "labels_by_class": counts,
            "images_by_class": dict.fromkeys(self.classes, 9) if self.boxes else {},
            "labels_by_origin": {"initial": 50, "queue": 50},
            "unchosen": 50,
            "unchosen_rare": 1,
            "unchosen_by_class": {"common": 35, self.rare: 1, "other": 14},
            "tail": (self.rare,),
            "rare_left": RareLeftReport(total=RareEstimate(likely=7, low=3, high=15)),
            "failed": {"the file is no image": 1},
            "next": "nothing",
            "why_not": ("fit: 3 of 10 new labels",),
            "problems": (f"a problem with {self.rare}",),
            "version": "v0001",
            "queue_left": 8,
        }
        self.store.write("report.json", ProjectReport.model_validate({**found, **given}))

    def history(self) -> None:
        """Three rounds: the initial labels, some of the queue, the queue after it."""
        for number, (labels, rare, labeled, hit, publication) in enumerate(
            [(50, 1, 0, 0, "a-v0001-1"), (75, 6, 25, 5, "a-v0001-1"), (100, 10, 50, 9, "a-v0002-2")]
        ):
            publishes = number in {0, 2}
            self.store.append_history(
                RoundEntry(
                    at=T0 + timedelta(hours=number),
                    reason="hint",
                    labels_by_class={"common": labels - rare, self.rare: rare},
                    images_by_class={"common": 5, self.rare: rare} if self.boxes else {},
                    labels_by_origin={"initial": 50, "queue": labels - 50},
                    rare_found=rare,
                    queue_labeled=labeled,
                    queue_rare=hit,
                    version="v0001" if number < 2 else "v0002",
                    publication=publication,
                    queue_kind="diversity" if number < 2 else "rarefirst",
                    tail=(self.rare,),
                    seconds={"publish": 1.0} if publishes else {"fit": 1.0},
                )
            )

    def publish(self, queue: tuple[int, ...] = (1, 5, 6, 7, 8, 9, 10, 11, 12)) -> None:
        """A queue whose first task was labeled meanwhile."""
        count = len(queue)
        scores = PublishedScores(
            ids=np.asarray(queue, dtype=np.int64),
            rarity=np.linspace(0.9, 0.1, count).astype(np.float32),
            predicted=np.ones(count, dtype=np.int64),
            confidence=np.full(count, 0.75, dtype=np.float32),
            classes=self.classes,
            queue=np.asarray(queue, dtype=np.int64),
            reasons=("tail " + self.rare,) * (count - 1) + ("control",),
        )
        folder = self.store.path("publications", "a-v0002-2")
        folder.mkdir(parents=True)
        scores.save(folder)
        HeadWhy(by_task={task: self.why(task) for task in queue[:4]}).save(folder)
        published = Publication(
            name="a-v0002-2",
            version="v0002",
            kind="rarefirst",
            state="published",
            created_at=T0,
            published_at=T0,
            task_ids=queue,
        )
        self.store.write("publication.json", Publications(published=published))

    def why(self, task: int) -> TaskWhy:
        """What is said of a queued task: it is like task 4, the only rare label."""
        box = Detection(
            label=self.rare, confidence=0.75, box=(0.1, 0.2, 0.5, 0.6), rarity=0.9, decides=True
        )
        other = Detection(label="common", confidence=0.5, box=(0.6, 0.1, 0.9, 0.4))
        return TaskWhy(
            tail_mass=0.625,
            reconstruction_error=12.5,
            error_above=2.25 if task != 7 else None,
            nearest=(
                NearLabel(task=4, label=self.rare, distance=0.5),
                NearLabel(task=99, label=self.rare, distance=None),  # deleted since
            ),
            detections=(box, other) if self.boxes else (),
        )

    def version(self, name: str, labels: int = 4) -> None:
        """A stored version, fitted on the first labels."""
        registry = VersionRegistry(self.store.path("versions"))
        text = [self.label(self.rare if i == 0 else "common") for i in range(labels)]
        snapshot = LabelSnapshot(
            ids=tuple(range(1, labels + 1)),
            labels=tuple(text),
            classes=self.classes,
            task="detection" if self.boxes else "classification",
        )

        def write(folder: Path) -> None:
            (folder / "labels.json").write_text(snapshot.model_dump_json())

        card = VersionCard(
            created_at=T0,
            kind="rarefirst",
            snapshot_digest="0" * 64,
            config={"alpha": 0.5 * labels},
            metrics={"tail_labels": float(labels)},
            classes=self.classes,
            tail=(self.rare,),
            backbone_fingerprint="f" * 64,
        )
        made = registry.create(write, card)
        assert made.name == name
        registry.activate(name)

    def finetune(self, state: str = "promoted") -> None:
        """A fine-tune that is over, with its loss, its verdict and its doubts."""
        run = Finetunes(self.store).create(
            FinetuneRun(
                number=1,
                at=T0,
                why="enough labels came",
                incumbent="f" * 64,
                classes=self.classes,
                tail=(self.rare,),
                labels={1: "common", 2: "common", 3: "other", 4: self.rare},
                held_out=(3,),
                config=FinetuneConfig(),
                max_pixels=1000,
            ),
            {},
        )
        record = {
            "state": state,
            "reasons": [f"better at {self.rare}"],
            "before": 0.5,
            "after": 0.7,
        }
        run.keep(FinetuneRecord.model_validate({**record, "reasons": (f"better at {self.rare}",)}))
        lines = [json.dumps({"epoch": k, "loss": 2.0 / (k + 1)}) for k in range(3)]
        (run.path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"epoch": 3, "lo')
        figures = [self._figures(0.4), self._figures(0.8)]
        verdict = {"promoted": True, "compared": "held-out"}
        verdict |= dict(zip(("before", "after"), figures, strict=True))
        (run.path / "outcome.json").write_text(json.dumps({"verdict": verdict}))
        (run.path / "review.json").write_text(
            json.dumps(
                {
                    "by": "loss",
                    "out_of_sample": True,
                    "suspects": [
                        self._doubt(4, self.label(self.rare)),
                        self._doubt(2, self.label("other")),  # changed since
                    ],
                }
            )
        )

    def _doubt(self, task: int, label: str) -> dict[str, object]:
        shares = {"label_share": 0.1, "instead_share": 0.8, "score": 2.3}
        return {"id": task, "label": label, "instead": "common", **shares}

    def _figures(self, worth: float) -> dict[str, object]:
        if self.boxes:
            rows = [{"name": name, "boxes": 7, "ap": worth} for name in self.classes]
            return {"kind": "boxes", "classes": rows, "tail": [1]}
        rows = [{"name": name, "count": 7, "recall": worth} for name in self.classes]
        return {"kind": "classes", "classes": rows, "tail": [1]}

    def failures(self) -> None:
        """An image that could not be read."""
        bad = Failure(reason=f"no image: {EVIL}", digest="d", image=f"/data/{EVIL}.png", tries=2)
        self.store.write("failures.json", Failures(by_task={9: bad}))
