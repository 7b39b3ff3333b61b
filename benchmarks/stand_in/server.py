"""Label Studio's API as far as rarefirst, the annotator and the benchmarks use it, from memory.

Where a real Label Studio takes too long to fill (100,000 tasks: hours), this one answers in its
recorded form at once. What it leaves out is Label Studio's own slowness, so times measured with it
are those of our side. It calls back as Label Studio does: /health and /setup when a connection is
made or listed, the webhook inside an annotator's submit and a PATCH, cut off after a second.

    .venv/bin/python -m benchmarks.stand_in.server PORT TASKS LABELED
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks.stand_in.project import ANSWERS, MODEL_VERSION_UNKNOWN, Row, StandInProject
from benchmarks.traffic import PAYLOADS

_WEBHOOK_S, _SETUP_S = 1.0, 3.0
_LARGEST_BODY = 250 * 2**20
routes = web.RouteTableDef()


class StandIn:
    """The project and what reaches the ML backend.

    Attributes:
        events: webhooks delivered, by action; ``lost``: those that were cut off or refused.
    """

    def __init__(self, project: StandInProject) -> None:
        self.project = project
        self.events: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.session: aiohttp.ClientSession | None = None
        self._recorded = {
            name: json.loads((PAYLOADS / f"webhook_{name}.json").read_text())
            for name in ("ANNOTATION_CREATED", "PROJECT_UPDATED")
        }

    def client(self) -> aiohttp.ClientSession:
        """For calls to the ML backend; made within the loop."""
        if self.session is None:
            self.session = aiohttp.ClientSession()
        return self.session

    async def call_back(self, row: Row) -> None:
        """/health and /setup of a connection, as Label Studio asks them."""
        login = aiohttp.BasicAuth(row["basic_auth_user"], row["password"])
        asked = {
            "project": f"1.{_created_s(self.project)}",
            "schema": self.project.settings["label_config"],
            "hostname": "http://localhost:8080",
            "access_token": "TOKEN",
            "extra_params": row["extra_params"],
        }
        limit = aiohttp.ClientTimeout(total=_SETUP_S)
        try:
            async with self.client().get(row["url"] + "/health", auth=login, timeout=limit) as told:
                told.raise_for_status()
            async with self.client().post(
                row["url"] + "/setup", json=asked, auth=login, timeout=limit
            ) as told:
                told.raise_for_status()
                row["model_version"] = (await told.json())["model_version"]
            row["state"], row["readable_state"] = "CO", "Connected"
        except (aiohttp.ClientError, TimeoutError):
            row["state"], row["readable_state"] = "DI", "Disconnected"

    async def tell(self, action: str, items: Row) -> None:
        """Deliver an event to every webhook that wants it."""
        body = {**self._recorded[action], **items, "project": self.project.project()}
        for hook in self.project.webhooks:
            if not hook["send_for_all_actions"] and action not in hook["actions"]:
                continue
            limit = aiohttp.ClientTimeout(total=_WEBHOOK_S)
            try:
                async with self.client().post(
                    hook["url"], json=body, headers=hook["headers"], timeout=limit
                ) as told:
                    counted = self.events if told.ok else self.lost
                    counted[action] += 1
            except (aiohttp.ClientError, TimeoutError):
                self.lost[action] += 1


def _created_s(project: StandInProject) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(project.settings["created_at"]).timestamp())


STAND_IN: web.AppKey[StandIn] = web.AppKey("stand_in", StandIn)


def _of(request: web.Request) -> StandIn:
    return request.app[STAND_IN]


def _refuse(status: HTTPStatus, detail: str, errors: Row | None = None) -> web.Response:
    body = {**ANSWERS["past_end"], "status_code": status.value, "detail": detail}
    return web.json_response(
        {**body, "validation_errors": errors} if errors else body, status=status
    )


def _shown(connection: Row) -> Row:
    return {name: value for name, value in connection.items() if name != "password"}


@routes.get("/health")
async def health(request: web.Request) -> web.Response:
    return web.json_response({"status": "UP"})


@routes.get("/api/version")
async def version(request: web.Request) -> web.Response:
    return web.json_response(ANSWERS["version"])


@routes.get("/api/current-user/whoami")
async def whoami(request: web.Request) -> web.Response:
    return web.json_response(ANSWERS["whoami"])


@routes.get("/api/projects/")
async def projects(request: web.Request) -> web.Response:
    rows = [_of(request).project.project()]
    return web.json_response({"count": 1, "next": None, "previous": None, "results": rows})


@routes.get(r"/api/projects/1{slash:/?}")
async def project(request: web.Request) -> web.Response:
    return web.json_response(_of(request).project.project())


@routes.patch(r"/api/projects/1{slash:/?}")
async def change_project(request: web.Request) -> web.Response:
    stand_in = _of(request)
    if not stand_in.project.change(await request.json()):
        errors = {"model_version": [MODEL_VERSION_UNKNOWN]}
        return _refuse(HTTPStatus.BAD_REQUEST, "Validation error", errors)
    await stand_in.tell("PROJECT_UPDATED", {})
    return web.json_response(stand_in.project.project())


@routes.get(r"/api/projects/1/model-versions{slash:/?}")
async def model_versions(request: web.Request) -> web.Response:
    known = {name: len(ids) for name, ids in _of(request).project.by_version.items()}
    if request.query.get("extended"):
        rows = [{"model_version": name, "count": count} for name, count in known.items()]
        return web.json_response({**ANSWERS["model_versions"], "static": rows})
    return web.json_response(known)


@routes.get("/api/projects/1/next")
async def next_task(request: web.Request) -> web.Response:
    task = _of(request).project.next_task()
    if task is None:
        return _refuse(HTTPStatus.NOT_FOUND, "No more tasks found")
    return web.json_response(_of(request).project.whole_task(task, "next"))


@routes.post("/api/projects/1/import/predictions")
async def import_predictions(request: web.Request) -> web.Response:
    created = _of(request).project.import_predictions(await request.json())
    if created is None:
        return _refuse(HTTPStatus.BAD_REQUEST, "Validation error")
    return web.json_response({"created": created}, status=HTTPStatus.CREATED)


@routes.delete(r"/api/predictions/{number:\d+}{slash:/?}")
async def delete_prediction(request: web.Request) -> web.Response:
    if not _of(request).project.delete_prediction(int(request.match_info["number"])):
        return _refuse(HTTPStatus.NOT_FOUND, "No Prediction matches the given query.")
    return web.Response(status=HTTPStatus.NO_CONTENT)


@routes.get("/api/predictions")
async def predictions(request: web.Request) -> web.Response:
    return web.json_response(list(_of(request).project.predictions.values()))


@routes.get("/api/tasks")
async def tasks(request: web.Request) -> web.Response:
    asked = request.query
    page = _of(request).project.page(
        int(asked.get("page", 1)),
        int(asked.get("page_size", 100)),
        frozenset(asked.get("include", "").split(",")),
        asked.get("query", ""),
    )
    if page is None:
        return web.json_response(ANSWERS["past_end"], status=HTTPStatus.NOT_FOUND)
    return web.json_response(page)


@routes.get(r"/api/tasks/{task:\d+}")
async def task(request: web.Request) -> web.Response:
    return web.json_response(
        _of(request).project.whole_task(int(request.match_info["task"]), "task")
    )


@routes.post(r"/api/tasks/{task:\d+}/annotations/")
async def annotate(request: web.Request) -> web.Response:
    stand_in, number = _of(request), int(request.match_info["task"])
    annotation = stand_in.project.annotate(number, (await request.json())["result"])
    told = {**annotation, "completed_by": 1}
    shown = stand_in.project.whole_task(number, "task")
    await stand_in.tell("ANNOTATION_CREATED", {"annotation": told, "task": shown})
    return web.json_response(annotation, status=HTTPStatus.CREATED)


@routes.get(r"/api/ml{slash:/?}")
async def connections(request: web.Request) -> web.Response:
    stand_in = _of(request)
    for row in stand_in.project.connections:
        await stand_in.call_back(row)
    return web.json_response([_shown(row) for row in stand_in.project.connections])


@routes.post(r"/api/ml{slash:/?}")
async def connect(request: web.Request) -> web.Response:
    stand_in, asked = _of(request), await request.json()
    row: Row = {
        **ANSWERS["ml"],
        **{name: asked[name] for name in ("url", "title") if name in asked},
        "id": stand_in.project.new_id("connection"),
        "extra_params": asked.get("extra_params"),
        "basic_auth_user": asked.get("basic_auth_user", ""),
        "password": asked.get("basic_auth_pass", ""),
    }
    await stand_in.call_back(row)
    stand_in.project.connections.append(row)
    made = {"url": row["url"] + "/webhook", "send_for_all_actions": True, "headers": {}}
    _add_webhook(stand_in, made)
    if not stand_in.project.settings["model_version"]:
        stand_in.project.settings["model_version"] = row["title"]
    return web.json_response(_shown(row), status=HTTPStatus.CREATED)


@routes.post(r"/api/ml/{number:\d+}/train")
async def train(request: web.Request) -> web.Response:
    stand_in = _of(request)
    (row,) = stand_in.project.connections
    body = {"action": "START_TRAINING", "project": stand_in.project.project()}
    login = aiohttp.BasicAuth(row["basic_auth_user"], row["password"])
    async with stand_in.client().post(row["url"] + "/webhook", json=body, auth=login):
        return web.json_response({})


def _add_webhook(stand_in: StandIn, fields: Row) -> Row:
    row = {**ANSWERS["webhook"], "actions": [], **fields}
    row["id"] = stand_in.project.new_id("webhook")
    stand_in.project.webhooks.append(row)
    return row


@routes.get("/api/webhooks/")
async def webhooks(request: web.Request) -> web.Response:
    return web.json_response(_of(request).project.webhooks)


@routes.patch(r"/api/webhooks/{number:\d+}/")
async def change_webhook(request: web.Request) -> web.Response:
    number = int(request.match_info["number"])
    row = next(row for row in _of(request).project.webhooks if row["id"] == number)
    row.update({"actions": [], **await request.json()})
    return web.json_response(row)


@routes.get("/api/dm/views/")
async def views(request: web.Request) -> web.Response:
    return web.json_response(_of(request).project.views)


@routes.post("/api/dm/views/")
async def add_view(request: web.Request) -> web.Response:
    known = _of(request).project
    row = {**ANSWERS["view"], **await request.json(), "id": known.new_id("view")}
    known.views.append(row)
    return web.json_response(row, status=HTTPStatus.CREATED)


@routes.get(r"/data/upload/1/{again:(again-\d+/)?}scan-{number:\d+}.jpg")
async def picture(request: web.Request) -> web.Response:
    pictures = _of(request).project.pictures
    data = await asyncio.to_thread(pictures.jpeg, int(request.match_info["number"]) - 1)
    return web.Response(body=data, content_type="image/jpeg")


@routes.post("/stand-in/exchange")
async def exchange(request: web.Request) -> web.Response:
    """Not Label Studio's: other pictures for some tasks, as a PATCH of each would say."""
    _of(request).project.exchange((await request.json())["count"])
    return web.json_response({})


@routes.get("/stand-in/events")
async def events(request: web.Request) -> web.Response:
    """Not Label Studio's: which webhooks arrived and which were lost."""
    stand_in = _of(request)
    return web.json_response({"delivered": stand_in.events, "lost": stand_in.lost})


def make_app(tasks: int, labeled: int) -> web.Application:
    """The server of a fresh project."""
    app = web.Application(client_max_size=_LARGEST_BODY)
    app[STAND_IN] = StandIn(StandInProject(tasks, labeled))
    app.add_routes(routes)

    async def close(_: Any) -> None:
        session = app[STAND_IN].session
        if session is not None:
            await session.close()

    app.on_cleanup.append(close)
    return app


if __name__ == "__main__":
    port, count, with_label = (int(word) for word in sys.argv[1:4])
    web.run_app(make_app(count, with_label), host="127.0.0.1", port=port, access_log=None)
