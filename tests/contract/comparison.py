"""Our own app and the official server side by side: what each answers, and what it leaves."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from flask import Flask

from backend.app import create_app
from backend.jobs import Jobs
from backend.projects import ProjectStores
from backend.settings import Settings
from tests.contract.cases import Case, Entry
from tests.published import publish
from tests.recorded import CREATED_S, LABEL_STUDIO, PROJECT_ID

Send = Callable[[Case], "Answer"]

# Headers that a client of the protocol could notice; the rest is the server's own business.
_HEADERS = ("Content-Type", "Content-Length", "Allow", "WWW-Authenticate")
# Two things are drawn anew at each request: the id that an error names, and a job's time.
_DRAWN = re.compile(rb'(?<="request_id":")[0-9a-f]{12}|(?<=under )[0-9a-f]{12}|(?<=\.)[0-9]{13}')


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers that matter, and the bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
        """Without what is drawn anew at each request."""
        kept = {name: headers[name] for name in _HEADERS if name in headers}
        return cls(status, kept, _DRAWN.sub(b"<drawn>", body))


@dataclass(frozen=True)
class Compared:
    """One request and both answers, with the files and messages that each left behind."""

    case: Case
    own: Answer
    official: Answer
    own_left: Sequence[str]
    official_left: Sequence[str]

    @property
    def equal(self) -> bool:
        """Whether status, headers, bytes and what was left behind are the same."""
        return self.own == self.official and self.own_left == self.official_left


class Side:
    """One of the two servers, with a data directory of its own, to which a request adds files."""

    def __init__(self, data_dir: Path, send: Send) -> None:
        self._data_dir = data_dir
        self._send = send
        self._jobs = Jobs(settings_of(data_dir))
        self._before = self._files()

    def answer(self, case: Case) -> tuple[Answer, list[str]]:
        """The answer to a request, and the files and messages that it left (taken away here)."""
        answer = self._send(case)
        messages = [f"{task.name}{task.args}" for task in self._jobs.huey.pending()]
        left = sorted(self._files() - self._before)
        self._jobs.reset()
        for name in self._files() - self._before:
            (self._data_dir / name).unlink()
        return answer, left + messages

    def _files(self) -> set[str]:
        """Files that the service writes; SQLite's own come and go."""
        found = (path for path in self._data_dir.rglob("*") if path.is_file())
        names = (str(path.relative_to(self._data_dir)) for path in found)
        return {name for name in names if not re.search(r"\.db(-\w+)?$", name)}


def settings_of(data_dir: Path, **more: object) -> Settings:
    """Settings of a service of the comparison."""
    return Settings(
        data_dir=data_dir,
        label_studio_url=LABEL_STUDIO,
        label_studio_api_key="not-a-token",
        preannotate=True,
        max_body_mb=1,
        debounce_s=0,
        **more,  # type: ignore[arg-type]
    )


def environment(data_dir: Path, login: tuple[str, str] | None = None) -> dict[str, str]:
    """The same settings for a process."""
    found = {
        "RAREFIRST_DATA_DIR": str(data_dir),
        "MODEL_DIR": str(data_dir),
        "LABEL_STUDIO_URL": LABEL_STUDIO,
        "LABEL_STUDIO_API_KEY": "not-a-token",
        "RAREFIRST_PREANNOTATE": "true",
        "RAREFIRST_MAX_BODY_MB": "1",
        "RAREFIRST_DEBOUNCE_S": "0",
    }
    if login is not None:
        found |= {"BASIC_AUTH_USER": login[0], "BASIC_AUTH_PASS": login[1]}
    return found


def prepare(folder: Path) -> tuple[Path, Path]:
    """Two data directories with the same key: a published project, and an older one of its id."""
    own, official = folder / "own", folder / "official"
    Jobs(settings_of(own))  # draws the key that names are made of
    stores = ProjectStores(own, LABEL_STUDIO)
    publish(stores.create(PROJECT_ID, CREATED_S, "new"), [1, 2, 3], [0.5, 0.25, 0.75])
    older = stores.create(PROJECT_ID, CREATED_S - 1000, "of a database that was rebuilt")
    publish(older, [1, 2, 3], [0.125, 0.625, 0.375], name="rarefirst-v0003-ddeeff")
    shutil.copytree(own, official)
    return own, official


def compare(own: Side, official: Side, cases: Iterable[Case]) -> Iterator[Compared]:
    """Send each request to both."""
    for case in cases:
        ours, left = own.answer(case)
        theirs, also_left = official.answer(case)
        yield Compared(case, ours, theirs, left, also_left)


# Both in this process -------------------------------------------------------------------------


@contextmanager
def official_app(
    data_dir: Path,
    entry: Entry,
    *,
    login: tuple[str, str] | None = None,
    stand_in: Mapping[str, ModuleType] | None = None,
) -> Iterator[Flask]:
    """The official server's app with `RareFirst`; under our ``_wsgi.py`` or one of its own.

    It is a global of the package, so the package and what we build on it are imported anew, and
    forgotten afterwards.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in list(sys.modules):
            if name.split(".")[0] == "label_studio_ml":
                patch.delitem(sys.modules, name)
        for name in ("backend.labelstudio.ml_base", "backend.labelstudio._wsgi"):
            patch.delitem(sys.modules, name, raising=False)
        for name, module in (stand_in or {}).items():
            patch.setitem(sys.modules, name, module)
        for name, value in environment(data_dir, login).items():
            patch.setenv(name, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package uses what pydantic will drop
            ml_base = importlib.import_module("backend.labelstudio.ml_base")
            if entry == "ours":
                app = importlib.import_module("backend.labelstudio._wsgi").app
            else:
                api = importlib.import_module("label_studio_ml.api")
                app = api.init_app(model_class=ml_base.RareFirst)
        try:
            yield app
        finally:
            for name in list(sys.modules):
                if name.startswith(("label_studio_ml", "backend.labelstudio.ml_base")):
                    del sys.modules[name]
            sys.modules.pop("backend.labelstudio._wsgi", None)


def own_app(data_dir: Path, *, login: tuple[str, str] | None = None) -> Flask:
    """Our own app over a data directory."""
    user, password = login or ("", "")
    settings = settings_of(data_dir, basic_auth_user=user, basic_auth_pass=password)
    return create_app(settings, Jobs(settings))


def in_process(app: Flask) -> Send:
    """Send through the app's test client."""
    client = app.test_client()

    def send(case: Case) -> Answer:
        answer = client.open(
            case.path, method=case.method, data=case.body or None, headers=dict(case.headers)
        )
        return Answer.of(answer.status_code, answer.headers, answer.data)

    return send


def compare_in_process(
    folders: tuple[Path, Path],
    entry: Entry,
    cases: Iterable[Case],
    *,
    login: tuple[str, str] | None = None,
    stand_in: Mapping[str, ModuleType] | None = None,
) -> list[Compared]:
    """Send each request to our own app and to the official one, both called directly.

    Args:
        folders: their data directories, from ``prepare``.
        entry: whose ``_wsgi.py`` starts the official one.
        cases: the requests.
        login: what both ask for.
        stand_in: modules in the place of the package's.
    """
    own, official = folders
    with official_app(official, entry, login=login, stand_in=stand_in) as app:
        sides = Side(own, in_process(own_app(own, login=login))), Side(official, in_process(app))
        return list(compare(*sides, cases))
