from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from backend.settings import Settings

SECRET = "canary-5d1f"


@pytest.fixture(autouse=True)
def environment(clean_environment: None) -> None:
    """Only what a test sets."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return path


@pytest.mark.parametrize("variable", ["LABEL_STUDIO_API_KEY", "RAREFIRST_LABEL_STUDIO_API_KEY"])
def test_a_token_is_read_from_its_file(
    monkeypatch: pytest.MonkeyPatch, file: Path, variable: str
) -> None:
    monkeypatch.setenv(f"{variable}_FILE", str(file))
    found = Settings()
    assert found.label_studio_api_key == SECRET
    assert SECRET not in repr(found)


def test_a_password_is_read_from_its_file(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("BASIC_AUTH_USER", "anna")
    monkeypatch.setenv("BASIC_AUTH_PASS_FILE", str(file))
    assert Settings().basic_auth == ("anna", SECRET)


def test_an_empty_variable_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY_FILE", "")
    assert Settings().label_studio_api_key == ""


def test_an_empty_variable_leaves_the_secret_to_the_file(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY_FILE", str(file))
    assert Settings().label_studio_api_key == SECRET


def test_arguments_go_before_files(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY_FILE", str(file))
    assert Settings(label_studio_api_key="given").label_studio_api_key == "given"


def test_what_is_no_secret_is_not_read_from_files(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL_FILE", str(file))
    assert Settings().label_studio_url == ""


def test_both_at_once_are_refused(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "another")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY_FILE", str(file))
    with pytest.raises(ValidationError, match="found both LABEL_STUDIO_API_KEY and") as caught:
        Settings()
    assert SECRET not in str(caught.value)
    assert "another" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "holds nothing"),
        (b" \n", "holds nothing"),
        (b"canary-1\ncanary-2\n", "holds more than one line"),
        (b"\xff\xfe\x00", "holds no text"),
        (b"canary" * 4000, "holds more than one line"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY_FILE", str(path))
    with pytest.raises(ValidationError, match=said) as caught:
        Settings()
    assert f"LABEL_STUDIO_API_KEY_FILE={path}" in str(caught.value)
    assert "canary" not in str(caught.value)
