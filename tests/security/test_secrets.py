"""Token and passwords of a service in use: nothing that is logged, answered or kept has them."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from backend.app import create_app
from backend.errors import BackendError
from backend.jobs import Jobs
from backend.labelstudio.auth import TokenAuth
from backend.labelstudio.client import LabelStudioClient
from backend.labelstudio.event_hook import authorization_header
from backend.labelstudio.media import MediaFetcher
from backend.logs import configure_logging
from backend.projects import ProjectStore
from backend.settings import Settings
from tests.contract.cases import odd, recorded
from tests.security.conftest import ROOT, Serve, Tried
from tests.unit.backend.labelstudio.local_http import Answer

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.canary-signature-51c7"
LEGACY = "ca9a7c0ffee0ca9a7c0ffee0ca9a7c0ffee0ca9a"
PASSWORD = "canary-passw0rd-77aa"
USER = "canary-user-5b"
SENT = "canary-sent-to-us-90ff"
SECRETS = (
    *(JWT, JWT.rpartition(".")[2], LEGACY, PASSWORD, SENT),
    base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
)


def assert_clean(text: str, where: str) -> None:
    for secret in SECRETS:
        assert secret not in text, (
            f"{secret} in {where}: ...{text[max(0, text.find(secret) - 200) :][:400]}"
        )


@pytest.fixture
def written(settings: Settings) -> Iterator[Callable[[], str]]:
    """All that is logged, at the most talkative level, by every library."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in ("urllib3", "huey", "httpx", "PIL")}
    configure_logging(settings.model_copy(update={"log_level": "DEBUG"}), "web")
    for name in quiet:
        logging.getLogger(name).setLevel(logging.DEBUG)
    out = io.StringIO()
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(out)
    yield out.getvalue
    root.handlers[:], root.level = before, level
    for name, was in quiet.items():
        logging.getLogger(name).setLevel(was)


def test_nothing_that_is_answered_or_logged_holds_a_secret(
    settings: Settings, store: ProjectStore, written: Callable[[], str], tried: Tried
) -> None:
    """Every recorded and odd body, with logins that fail, with secrets all over the request."""
    given = {
        "label_studio_api_key": JWT,
        "basic_auth_user": USER,
        "basic_auth_pass": PASSWORD,
        "log_level": "DEBUG",
    }
    locked = settings.model_copy(update=given)
    client = create_app(locked, Jobs(locked)).test_client()
    right = {"Authorization": authorization_header(USER, PASSWORD)}
    half = {"Authorization": authorization_header(USER, SENT)}
    answers: list[str] = []
    asked = 0
    for case in (*recorded(), *odd()):
        body = case.body
        if body.startswith(b"{") and len(body) < 100_000:
            try:
                parsed = json.loads(body)
                parsed |= {"access_token": SENT, "hostname": SENT, "extra_params": {"token": SENT}}
                body = json.dumps(parsed).encode()
            except ValueError:
                pass
        for headers in ({}, half, right, {"Authorization": f"Token {SENT}"}):
            for sent in (body, body[:-1] + SENT.encode()):
                answer = client.open(
                    case.path,
                    method=case.method,
                    data=sent,
                    headers={**headers, "Cookie": SENT, "X-Api-Key": SENT},
                )
                answers.append(f"{answer.headers}{answer.get_data(as_text=True)}")
                asked += 1
    assert asked > 800
    tried(asked)
    assert_clean("".join(answers), "answers")
    assert_clean(written(), "the log")
    assert len(written()) > 10_000
    for path in locked.data_dir.rglob("*"):
        if path.is_file():
            assert_clean(path.read_bytes().decode(errors="replace"), str(path))


