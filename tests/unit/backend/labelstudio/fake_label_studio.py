"""As much of Label Studio 1.23.2 as connecting touches, with the traps seen on the real one."""

from __future__ import annotations

import re
from typing import cast
from urllib.parse import urlsplit

from tests.unit.backend.labelstudio.local_http import Answer, Request

Row = dict[str, object]

BLOCKED = "URL resolves to a reserved network address (block: 127.0.0.0/8)"


def _valid(url: str) -> bool:
    """Label Studio's webhooks take no host without a dot (docs/label-studio.md, section 3)."""
    host = urlsplit(url).hostname or ""
    return "." in host or ":" in host or host == "localhost"


class FakeLabelStudio:
    """One project. Attributes switch the traps on.

    Attributes:
        block_webhooks: webhooks are refused, and connecting answers 403 although it connects.
        block_all: connections are refused too.
    """

    def __init__(self) -> None:
        self.url = ""
        self.block_webhooks = False
        self.block_all = False
        self.setup_version = "rarefirst-0"
        self.project: Row = {
            "id": 1,
            "title": "digits",
            "created_at": "2026-11-21T03:30:06.458334Z",
            "label_config": "<View/>",
            "sampling": "Sequential sampling",
            "model_version": "",
            "task_number": 3,
            "maximum_annotations": 1,
            "show_collab_predictions": True,
            "num_tasks_with_annotations": 0,
        }
        self.connections: dict[int, Row] = {}
        self.webhooks: dict[int, Row] = {}
        self.views: dict[int, Row] = {}
        self.versions: dict[str, int] = {}
        self.writes: list[str] = []
        self._ends: dict[str, int] = {}
        self._next_id = 10

    def reply(self, request: Request) -> Answer:
        path = request.path.rstrip("/")
        if request.method != "GET":
            self.writes.append(f"{request.method} {path}")
        body = cast(Row, request.body or {})
        for pattern, handle in (
            (r"/api/projects/1", self._project),
            (r"/api/projects/1/model-versions", self._model_versions),
            (r"/api/tasks", self._tasks),
            (r"/api/predictions/(\d+)", self._predictions),
            (r"/api/ml(?:/(\d+))?", self._ml),
            (r"/api/webhooks(?:/(\d+))?", self._hooks),
            (r"/api/dm/views(?:/(\d+))?", self._tabs),
        ):
            match = re.fullmatch(pattern, path)
            if match:
                row = int(match[1]) if match.groups() and match[1] else None
                return handle(request.method, row, body)
        return Answer(404, {"status_code": 404, "detail": "No Project matches the given query."})

    def add_connection(self, url: str, title: str, **fields: object) -> int:
        """As the settings page does: with its webhook, and the version set to the title."""
        number = self._id()
        self.connections[number] = {
            "id": number,
            "url": url,
            "title": title,
            "state": "CO",
            "model_version": self.setup_version,
            "auth_method": "NONE",
            "basic_auth_user": None,
            **fields,
        }
        if not self.block_webhooks and _valid(url):
            self._add_hook({"url": url.rstrip("/") + "/webhook", "headers": {}})
        if not self.project["model_version"]:
            self.project["model_version"] = title
        return number

    def _project(self, method: str, row: int | None, body: Row) -> Answer:
        version = body.get("model_version")
        known = {c["title"] for c in self.connections.values()} | set(self.versions) | {""}
        if version is not None and version not in known:
            return Answer(400, {"status_code": 400, "detail": "Validation error"})
        self.project.update(body)
        return Answer(200, self.project)

    def _model_versions(self, method: str, row: int | None, body: Row) -> Answer:
        if method == "DELETE":
            self.versions.pop(str(body["model_version"]))
            return Answer(200, {})
        static = [{"model_version": name, "count": n} for name, n in self.versions.items()]
        return Answer(200, {"static": static, "live": None})

    def _tasks(self, method: str, row: int | None, body: Row) -> Answer:
        """One task for each prediction."""
        rows: list[Row] = [
            {"id": n, "predictions": [{"id": n, "model_version": name}]}
            for name, numbers in self._numbered()
            for n in numbers
        ]
        return Answer(200, {"tasks": rows, "total": len(rows)})

    def _predictions(self, method: str, row: int | None, body: Row) -> Answer:
        for name, numbers in self._numbered():
            if row in numbers:
                self.versions[name] -= 1
                if not self.versions[name]:
                    del self.versions[name]
                return Answer(204, b"")
        return Answer(404, {"status_code": 404, "detail": "Not found."})

    def _numbered(self) -> list[tuple[str, range]]:
        """Ids of the predictions of each version; the lowest is deleted first."""
        numbered = []
        for name, count in self.versions.items():
            end = self._ends.setdefault(name, 1000 * (len(self._ends) + 1) + count)
            numbered.append((name, range(end - count, end)))
        return numbered

    def _ml(self, method: str, row: int | None, body: Row) -> Answer:
        if method == "GET":
            return Answer(200, list(self.connections.values()))
        if method == "POST":
            if self.block_all:
                return Answer(403, {"status_code": 403, "detail": BLOCKED})
            login = {k: v for k, v in body.items() if k in ("auth_method", "basic_auth_user")}
            number = self.add_connection(str(body["url"]), str(body["title"]), **login)
            if self.block_webhooks:
                return Answer(403, {"status_code": 403, "detail": BLOCKED})
            return Answer(201, self.connections[number])
        if row not in self.connections:
            return Answer(404, {"status_code": 404, "detail": "Not found."})
        connection = self.connections[row]
        if method == "DELETE":
            if self.project["model_version"] == connection["title"]:
                self.project["model_version"] = ""
            del self.connections[row]
            return Answer(204, b"")
        if "url" not in body or "project" not in body:
            return Answer(500, {"status_code": 500, "detail": "'url'"})
        connection.update({k: v for k, v in body.items() if k != "basic_auth_pass"}, state="CO")
        return Answer(200, connection)

    def _hooks(self, method: str, row: int | None, body: Row) -> Answer:
        if method == "GET":
            return Answer(200, list(self.webhooks.values()))
        if method == "POST":
            if self.block_webhooks or self.block_all:
                return Answer(403, {"status_code": 403, "detail": BLOCKED})
            if not _valid(str(body["url"])):
                errors = {"url": ["Enter a valid URL."]}
                return Answer(400, {"status_code": 400, "detail": "Validation error",
                                    "validation_errors": errors})  # fmt: skip
            return Answer(201, self.webhooks[self._add_hook(body)])
        assert row is not None
        if method == "DELETE":
            del self.webhooks[row]
            return Answer(204, b"")
        self.webhooks[row].update({"actions": [], **body})
        return Answer(200, self.webhooks[row])

    def _tabs(self, method: str, row: int | None, body: Row) -> Answer:
        if method == "GET":
            return Answer(200, list(self.views.values()))
        if method == "DELETE":
            assert row is not None
            del self.views[row]
            return Answer(204, b"")
        number = self._id()
        self.views[number] = {"id": number, "data": body["data"]}
        return Answer(201, self.views[number])

    def _add_hook(self, body: Row) -> int:
        number = self._id()
        self.webhooks[number] = {
            "id": number,
            "project": 1,
            "actions": [],
            "send_for_all_actions": True,
            "send_payload": True,
            "is_active": True,
            **body,
        }
        return number

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id
