"""Requests that our own app and the official server are both sent: recorded ones and odd ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tests.recorded import CREATED_S, PROJECT_ID

#: Whose ``_wsgi.py`` starts the official server.
Entry = Literal["ours", "theirs"]
PAYLOADS = Path(__file__).parent / "payloads" / "1.23.2"
JSON = {"Content-Type": "application/json"}

# Why an answer of the official server is another one. "alone" is a _wsgi.py of its own making.
PARSES_FIRST = "the official server reads this field itself, fails, and answers 500"
READS_BODIES = "the official server reads the body itself, and answers what it cannot read itself"
WRAPS_ERRORS = "errors of /predict and /setup are answered in the official server's shape"
KNOWS_NO_SUCH_EVENT = "the official server answers events that it does not know itself"
JSON_ONLY = "the official server takes JSON only under a JSON content type"
OWN_METRICS = "the official server answers /metrics itself, with {}"
STRICT_SLASH = "the official server knows no address with a slash at its end"
ALONE = "only our _wsgi.py adds it"
ERROR_SHAPE = "only our _wsgi.py gives errors our shape"
NO_LIMIT = "only our _wsgi.py limits the size of bodies"
OWN_LOGIN = "the official server asks for the login on /health, too"


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        differs: why the official server under our ``_wsgi.py`` answers otherwise; empty: it must
            answer the same bytes.
        alone: the same under a ``_wsgi.py`` of the official server's making.
    """

    name: str
    path: str
    body: bytes = b""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    differs: str = ""
    alone: str = ""

    def why_under(self, entry: Entry) -> str:
        """Why the official server answers otherwise under an entry; empty: it does not."""
        return self.differs if entry == "ours" else self.alone


def recorded() -> Iterator[Case]:
    """Every recorded body, as Label Studio sent it."""
    heard = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "START_TRAINING"}
    for path in sorted(PAYLOADS.glob("*.json")):
        route = path.stem.split("_")[0]
        if route == "headers":
            continue
        body = path.read_bytes()
        alone = "" if route != "webhook" or json.loads(body)["action"] in heard else ALONE
        yield Case(path.stem, f"/{route}", body, alone=alone)


def _recorded_body(name: str) -> dict[str, object]:
    body: dict[str, object] = json.loads((PAYLOADS / f"{name}.json").read_text())
    return body


def _changed(name: str, **changes: object) -> bytes:
    """A recorded body with fields changed; ``...`` takes a field out."""
    body = {**_recorded_body(name), **changes}
    return json.dumps({key: value for key, value in body.items() if value is not ...}).encode()


def odd() -> Iterator[Case]:
    """Bodies that Label Studio does not send, or only now and then."""
    yield from _odd_setups()
    yield from _odd_predicts()
    yield from _odd_webhooks()
    yield from _odd_bodies()
    yield from _other_paths()


def _odd_setups() -> Iterator[Case]:
    id_, now = PROJECT_ID, CREATED_S

    def setup(name: str, differs: str = "", **changes: object) -> Case:
        body = _changed("setup", **changes)
        return Case(f"setup: {name}", "/setup", body, differs=differs, alone=differs)

    yield setup("the id's project of a rebuilt database", project=f"{id_}.{now - 1000}")
    yield setup("an id without creation time", project=f"{id_}")
    yield setup("a project never heard of", project="77.1700000000")
    yield setup("a creation time never heard of", project=f"{id_}.{now + 5}")
    yield setup("extra params as text", extra_params='{"top_k": 100}')
    yield setup("extra params that are garbage", extra_params="{{{")
    yield setup("extra params as a list", extra_params=[1, "a"])
    yield setup("extra params as a number", extra_params=7)
    yield setup("no extra params", extra_params=...)
    yield setup("no schema", schema=...)
    yield setup("schema is null", schema=None)
    yield setup("a schema that is not XML", schema="<View><Choices")
    yield setup("an empty schema", schema="")
    yield setup("a schema without controls", schema="<View/>")
    yield setup("fields that nobody knows", something={"new": [1]})
    yield setup("project is a word", WRAPS_ERRORS, project="abc")
    yield setup("project is negative", WRAPS_ERRORS, project="-1.5")
    yield setup("project is too large", WRAPS_ERRORS, project="9" * 40)
    yield setup("project is an empty text", WRAPS_ERRORS, project="")
    yield setup("project is a number", PARSES_FIRST, project=id_)
    yield setup("project is null", PARSES_FIRST, project=None)
    yield setup("project is an object", PARSES_FIRST, project={"id": id_})
    yield setup("no project", PARSES_FIRST, project=...)


