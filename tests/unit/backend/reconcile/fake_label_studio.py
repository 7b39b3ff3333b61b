"""A Label Studio in memory, behind the client's methods: for rounds without a network.

Behaves as docs/label-studio.md has measured: one answer for each call, silently dropped items,
refused imports, model versions that must exist before the switch. The real one is in tests/e2e.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from PIL import Image

from backend.errors import LabelStudioRefused, NotFound, ProjectGone
from backend.labelstudio.records import (
    AnnotationRecord,
    Connection,
    PredictionItem,
    ProjectInfo,
    TaskRecord,
    View,
    Webhook,
)

CONFIG = """<View><Image name="image" value="$image"/><Choices name="kind" toName="image">
<Choice value="red"/><Choice value="green"/><Choice value="blue"/></Choices></View>"""
COLORS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def picture(kind: str, seed: int) -> str:
    """A data URI of a noisy 16x16 square of one colour."""
    rng = np.random.default_rng(seed)
    pixels = np.asarray(COLORS[kind]) + rng.integers(-40, 40, (16, 16, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


class FakeLabelStudio:
    """One project of coloured squares; `fail` may raise before any call, by its name."""

    base_url = "http://label-studio.test"
    origin = base_url

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, tzinfo=UTC)
        self.truth: dict[int, str] = {}
        self.task_rows: dict[int, TaskRecord] = {}
        self.predictions: dict[int, tuple[int, str, float]] = {}
        self.connection_rows: list[Connection] = []
        self.webhook_rows: list[Webhook] = []
        self.view_rows: list[View] = []
        self.settings: dict[str, object] = {
            "id": 1,
            "title": "squares",
            "created_at": self.now,
            "label_config": CONFIG,
            "sampling": "Sequential sampling",
            "model_version": "",
        }
        self.calls: Counter[str] = Counter()
        self.imports: list[str] = []
        #: Pre-annotations of the last import, by task.
        self.choices: dict[int, dict[str, object]] = {}
        self.fail: Callable[[str], None] = lambda name: None
        self.gone = False
        #: What /setup answers at an address; elsewhere an unmarked name.
        self.answers: dict[str, str] = {}
        self._next = 1

    # What people do ---------------------------------------------------------------------------

    def tick(self) -> datetime:
        self.now += timedelta(seconds=30)
        return self.now

    def new_id(self) -> int:
        self._next += 1
        return self._next

    def add_task(self, kind: str, *, uri: str | None = None) -> int:
        task_id = self.new_id()
        at = self.tick()
        self.truth[task_id] = kind
        data = {"image": picture(kind, task_id) if uri is None else uri}
        self.task_rows[task_id] = TaskRecord(id=task_id, data=data, created_at=at, updated_at=at)
        return task_id

    def annotate(self, task_id: int, label: str | None = None, *, by: int = 1) -> None:
        at = self.tick()
        value = {"choices": [label or self.truth[task_id]]}
        region = {"from_name": "kind", "to_name": "image", "type": "choices", "value": value}
        annotation = AnnotationRecord(
            id=self.new_id(), result=(region,), completed_by=by, created_at=at, updated_at=at
        )
        self._touch(task_id, (*self.task_rows[task_id].annotations, annotation))

    def skip(self, task_id: int) -> None:
        at = self.tick()
        annotation = AnnotationRecord(
            id=self.new_id(), was_cancelled=True, completed_by=1, created_at=at, updated_at=at
        )
        self._touch(task_id, (annotation,))

    def delete_annotations(self, task_id: int) -> None:
        self.tick()
        self._touch(task_id, ())

    def delete_task(self, task_id: int) -> None:
        del self.task_rows[task_id]
        self.predictions = {k: v for k, v in self.predictions.items() if v[0] != task_id}

    def _touch(self, task_id: int, annotations: tuple[AnnotationRecord, ...]) -> None:
        row = self.task_rows[task_id]
        self.task_rows[task_id] = row.model_copy(
            update={"annotations": annotations, "updated_at": self.now}
        )

    def stream(self) -> list[int]:
        """Unlabeled tasks in the order in which the label stream serves those with a score."""
        version = self.settings["model_version"]
        scored = [
            (score, task)
            for task, name, score in self.predictions.values()
            if name == version and not self.task_rows[task].annotations
        ]
        return [task for _, task in sorted(scored)]

    # The client's methods ---------------------------------------------------------------------

    def _called(self, name: str) -> None:
        self.calls[name] += 1
        self.fail(name)

    def project(self, project_id: int) -> ProjectInfo:
        self._called("project")
        if self.gone or project_id != 1:
            raise ProjectGone(project_id)
        labeled = sum(bool(row.annotations) for row in self.task_rows.values())
        return ProjectInfo.model_validate(
            {
                **self.settings,
                "task_number": len(self.task_rows),
                "num_tasks_with_annotations": labeled,
            }
        )

    def projects(self) -> list[ProjectInfo]:
        self._called("projects")
        return [self.project(1)]

    def update_project(self, project_id: int, **fields: str | int | bool) -> ProjectInfo:
        self._called("update_project")
        version = fields.get("model_version")
        known = {name for _, name, _ in self.predictions.values()}
        titles = {connection.title for connection in self.connection_rows}
        if version and version not in known | titles:
            raise LabelStudioRefused("model version does not exist", status=400)
        self.settings.update(fields)
        return self.project(project_id)

    def tasks(
        self, project_id: int, *, updated_after: datetime | None = None, **rest: object
    ) -> Iterator[TaskRecord]:
        self._called("tasks")
        for row in list(self.task_rows.values()):
            if updated_after is None or row.updated_at > updated_after:
                yield row

    def task_ids(self, project_id: int) -> set[int]:
        self._called("task_ids")
        return set(self.task_rows)

    def import_predictions(self, project_id: int, items: Sequence[PredictionItem]) -> int:
        self._called("import_predictions")
        if any(item.task not in self.task_rows for item in items):
            raise LabelStudioRefused("unknown task", status=400)
        names = {item.model_version for item in items}
        assert len(names) == 1, "one name an import"
        self.imports += names
        self.choices = {item.task: dict(item.result[0]) for item in items if item.result}
        for item in items:
            self.predictions[self.new_id()] = (item.task, item.model_version, item.score)
        return len(items)

    def model_versions(self, project_id: int) -> dict[str, int]:
        return dict(Counter(name for _, name, _ in self.predictions.values()))

    def prediction_ids(
        self, project_id: int, model_version: str, *, at_most: int | None = None
    ) -> list[int]:
        found = [key for key, value in self.predictions.items() if value[1] == model_version]
        return found[:at_most]

    def predicted_tasks(self, project_id: int, model_version: str) -> list[int]:
        return [value[0] for value in self.predictions.values() if value[1] == model_version]

    def delete_prediction(self, prediction_id: int) -> None:
        self._called("delete_prediction")
        if self.predictions.pop(prediction_id, None) is None:
            raise NotFound("no such prediction", status=404)

    def connections(self, project_id: int) -> list[Connection]:
        self._called("connections")
        self.connection_rows = [
            row.model_copy(update={"model_version": self.answers.get(row.url, row.model_version)})
            for row in self.connection_rows
        ]
        return list(self.connection_rows)

    def create_connection(
        self, project_id: int, url: str, *, title: str, basic_auth: tuple[str, str] | None = None
    ) -> Connection:
        self._called("create_connection")
        row = Connection(
            id=self.new_id(),
            url=url,
            title=title,
            model_version=self.answers.get(url, "rarefirst-0"),
            state="CO",
        )
        self.connection_rows.append(row)
        if all(hook.url != f"{url}/webhook" for hook in self.webhook_rows):
            hook = Webhook(id=self.new_id(), url=f"{url}/webhook", project=project_id)
            self.webhook_rows.append(hook)
        if not self.settings["model_version"]:
            self.settings["model_version"] = title
        return row

    def update_connection(self, connection_id: int, **fields: object) -> Connection:
        row = next(row for row in self.connection_rows if row.id == connection_id)
        changed = row.model_copy(update={"url": fields.get("url", row.url)})
        self.connection_rows[self.connection_rows.index(row)] = changed
        return changed

    def delete_connection(self, connection_id: int) -> None:
        for row in self.connection_rows:
            if row.id == connection_id and row.title == self.settings["model_version"]:
                self.settings["model_version"] = ""
        self.connection_rows = [row for row in self.connection_rows if row.id != connection_id]

    def webhooks(self, project_id: int) -> list[Webhook]:
        return list(self.webhook_rows)

    def create_webhook(
        self, project_id: int, url: str, *, headers: Mapping[str, str], actions: Sequence[str]
    ) -> Webhook:
        row = Webhook(
            id=self.new_id(), url=url, project=project_id, headers=headers, actions=tuple(actions)
        )
        self.webhook_rows.append(row)
        return row

    def update_webhook(
        self, webhook: Webhook, *, headers: Mapping[str, str], actions: Sequence[str]
    ) -> Webhook:
        changed = webhook.model_copy(
            update={
                "headers": dict(headers),
                "actions": tuple(actions),
                "send_for_all_actions": False,
            }
        )
        self.webhook_rows = [changed if r.id == webhook.id else r for r in self.webhook_rows]
        return changed

    def delete_webhook(self, webhook_id: int) -> None:
        self.webhook_rows = [row for row in self.webhook_rows if row.id != webhook_id]

    def views(self, project_id: int) -> list[View]:
        return list(self.view_rows)

    def create_view(self, project_id: int, data: Mapping[str, object]) -> View:
        self._called("create_view")
        row = View(id=self.new_id(), data=dict(data))
        self.view_rows.append(row)
        return row

    def delete_view(self, view_id: int) -> None:
        self.view_rows = [row for row in self.view_rows if row.id != view_id]

    def absolute(self, path: str) -> str:
        return self.base_url + path
