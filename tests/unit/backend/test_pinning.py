"""The version that a person activated, and what ends it."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from pydantic import BaseModel

from backend import pinning
from backend.projects import ProjectStore
from tests.recorded import CREATED_S, PROJECT_ID


def test_pin_follow_and_release(store: ProjectStore) -> None:
    assert pinning.pinned(store) is None
    assert pinning.follow(store) is None
    pin = pinning.pin(store, "v0003")
    assert pinning.pinned(store) == pin
    pinning.release(store, "v0003", "it is damaged")
    assert pinning.pinned(store) is None
    assert "v0003 is not pinned any more" in pinning.released(store)
    assert "it is damaged" in pinning.released(store)
    pinning.pin(store, "v0004")
    assert pinning.released(store) == ""
    assert pinning.follow(store) is not None
    assert pinning.pinned(store) is None


def test_releasing_what_is_not_pinned_says_nothing(store: ProjectStore) -> None:
    pinning.release(store, "v0003", "it is damaged")
    assert pinning.released(store) == ""


def test_releasing_leaves_a_newer_pin(store: ProjectStore) -> None:
    pin = pinning.pin(store, "v0004")
    pinning.release(store, "v0003", "it is damaged")
    assert pinning.pinned(store) == pin
    assert pinning.released(store) == ""


def test_a_press_is_taken_only_once_the_pin_is_written(
    store: ProjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.hint("force_fit")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ProjectStore, "write", full)
        with pytest.raises(OSError, match="No space left"):
            pinning.pin(store, "v0003")
    assert store.hint_mark("force_fit") is not None
    pinning.pin(store, "v0003")
    assert store.hint_mark("force_fit") is None


def test_a_press_while_the_pin_is_written_is_the_newer_wish(
    store: ProjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ProjectStore.write

    def pressed(self: ProjectStore, name: str, value: BaseModel) -> None:
        write(self, name, value)
        self.hint("force_fit")

    for before in (False, True):
        if before:
            store.hint("force_fit")
        with monkeypatch.context() as patch:
            patch.setattr(ProjectStore, "write", pressed)
            pinning.pin(store, "v0003")
        assert store.hint_mark("force_fit") is not None


@pytest.mark.parametrize(
    ("pinned", "each_label", "forced"),
    [(False, 0, True), (False, 1, True), (True, 0, True), (True, 1, False)],
)
def test_a_label_does_not_end_a_pin_a_press_does(
    client: FlaskClient, store: ProjectStore, pinned: bool, each_label: int, forced: bool
) -> None:
    if pinned:
        pinning.pin(store, "v0003")
    project = {
        "id": PROJECT_ID,
        "created_at": CREATED_S,
        "min_annotations_to_start_training": each_label,
    }
    body = {"action": "START_TRAINING", "project": project}
    assert client.post("/webhook", json=body).status_code == 200
    assert (store.hinted_at("force_fit") is not None) is forced
    assert forced or store.hinted_at("changed") is not None