def test_what_fails_inside_is_logged_without_secrets(
    settings: Settings,
    store: ProjectStore,
    written: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A traceback of a defect shows lines of code, never the values in them."""
    given = {"label_studio_api_key": JWT, "basic_auth_user": USER, "basic_auth_pass": PASSWORD}
    locked = settings.model_copy(update=given)

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("backend.events.setup", broken)
    monkeypatch.setattr("backend.scoring.Scoring.predict", broken)
    client = create_app(locked, Jobs(locked)).test_client()
    right = {"Authorization": authorization_header(USER, PASSWORD)}
    for path in ("/setup", "/predict"):
        answer = client.post(path, json={"project": "1.5", "access_token": SENT}, headers=right)
        assert answer.status_code == 500
        assert_clean(answer.get_data(as_text=True), path)
        assert "a defect" not in answer.get_data(as_text=True)
    assert "RuntimeError: a defect" in written()
    assert_clean(written(), "the log")


@pytest.mark.parametrize("key", [JWT, LEGACY])
@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 429, 500])
def test_no_error_about_label_studio_holds_the_token(
    serve: Serve, tmp_path: Path, written: Callable[[], str], key: str, status: int
) -> None:
    """Also where Label Studio, or who poses as it, says the token back in a header."""
    reply = Answer(status, b"not JSON", {"Location": f"http://x.test/?token={SENT}"})
    server = serve(lambda request: reply)
    client = LabelStudioClient(server.url, key)
    media = MediaFetcher(
        client, allowed_hosts=(), cache_dir=tmp_path, cache_bytes=0, max_bytes=1000, timeout_s=1.0
    )
    said = [repr(client), repr(media), str(vars(client).keys())]
    for act in (
        lambda: client.version(),
        lambda: client.project(1),
        lambda: media.fetch("/data/upload/1/a.png", task_id=1, project_key="p"),
        lambda: media.fetch(f"http://u:{SENT}@x.test/a.png", task_id=1, project_key="p"),
        lambda: media.fetch(f"http://x.test/a.png?sig={SENT}", task_id=1, project_key="p"),
    ):
        try:
            act()
        except BackendError as error:
            said += [str(error), repr(error), str(error.__cause__), str(error.args)]
    assert len(said) > 6
    assert_clean("".join(said), "errors")
    assert_clean(written(), "the log")


def test_settings_never_show_their_secrets(settings: Settings) -> None:
    given = {"label_studio_api_key": JWT, "basic_auth_user": USER, "basic_auth_pass": PASSWORD}
    changed = settings.model_copy(update=given)
    assert_clean(f"{changed!r} {changed!s} {changed:}", "the settings")
    for bad in (
        {"basic_auth_user": ""},
        {"port": PASSWORD},
        {"label_studio_url": f"http://a:{SENT}@h"},
    ):
        with pytest.raises(ValidationError) as caught:
            Settings(**{**given, **bad})  # type: ignore[arg-type]
        assert_clean(f"{caught.value} {caught.value!r}", "a wrong setting")
    assert_clean(repr(TokenAuth(LEGACY, exchange=lambda key: key)), "the token's holder")


@pytest.mark.parametrize(
    "command",
    [["status"], ["status", "--json"], ["connect", "-p", "1"], ["doctor", "--json"], ["doctor"]],
    ids=" ".join,
)
@pytest.mark.parametrize("wrong", [{}, {"PORT": PASSWORD}, {"LABEL_STUDIO_URL": "nothing"}])
def test_no_command_prints_a_secret(
    tmp_path: Path, command: list[str], wrong: dict[str, str]
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "RAREFIRST_DATA_DIR": str(tmp_path),
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "LABEL_STUDIO_API_KEY": JWT,
        "BASIC_AUTH_USER": USER,
        "BASIC_AUTH_PASS": PASSWORD,
        "LOG_LEVEL": "DEBUG",
        **wrong,
    }
    done = subprocess.run(
        [sys.executable, "-c", "from backend.cli import app; app()", *command],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout + done.stderr
    assert_clean(done.stdout, "standard output")
    assert_clean(done.stderr, "standard error")
