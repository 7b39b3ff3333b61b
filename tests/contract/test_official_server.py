"""`RareFirst` under the official server: the answers of our own app.

In CI the official package is not there and its stand-in takes its place; where it is installed,
everything here runs under both.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flask import Flask
from pydantic import ValidationError

from backend.errors import BadRequest
from backend.scoring import Scoring
from backend.settings import Settings
from tests.contract import label_studio_ml_stand_in
from tests.contract.cases import Case, Entry, odd, recorded, with_login
from tests.contract.comparison import (
    compare_in_process,
    environment,
    official_app,
    prepare,
    settings_of,
)

LOGIN = ("rarefirst", "secret")

# The real package leaves its cache's connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed database", "ignore::pytest.PytestUnraisableExceptionWarning"
)


SERVERS = ["stand-in", *(["real"] if find_spec("label_studio_ml") is not None else [])]


@pytest.fixture(params=SERVERS)
def stand_in(request: pytest.FixtureRequest) -> Mapping[str, ModuleType] | None:
    return label_studio_ml_stand_in.modules() if request.param == "stand-in" else None


@pytest.fixture
def folders(clean_environment: None, tmp_path: Path) -> tuple[Path, Path]:
    return prepare(tmp_path)


def check(
    folders: tuple[Path, Path],
    entry: Entry,
    cases: list[Case],
    stand_in: Mapping[str, ModuleType] | None,
    login: tuple[str, str] | None = None,
) -> None:
    """Every answer is the same, but for those that are said to be another, which are."""
    for found in compare_in_process(folders, entry, cases, login=login, stand_in=stand_in):
        reason = found.case.why_under(entry)
        if not reason:
            assert found.official == found.own, found.case.name
            assert found.official_left == found.own_left, found.case.name
        else:
            assert not found.equal, f"{found.case.name} is the same: {reason} is not true"


@pytest.mark.parametrize("entry", ["ours", "theirs"])
def test_recorded_requests_get_the_bytes_of_our_own_app(
    folders: tuple[Path, Path], entry: Entry, stand_in: Mapping[str, ModuleType] | None
) -> None:
    cases = list(recorded())
    assert len(cases) == 20
    if entry == "ours":
        assert not any(case.differs for case in cases)
    check(folders, entry, cases, stand_in)


@pytest.mark.parametrize("entry", ["ours", "theirs"])
def test_odd_requests_differ_only_where_we_say_so(
    folders: tuple[Path, Path], entry: Entry, stand_in: Mapping[str, ModuleType] | None
) -> None:
    check(folders, entry, list(odd()), stand_in)


@pytest.mark.parametrize(
    ("header", "right"),
    [
        ("Basic cmFyZWZpcnN0OnNlY3JldA==", True),
        ("Basic cmFyZWZpcnN0Ondyb25n", False),
        ("Bearer something", False),
        ("Basic !!", False),
        ("Basic w7w6w7w=", False),  # outside ASCII
        ("", False),
    ],
)
def test_a_login_is_asked_for_as_in_our_own_app(
    folders: tuple[Path, Path],
    header: str,
    right: bool,
    stand_in: Mapping[str, ModuleType] | None,
) -> None:
    check(folders, "ours", with_login(header, right=right), stand_in, LOGIN)


# The model without the server -------------------------------------------------------------------


@pytest.fixture
def rarefirst(
    folders: tuple[Path, Path], stand_in: Mapping[str, ModuleType] | None
) -> Iterator[Any]:
    """The class itself, over a published project."""
    _, official = folders
    with official_app(official, "theirs", stand_in=stand_in):
        (official / "projects").mkdir(exist_ok=True)
        yield sys.modules["backend.labelstudio.ml_base"].RareFirst


def test_without_a_request_the_arguments_count_and_the_newest_project_is_meant(
    rarefirst: Any,
) -> None:
    model = rarefirst(project_id="1", label_config="<View/>")
    results = model.predict([{"id": 3, "data": {}}, {"id": 1, "data": {}}])
    assert [result["score"] for result in results] == [0.25, 0.5]
    assert {result["model_version"] for result in results} == {"rarefirst-v0007-abc123"}
    assert model.model_version == "rarefirst-v0007-abc123"
    assert model.get("model_version") == "rarefirst-v0007-abc123"


def test_without_a_request_fit_returns_what_became_of_the_event(
    rarefirst: Any, folders: tuple[Path, Path]
) -> None:
    noted = rarefirst("1").fit("ANNOTATION_CREATED", {"project": {"id": 1}})
    assert noted == {"status": "noted"}
    assert len(list(folders[1].glob("projects/*/hints/changed"))) == 1
    assert rarefirst("1").fit("SOMETHING_NEW", {"project": {"id": 1}}) == {"status": "ignored"}


def test_a_model_of_no_project_answers_as_before_a_first_publication(rarefirst: Any) -> None:
    model = rarefirst()
    assert model.model_version.endswith("-0")
    assert [result["score"] for result in model.predict([{"id": 1, "data": {}}])] == [1.0]


def test_without_a_request_an_error_is_ours(rarefirst: Any) -> None:
    with pytest.raises(BadRequest, match="tasks"):
        rarefirst("1").predict([5])


def test_values_are_kept_for_the_model_alone(rarefirst: Any) -> None:
    model = rarefirst("1")
    assert model.has("model_version")
    assert not model.has("something")
    model.set("something", "new")
    assert (model.has("something"), model.get("something")) == (True, "new")
    assert rarefirst("1").get("something") is None


@pytest.mark.parametrize("given", [{"top_k": 5}, '{"top_k": 5}'])
def test_extra_params_come_as_object_or_text(rarefirst: Any, given: object) -> None:
    model = rarefirst("1")
    model.set_extra_params(given)
    assert json.loads(model.get("extra_params")) == {"top_k": 5}


def test_an_error_of_ours_tells_the_client_no_traceback(
    folders: tuple[Path, Path],
    stand_in: Mapping[str, ModuleType] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with official_app(folders[1], "theirs", stand_in=stand_in) as app:

        def fail(*_: object) -> None:
            raise OSError("disk of /srv/secret is full")

        monkeypatch.setattr(Scoring, "predict", fail)
        answer = app.test_client().post("/predict", json={"project": "1", "tasks": []})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "see the log" in answer.get_json()["detail"]


def test_what_is_said_to_be_installed_is_the_commit_that_was_compared(rarefirst: Any) -> None:
    install = sys.modules["backend.labelstudio.ml_base"].INSTALL
    (commit,) = re.findall(r"@([0-9a-f]{40})", install)
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["label-studio-ml"][0].endswith("@" + commit)
    for told in (label_studio_ml_stand_in.__doc__ or "", (root / "README.md").read_text()):
        assert commit in told


# The entry ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["none", "1.x"])
def test_a_missing_package_says_how_to_get_it(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    for name in ("backend.labelstudio.ml_base", "backend.labelstudio._wsgi"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name, module in label_studio_ml_stand_in.modules().items():
        # 1.x has no `response`. Python takes a None for "there is no such module".
        there = version == "1.x" and not name.endswith("response")
        monkeypatch.setitem(sys.modules, name, module if there else None)
    with pytest.raises(ImportError, match=r"no module 'label_studio_ml.*install it with: pip"):
        importlib.import_module("backend.labelstudio.ml_base")
    for name, value in environment(folders[1]).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ImportError, match=r"label-studio-ml 2\.x cannot be imported"):
        importlib.import_module("backend.labelstudio._wsgi")


def test_bodies_and_logins_are_not_logged(
    folders: tuple[Path, Path],
    stand_in: Mapping[str, ModuleType] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with official_app(folders[1], "ours", stand_in=stand_in) as app, caplog.at_level("DEBUG"):
        app.test_client().post("/setup", json={"project": "1.5", "access_token": "s3cret"})
    assert "s3cret" not in caplog.text


def test_wrong_settings_are_told_without_the_secrets_beside_them(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(folders[1]).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BASIC_AUTH_PASS", "s3cret")
    monkeypatch.delitem(sys.modules, "backend.labelstudio._wsgi", raising=False)
    with pytest.raises(ValidationError, match="set both BASIC_AUTH_USER") as wrong:
        importlib.import_module("backend.labelstudio._wsgi")
    assert "s3cret" not in str(wrong.value)


def test_a_password_that_the_official_server_cannot_compare_is_refused_at_the_start(
    folders: tuple[Path, Path], stand_in: Mapping[str, ModuleType] | None
) -> None:
    with official_app(folders[1], "ours", stand_in=stand_in):
        make_app = sys.modules["backend.labelstudio._wsgi"].make_app
        settings = settings_of(folders[1], basic_auth_user="ann", basic_auth_pass="schlüssel")
        with pytest.raises(ValueError, match="outside ASCII"):
            make_app(settings)


def test_flags_are_settings_by_another_name(
    folders: tuple[Path, Path],
    stand_in: Mapping[str, ModuleType] | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran: list[dict[str, object]] = []
    monkeypatch.setattr(Flask, "run", lambda self, **kwargs: ran.append(kwargs))
    _, official = folders
    other = official.with_name("other")
    flags = f"-p 9099 --host 127.0.0.1 --log-level WARNING --model-dir {other} --check"
    login = "--basic-auth-user ann --basic-auth-pass key"
    with official_app(official, "theirs", stand_in=stand_in):
        wsgi = importlib.import_module("backend.labelstudio._wsgi")
        sys.modules["backend.labelstudio.ml_base"].services.cache_clear()
        with monkeypatch.context() as patch:
            for name in wsgi._FLAGS.values():
                patch.setenv(name, "")  # whatever the flags set is taken back
                patch.delenv(name)
            wsgi.main([*flags.split(), *login.split()])
            found = Settings()
    assert ran == [{"host": "127.0.0.1", "port": 9099}]
    assert (found.data_dir, found.basic_auth) == (other, ("ann", "key"))
    assert (other / "queue.key").is_file()