def _odd_predicts() -> Iterator[Case]:
    id_, now = PROJECT_ID, CREATED_S

    def predict(name: str, differs: str = "", **changes: object) -> Case:
        body = _changed("predict_open_task", **changes)
        return Case(f"predict: {name}", "/predict", body, differs=differs, alone=differs)

    task = {"id": 2, "data": {"image": "/data/upload/1/a.png"}}
    params = {"login": "ann", "password": "secret", "context": {"result": [], "draft_id": 5}}
    yield predict("login, password and a context", params=params)
    yield predict("parameters that nobody knows", params={"temperature": 0.5, "model": "x"})
    yield predict("no parameters", params=...)
    yield predict("parameters are null", PARSES_FIRST, params=None)
    yield predict("the id's project of a rebuilt database", project=f"{id_}.{now - 1000}")
    yield predict("an id without creation time", project=f"{id_}")
    yield predict("project is a number", project=id_)
    yield predict("a project never heard of", project="77.1700000000")
    yield predict("no project", project=...)
    yield predict("project is null", project=None)
    yield predict("project is a word", WRAPS_ERRORS, project="abc")
    yield predict("no label config", label_config=...)
    yield predict("a label config that is not XML", label_config="<View><Choices")
    yield predict("an empty label config", label_config="")
    yield predict("label config is null", WRAPS_ERRORS, label_config=None)
    yield predict("a model version of the request", model_version="something")
    yield predict("no tasks", tasks=...)
    yield predict("an empty list of tasks", tasks=[])
    yield predict("tasks is null", WRAPS_ERRORS, tasks=None)
    yield predict("tasks is one task", WRAPS_ERRORS, tasks=task)
    yield predict("a task is null", WRAPS_ERRORS, tasks=[task, None])
    yield predict("a task without id", tasks=[{"data": {"image": "x"}}, task])
    yield predict("a task with its id as text", tasks=[{**task, "id": "2"}])
    yield predict("a task with a word for an id", WRAPS_ERRORS, tasks=[{**task, "id": "two"}])
    yield predict("a task without data", tasks=[{"id": 3}])
    yield predict("a task with more of everything", tasks=[{**task, "annotations": [{"id": 1}]}])
    yield predict("the same task twice", tasks=[task, task])
    many = [{**task, "id": number} for number in range(1, 5001)]
    yield predict("five thousand tasks", tasks=many)


def _odd_webhooks() -> Iterator[Case]:
    config = "<View/>"

    def webhook(name: str, differs: str = "", alone: str = "", **body: object) -> Case:
        raw = json.dumps(body).encode()
        return Case(f"webhook: {name}", "/webhook", raw, differs=differs, alone=alone or differs)

    known = {"id": PROJECT_ID, "label_config": config}
    created = "2026-11-21T05:16:46Z"
    yield webhook("without creation time", action="ANNOTATION_CREATED", project=known)
    strange = {**known, "created_at": "never"}
    yield webhook("a creation time that is none", action="ANNOTATION_CREATED", project=strange)
    other = {**known, "id": 77, "created_at": created}
    yield webhook("a project never heard of", action="ANNOTATION_UPDATED", project=other)
    text = {**known, "id": str(PROJECT_ID)}
    yield webhook("an id as text", action="START_TRAINING", project=text)
    word = {**known, "id": "x"}
    yield webhook("an id that is a word", action="START_TRAINING", project=word)
    yield webhook("deleted tasks", "", ALONE, action="TASKS_DELETED", project=known)
    yield webhook("no label config", PARSES_FIRST, action="TASKS_CREATED", project={"id": 1})
    yield webhook("an event that never comes", action="ANNOTATION_DELETED", project=known)
    yield webhook("a new event", KNOWS_NO_SUCH_EVENT, action="SOMETHING_NEW", project=known)
    yield webhook("an action that is null", KNOWS_NO_SUCH_EVENT, action=None, project=known)
    yield webhook("no action", PARSES_FIRST, project=known)
    yield webhook("no project", PARSES_FIRST, action="ANNOTATION_CREATED")
    yield webhook("project is a list", PARSES_FIRST, action="ANNOTATION_CREATED", project=[])


