"""The project that the stand-in serves: tasks, annotations, predictions, and who is next.

Answers are the recorded ones of a real Label Studio 1.23.2 (answers.json), filled in.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.stand_in.pictures import Pictures
from demo.project import LABEL_CONFIG, choice

Row = dict[str, Any]

ANSWERS: Row = json.loads((Path(__file__).parent / "answers.json").read_text())
MODEL_VERSION_UNKNOWN = "Model version doesn't exist either as live model or as static predictions."


def text_of(moment: datetime) -> str:
    """A moment as Label Studio writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class StandInProject:
    """Project 1.

    Args:
        tasks: how many.
        labeled: how many of the first ones carry a label from the beginning.
    """

    def __init__(self, tasks: int, labeled: int) -> None:
        self.pictures = Pictures(tasks)
        self.settings: Row = {
            **ANSWERS["project"],
            "id": 1,
            "title": f"{tasks} tasks",
            "label_config": LABEL_CONFIG,
            "created_at": text_of(datetime.now(UTC) - timedelta(days=1)),
            "sampling": "Sequential sampling",
            "model_version": "",
        }
        imported = datetime.now(UTC) - timedelta(hours=1)
        self.count = tasks
        self.created_at = [text_of(imported + timedelta(milliseconds=i)) for i in range(tasks)]
        self.updated_at = list(self.created_at)
        #: (updated_at, task) in the order of the changes; the newest of a task counts.
        self.changes = [(at, i + 1) for i, at in enumerate(self.updated_at)]
        self.annotations: dict[int, list[Row]] = {}
        #: How often somebody exchanged a task's picture for another file.
        self.exchanged: dict[int, int] = {}
        self.predictions: dict[int, Row] = {}
        self.by_version: dict[str, dict[int, int]] = {}
        self.connections: list[Row] = []
        self.webhooks: list[Row] = []
        self.views: list[Row] = []
        self._ids: Counter[str] = Counter()
        self._stream: tuple[str, Iterator[int]] = ("", iter(()))
        self._next: int | None = None
        for task in range(1, labeled + 1):
            self._annotate(task, [choice(self.pictures.classes[task - 1])], at=self.updated_at[0])

    def new_id(self, kind: str) -> int:
        """The next free id of a kind of row."""
        self._ids[kind] += 1
        return self._ids[kind]

    # Tasks ------------------------------------------------------------------------------------

    def knows(self, task: int) -> bool:
        """Whether there is such a task."""
        return 1 <= task <= self.count

    def project(self) -> Row:
        """The project as the API shows it."""
        labeled = len(self.annotations)
        return {
            **self.settings,
            "task_number": self.count,
            "num_tasks_with_annotations": labeled,
            "total_annotations_number": labeled,
            "total_predictions_number": len(self.predictions),
            "finished_task_number": labeled,
            "queue_total": self.count,
            "queue_done": labeled,
        }

    def row(self, task: int, fields: frozenset[str]) -> Row:
        """A task as a page of the Data Manager's API holds it, with the fields asked for."""
        again = f"again-{self.exchanged[task]}/" if task in self.exchanged else ""
        data = {"image": f"/data/upload/1/{again}scan-{task:08d}.jpg"}
        whole: Row = {
            "id": task,
            "annotations": [
                {name: value for name, value in annotation.items() if name in _NESTED}
                for annotation in self.annotations.get(task, ())
            ],
            "predictions": [self.predictions[i] for i in self._predictions_of(task)]
            if "predictions" in fields
            else [],
            "data": data,
            "created_at": self.created_at[task - 1],
            "updated_at": self.updated_at[task - 1],
        }
        return {name: value for name, value in whole.items() if name in fields}

    def whole_task(self, task: int, template: str) -> Row:
        """A task as the label stream (``next``) or its own page (``task``) shows it."""
        known = self.row(task, frozenset(_WHOLE))
        known["annotations"] = copy.deepcopy(self.annotations.get(task, []))
        return {**ANSWERS[template], **known, "project": 1, "inner_id": task}

    def page(self, number: int, size: int, fields: frozenset[str], query: str) -> Row | None:
        """One page; None past the end."""
        ids: Sequence[int] = range(1, self.count + 1) if not query else self._filtered(query)
        some = ids[(number - 1) * size : number * size]
        if not some and number > 1:
            return None
        return {**ANSWERS["page"], "total": len(ids), "tasks": [self.row(i, fields) for i in some]}

    def _filtered(self, query: str) -> list[int]:
        (item,) = json.loads(query)["filters"]["items"]
        if item["filter"] == "filter:tasks:updated_at":
            after, found = item["value"], set()
            for at, task in reversed(self.changes):
                if at <= after:
                    break
                if self.updated_at[task - 1] == at:
                    found.add(task)
            return sorted(found)
        if item["filter"] == "filter:tasks:predictions_model_versions":
            named = [v for v in self.by_version if any(part in v for part in item["value"])]
            return sorted({task for v in named for task in self.by_version[v].values()})
        raise ValueError(f"found the filter {item['filter']}, which the stand-in does not know")

    def _touch(self, task: int) -> str:
        at = text_of(datetime.now(UTC))
        self.updated_at[task - 1] = at
        self.changes.append((at, task))
        return at

    def exchange(self, count: int) -> None:
        """Give the last tasks another address of their picture, which must be embedded anew."""
        for task in range(max(1, self.count - count + 1), self.count + 1):
            self.exchanged[task] = self.exchanged.get(task, 0) + 1
            self._touch(task)

    # Labels -----------------------------------------------------------------------------------

    def annotate(self, task: int, result: list[Row]) -> Row:
        """Store what a person submitted."""
        if self._next == task:
            self._next = None
        return self._annotate(task, result, at=self._touch(task))

    def _annotate(self, task: int, result: Sequence[Mapping[str, object]], *, at: str) -> Row:
        annotation = {
            **ANSWERS["annotation"],
            "id": self.new_id("annotation"),
            "result": list(result),
            "completed_by": 1,
            "task": task,
            "project": 1,
            "ground_truth": False,
            "created_at": at,
            "updated_at": at,
        }
        self.annotations.setdefault(task, []).append(annotation)
        return annotation

    def next_task(self) -> int | None:
        """What the label stream serves: the lowest score of the project's version, then the rest.

        Whoever was shown a task is shown it again until it is labeled.
        """
        version = self.settings["model_version"]
        if self._next is None:
            if self._stream[0] != version:
                scored = self.by_version.get(version, {})
                order = sorted((self.predictions[i]["score"], task) for i, task in scored.items())
                self._stream = (version, iter([task for _, task in order]))
            self._next = next((t for t in self._stream[1] if t not in self.annotations), None)
        if self._next is None:
            open_ids = (t for t in range(1, self.count + 1) if t not in self.annotations)
            self._next = next(open_ids, None)
        return self._next

    # Predictions ------------------------------------------------------------------------------

    def _predictions_of(self, task: int) -> list[int]:
        return [
            i for known in self.by_version.values() for i in known if known.get(i) == task
        ]  # only asked for pages of one version

    def import_predictions(self, items: Sequence[Row]) -> int | None:
        """Store scores; None where one names a task that is not there."""
        if not all(self.knows(item["task"]) for item in items):
            return None
        at = text_of(datetime.now(UTC))
        for item in items:
            number = self.new_id("prediction")
            self.predictions[number] = {
                **ANSWERS["prediction"],
                **item,
                "id": number,
                "project": 1,
                "created_at": at,
                "updated_at": at,
            }
            self.by_version.setdefault(item["model_version"], {})[number] = item["task"]
        return len(items)

    def delete_prediction(self, number: int) -> bool:
        """Forget one; False where it is not there."""
        row = self.predictions.pop(number, None)
        if row is None:
            return False
        known = self.by_version[row["model_version"]]
        self._touch(known.pop(number))
        if not known:
            del self.by_version[row["model_version"]]
        return True

    def change(self, fields: Row) -> bool:
        """Change settings; False where a model version is not there."""
        version = fields.get("model_version")
        titles = {row["title"] for row in self.connections}
        if version and version not in self.by_version and version not in titles:
            return False
        self.settings.update(fields)
        return True


_NESTED = (
    *("id", "result", "was_cancelled", "ground_truth"),
    *("completed_by", "created_at", "updated_at"),
)
_WHOLE = ("id", "annotations", "predictions", "data", "created_at", "updated_at")
