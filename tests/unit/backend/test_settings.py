from __future__ import annotations

import pytest
from pydantic import ValidationError

from backend.settings import Settings, read_hours


@pytest.fixture(autouse=True)
def environment(clean_environment: None) -> None:
    """Only what a test sets."""


@pytest.mark.parametrize("variable", ["LABEL_STUDIO_URL", "RAREFIRST_OWN_URL"])
@pytest.mark.parametrize(
    "address",
    [
        "http://anna:geheim@label-studio:8080",
        "https://geheim@label-studio",
        "http://anna:geh/eim@label-studio",
        "anna:geheim@label-studio:8080",
        "ftp://anna:geheim@label-studio",
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, variable: str, address: str
) -> None:
    monkeypatch.setenv(variable, address)
    with pytest.raises(ValidationError) as caught:
        Settings()
    said = str(caught.value)
    assert "found an address with a user or password in it (before '@'), expected" in said
    assert "geh" not in said
    assert "anna" not in said


def test_addresses_lose_their_last_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", " https://label.example/studio/ ")
    monkeypatch.setenv("RAREFIRST_OWN_URL", "http://[::1]:9090")
    found = Settings()
    assert found.label_studio_url == "https://label.example/studio"
    assert found.own_url == "http://[::1]:9090"


@pytest.mark.parametrize(
    ("written", "level"),
    [("debug", "DEBUG"), ("warn", "WARNING"), ("WARN", "WARNING"), ("Info", "INFO")],
)
def test_log_levels_as_other_ml_backends_take_them(
    monkeypatch: pytest.MonkeyPatch, written: str, level: str
) -> None:
    monkeypatch.setenv("LOG_LEVEL", written)
    assert Settings().log_level == level


def test_a_log_level_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "loud")
    with pytest.raises(ValidationError, match="LOG_LEVEL"):
        Settings()


@pytest.mark.parametrize(
    ("written", "hours"),
    [
        ("", set()),
        ("8-18", set(range(8, 18))),
        ("22-6, 12-13", {22, 23, 0, 1, 2, 3, 4, 5, 12}),
        ("0-24", set(range(24))),
    ],
)
def test_quiet_hours(monkeypatch: pytest.MonkeyPatch, written: str, hours: set[int]) -> None:
    monkeypatch.setenv("RAREFIRST_FINETUNE_QUIET_HOURS", written)
    assert read_hours(Settings().finetune_quiet_hours) == hours


@pytest.mark.parametrize("written", ["8", "8-", "a-b", "8-8", "8-25", "-3-4"])
def test_hours_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("RAREFIRST_FINETUNE_QUIET_HOURS", written)
    with pytest.raises(ValidationError, match="hours"):
        Settings()