def _odd_bodies() -> Iterator[Case]:
    setup = (PAYLOADS / "setup.json").read_bytes()
    for path in ("/setup", "/predict", "/webhook"):
        for name, body in (
            ("empty", b""),
            ("not JSON", b"{"),
            ("a list", b"[]"),
            ("null", b"null"),
            ("a number", b"5"),
            ("not UTF-8", b'{"project": "\xff\xfe"}'),
        ):
            why = READS_BODIES
            yield Case(f"{path}: {name}", path, body, differs=why, alone=why)
    for path, name in (
        ("/setup", "setup"),
        ("/predict", "predict_open_task"),
        ("/webhook", "webhook_TASKS_CREATED"),
    ):
        large = _changed(name, something="x" * 2**20)
        yield Case(f"{path}: over the limit", path, large, alone=NO_LIMIT)
    twice = json.dumps(setup.decode()).encode()
    yield Case("setup: JSON in JSON", "/setup", twice, differs=READS_BODIES, alone=READS_BODIES)
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        yield Case(
            f"setup: sent as {kind}",
            "/setup",
            setup,
            headers={"Content-Type": kind},
            differs=JSON_ONLY,
            alone=JSON_ONLY,
        )
    charset = {"Content-Type": "application/json; charset=utf-8"}
    yield Case("setup: with a charset", "/setup", setup, headers=charset)


def _other_paths() -> Iterator[Case]:
    def get(path: str, differs: str = "", alone: str = "", *, method: str = "GET") -> Case:
        headers: dict[str, str] = {}
        name = f"{method} {path}"
        return Case(name, path, b"", method, headers, differs, alone or differs)

    yield get("/health")
    yield get("/")
    yield get("/health", method="HEAD")
    yield get("/health/", STRICT_SLASH)
    yield get("/metrics", OWN_METRICS)
    yield get("/versions", "", ALONE)
    yield get(f"/versions?project={PROJECT_ID}.{CREATED_S}", "", ALONE)
    yield get(f"/versions?project={PROJECT_ID}.{CREATED_S - 1000}", "", ALONE)
    yield get("/versions?project=77", "", ALONE)
    yield get("/job_status", "", ALONE)
    yield get("/job_status/1-0123abcd.5", "", ERROR_SHAPE)
    yield get("/nothing", "", ERROR_SHAPE)
    yield get("/predict", "", ERROR_SHAPE)
    yield get("/setup", "", ERROR_SHAPE, method="PUT")
    job = b'{"job": "1-0123abcd.5"}'
    yield Case("an unknown job", "/job_status", job, alone=ERROR_SHAPE)
    train = json.dumps({"project": f"{PROJECT_ID}.{CREATED_S}"}).encode()
    yield Case("the older train", "/train", train, alone=ALONE)
    yield Case("the older train without a project", "/train", b"{}", alone=ALONE)


def with_login(header: str, *, right: bool) -> list[Case]:
    """The recorded requests and a look at the health under a login."""
    sent = list(recorded())
    health = [Case("GET /health", "/health", b"", "GET", {}, OWN_LOGIN, OWN_LOGIN)]
    if right:
        health = [replace(health[0], differs="", alone="")]
    else:
        sent = [replace(case, alone=ERROR_SHAPE) for case in sent]
    login = {"Authorization": header} if header else {}
    return [replace(case, headers={**case.headers, **login}) for case in (*sent, *health)]
