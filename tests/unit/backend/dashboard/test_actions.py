"""Buttons do what the commands do, for those who are logged in, from our own page only."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from backend.app import create_app
from backend.dashboard.protection import COOKIE, Sessions
from backend.finetunes import Finetunes
from backend.jobs import Jobs
from backend.labelstudio.event_hook import authorization_header
from backend.pinning import pin, pinned
from backend.project_settings import FILE, ProjectSettings
from backend.settings import Settings
from tests.unit.backend.dashboard.conftest import Press
from tests.unit.backend.dashboard.kept import OURS, PASSWORD, USER, Kept, token_of

BUTTONS = ["activate", "follow", "pause", "resume", "finetune", "cancel-finetune", "fit"]


def state_of(kept: Kept) -> dict[str, bytes]:
    """What buttons may change: every small file of the project."""
    root = kept.store.root
    paths = [*root.glob("*"), *root.glob("hints/*"), *root.glob("finetunes/*")]
    return {str(path): path.read_bytes() for path in paths if path.is_file()}


def test_pause_and_resume(press: Press, kept: Kept) -> None:
    response = press("pause")
    assert (response.status_code, response.headers["Location"]) == (303, "/project/1?done=pause")
    assert kept.store.paused
    press("resume")
    assert not kept.store.paused
    assert kept.store.hinted_at("changed") is not None


def test_what_was_done_is_said(press: Press, browser: FlaskClient, kept: Kept) -> None:
    text = browser.get(press("pause").headers["Location"]).text
    assert "The project is paused" in text
    assert "Go on" in text
    assert 'role="status"' not in browser.get("/project/1?done=<b>").text


def test_a_fit_is_asked_for_as_start_training_does(press: Press, kept: Kept) -> None:
    assert press("fit").status_code == 303
    assert kept.store.hinted_at("force_fit") is not None


def test_a_fine_tune_is_asked_for_and_taken_back(press: Press, kept: Kept) -> None:
    assert press("finetune").status_code == 303
    wish = Finetunes(kept.store).wish
    assert wish is not None
    assert (wish.what, wish.strategy) == ("start", None)
    assert press("cancel-finetune").status_code == 303
    assert Finetunes(kept.store).wish is None


def test_what_was_activated_is_released(press: Press, kept: Kept) -> None:
    pin(kept.store, "v0001")
    assert press("follow").status_code == 303
    assert pinned(kept.store) is None


def test_what_the_command_refuses_is_said_as_it_says_it(press: Press, kept: Kept) -> None:
    response = press("activate", version="v0009")
    assert response.status_code == 409
    assert "found no version &#39;v0009&#39;; expected one of v0001" in response.text
    assert pinned(kept.store) is None


def test_what_cannot_be_done_now_is_a_refusal_and_no_defect(press: Press, kept: Kept) -> None:
    response = press("cancel-finetune")
    assert response.status_code == 409
    assert "nothing to cancel" in response.text
    own = ProjectSettings(overrides={"finetune": "off"})
    kept.store.write(FILE, own)
    response = press("finetune")
    assert response.status_code == 409
    assert "RAREFIRST_FINETUNE is off" in response.text


def test_what_was_sent_comes_back_no_longer_than_a_person_reads(press: Press, kept: Kept) -> None:
    response = press("activate", version="x" * 400_000)
    assert response.status_code == 409
    assert len(response.data) < 3000


def test_only_buttons_that_there_are(press: Press, kept: Kept) -> None:
    assert press("delete-everything").status_code == 400


@pytest.mark.parametrize("name", BUTTONS)
def test_a_button_needs_the_login(anyone: FlaskClient, kept: Kept, name: str) -> None:
    before = state_of(kept)
    assert anyone.post(f"/project/1/actions/{name}", headers=OURS).status_code == 401
    assert state_of(kept) == before


@pytest.mark.parametrize("name", BUTTONS)
def test_a_button_is_pressed_by_post_only(browser: FlaskClient, kept: Kept, name: str) -> None:
    before = state_of(kept)
    assert browser.get(f"/project/1/actions/{name}?version=v0001").status_code == 405
    assert state_of(kept) == before


@pytest.mark.parametrize("name", BUTTONS)
@pytest.mark.parametrize("token", ["", "0" * 64, "é"])
def test_a_form_without_the_token_is_refused(
    press: Press, kept: Kept, name: str, token: str
) -> None:
    pin(kept.store, "v0001")
    before = state_of(kept)
    assert press(name, token=token, version="v0001").status_code == 403
    assert state_of(kept) == before


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.test"},
        {"Origin": "http://localhost.evil.test"},
        {"Origin": "http://localhost:81"},
        {"Origin": "ftp://localhost"},
        {"Origin": "http://["},
        {"Origin": "http://"},
        {"Origin": "http://localhost:9090"},
        {"Referer": "http://evil.test/http://localhost"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.test", "Referer": "http://localhost/project/1"},
    ],
)
def test_a_request_of_another_site_is_refused(
    press: Press, kept: Kept, headers: dict[str, str]
) -> None:
    assert press("pause", headers=headers).status_code == 403
    assert not kept.store.paused


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://localhost"}, {"Referer": "http://localhost/project/1"}]
)
def test_older_browsers_say_less(press: Press, kept: Kept, headers: dict[str, str]) -> None:
    assert press("pause", headers=headers).status_code == 303


def test_a_token_of_another_session_is_refused(
    press: Press, browser: FlaskClient, kept: Kept
) -> None:
    theirs = token_of(browser.get("/project/1").text)
    browser.delete_cookie(COOKIE)
    browser.get("/project/1")
    assert press("pause", token=theirs).status_code == 403
    assert press("pause").status_code == 303


def test_a_cookie_that_somebody_made_is_not_ours(
    press: Press, browser: FlaskClient, kept: Kept, guarded: Settings
) -> None:
    sessions = Sessions(guarded.data_dir)
    cookie = "planted.0123"
    browser.set_cookie(COOKIE, cookie)
    assert press("pause", token=sessions.token(cookie)).status_code == 403
    browser.delete_cookie(COOKIE)
    assert press("pause", token=sessions.token("")).status_code == 403


def test_another_data_directory_has_other_keys(settings: Settings) -> None:
    one = Sessions(settings.data_dir)
    other = Sessions(settings.data_dir / "other")
    assert one.is_ours(one.begin())
    assert not other.is_ours(one.begin())


def test_the_cookie_is_for_us_alone(browser: FlaskClient, kept: Kept) -> None:
    said = browser.get("/project/1").headers["Set-Cookie"]
    assert "HttpOnly" in said
    assert "SameSite=Strict" in said
    assert "Set-Cookie" not in browser.get("/project/1").headers


def test_without_any_login_nobody_presses_a_button(settings: Settings, kept: Kept) -> None:
    client = create_app(settings, Jobs(settings)).test_client()
    token = token_of(client.get("/project/1").text)
    response = client.post("/project/1/actions/pause", data={"token": token}, headers=OURS)
    assert response.status_code == 403
    assert "BASIC_AUTH_USER" in response.text
    assert not kept.store.paused


def test_behind_another_name_our_own_address_counts(guarded: Settings, kept: Kept) -> None:
    settings = guarded.model_copy(update={"own_url": "https://rare.test"})
    client = create_app(settings, Jobs(settings)).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = authorization_header(USER, PASSWORD)
    token = token_of(client.get("/project/1").text)
    headers = {"Origin": "https://rare.test", "Sec-Fetch-Site": "same-origin"}
    response = client.post("/project/1/actions/pause", data={"token": token}, headers=headers)
    assert response.status_code == 303
