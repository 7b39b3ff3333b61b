"""An older version is activated: its order is served again, exactly, and nothing else is fitted.

Coloured squares as in test_rounds; the frozen model stays untrained where nothing else is said.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backend import pinning
from backend.cli_version_tables import activated_words
from backend.errors import NotConnected, VersionRefused
from backend.projects import ProjectStore
from backend.reconcile.state import BackboneState
from backend.versions import activate_version, delete_version, follow_labels, list_versions
from models.recipes.fit_miner import Miner, fit_miner
from models.registry import VersionRegistry
from tests.unit.backend.reconcile.squares import Service, begin_squares

Begin = Callable[..., Service]
RESNET = {"backbone": "resnet32"}


@pytest.fixture
def begin(tmp_path: Path, clean_environment: None) -> Begin:
    return partial(begin_squares, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="rarefirst"),
        pytest.param({"control_share": 0.25}, id="with-a-control-slice"),
        pytest.param({"scorer": "diversity"}, id="diversity"),
        pytest.param({"scorer": "random"}, id="random"),
        pytest.param({"scorer": "paper"}, id="paper"),
    ],
)
def test_the_order_after_a_rollback_is_the_older_ones(
    begin: Begin, changes: dict[str, object]
) -> None:
    service = begin(**changes)
    first = service.served
    service.next_version()
    second = service.next_version()
    assert second.version == "v0003"

    done = activate_version(service.settings, 1, first.version)
    assert (done.in_place, done.served) == (True, False)
    service.round()
    back = service.served
    assert back.version == first.version
    assert back.name != first.name, "a name is used for one import only"
    expected = service.open(first.task_ids)
    assert list(back.task_ids)[: len(expected)] == expected
    assert len(back.task_ids) == 20, "the window slides on in the same order"
    assert set(back.control_ids) >= set(service.open(first.control_ids))


def test_every_publication_of_a_pinned_version_is_a_window_into_one_order(begin: Begin) -> None:
    service = begin(top_k=8, top_up_below=0.5)
    whole = service.whole_order("v0001")
    assert len(whole) == 36
    activate_version(service.settings, 1, "v0001")
    service.round()
    for _ in range(5):
        service.label(5)
        service.round()
        assert service.served.version == "v0001"
        assert list(service.served.task_ids)[:1] or service.open(whole) == []
        left = service.label_studio.stream()
        assert left == service.open(whole)[: len(left)]
    assert len(service.label_studio.imports) >= 5, "top-ups went on"


def test_nothing_is_fitted_while_a_version_is_pinned_until_the_labels_are_followed(
    begin: Begin,
) -> None:
    service = begin()
    service.next_version()
    activate_version(service.settings, 1, "v0001")
    service.round()
    for _ in range(2):
        service.label(5)
        service.round()
    assert service.served.version == "v0001"
    assert service.store.path("versions", "v0003").exists() is False
    assert any("a person activated v0001" in reason for reason in service.report.why_not)
    assert follow_labels(service.settings, 1).version == "v0001"
    assert follow_labels(service.settings, 1).version is None
    service.round()
    assert service.served.version == "v0003"
    (*_, newest) = list_versions(service.settings, 1).versions
    assert (newest.name, newest.marks) == ("v0003", ("active", "published"))


def test_start_training_ends_the_pin(begin: Begin) -> None:
    service = begin()
    service.next_version()
    activate_version(service.settings, 1, "v0001")
    service.round()
    service.store.hint("force_fit")
    service.round()
    assert service.served.version == "v0003"
    assert pinning.pinned(service.store) is None
    assert service.store.hinted_at("force_fit") is None


def test_activating_ends_an_older_wish_for_training(begin: Begin) -> None:
    service = begin()
    service.next_version()
    service.store.hint("force_fit")
    activate_version(service.settings, 1, "v0001")
    service.round()
    assert service.served.version == "v0001"


def test_a_pin_outlives_a_press_from_before_it_that_is_still_there(begin: Begin) -> None:
    service = begin()
    service.next_version()
    service.store.hint("force_fit")
    mark = service.store.hint_mark("force_fit")
    assert mark is not None
    pinning.pin(service.store, "v0001")  # and killed before the press was taken
    service.store.hint("force_fit")
    os.utime(service.store.path("hints", "force_fit"), ns=(mark, mark))
    service.round()
    assert service.served.version == "v0001"
    assert pinning.pinned(service.store) is not None
    assert service.store.hinted_at("force_fit") is None


def test_a_kill_after_the_wish_was_written_down(begin: Begin) -> None:
    service = begin()
    service.next_version()
    pinning.pin(service.store, "v0001")  # and not a step further
    service.round()
    assert service.served.version == "v0001"
    active = VersionRegistry(service.store.path("versions")).active()
    assert active is not None
    assert active.name == "v0001"


def test_a_round_that_runs_carries_the_wish_out(begin: Begin) -> None:
    service = begin()
    service.next_version()
    with service.store.lock() as held:
        assert held
        assert not activate_version(service.settings, 1, "v0001").in_place
    service.round()
    assert service.served.version == "v0001"


def test_activating_says_what_keeps_it_from_being_published(begin: Begin) -> None:
    service = begin()
    service.next_version()
    some = next(iter(service.label_studio.task_rows))
    service.label_studio.predictions[999_999] = (some, "their-model", 0.5)
    service.label_studio.settings["model_version"] = "their-model"
    service.label(3)
    service.round()
    done = activate_version(service.settings, 1, "v0001")
    assert "their-model" in done.held_up
    assert f"But {done.held_up}" in activated_words(done)
    service.round()
    assert service.label_studio.settings["model_version"] == "their-model"


def test_activating_what_is_served_keeps_it(begin: Begin) -> None:
    service = begin()
    name = service.served.name
    done = activate_version(service.settings, 1, "v0001")
    assert (done.in_place, done.served) == (True, True)
    service.label(5)
    service.round()
    assert service.served.name == name


def test_a_changed_label_config_ends_the_pin_and_says_so(begin: Begin) -> None:
    service = begin()
    service.next_version()
    activate_version(service.settings, 1, "v0001")
    service.round()
    config = str(service.label_studio.settings["label_config"])
    service.label_studio.settings["label_config"] = config.replace(
        '<Choice value="blue"/>', '<Choice value="blue"/><Choice value="black"/>'
    )
    service.store.hint("changed")
    service.round()
    assert service.served.version == "v0003"
    (problem,) = [text for text in service.report.problems if "not pinned any more" in text]
    assert "v0001 tells red, green, blue apart" in problem
    assert "the label config holds red, green, blue, black" in problem
    with pytest.raises(VersionRefused, match="tells red, green, blue apart"):
        activate_version(service.settings, 1, "v0001")
    assert pinning.pinned(service.store) is None
    follow_labels(service.settings, 1)
    assert pinning.released(service.store) == ""


def test_a_pinned_version_that_is_damaged_is_given_up(begin: Begin) -> None:
    service = begin()
    service.next_version()
    activate_version(service.settings, 1, "v0001")
    service.round()
    service.store.path("versions", "v0001", "miner.json").write_text("{}")
    service.label(3)
    service.round()
    assert service.served.version == "v0003"
    assert any("v0001 is damaged" in problem for problem in service.report.problems)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("no such version", "found no version 'v0009'; expected one of v0001, v0002"),
        ("damaged", "version v0001 is damaged"),
        ("no frozen model", "is not stored any more"),
        ("frozen model damaged", "the frozen model of version v0001 is damaged"),
    ],
)
def test_what_cannot_be_served_is_refused_and_nothing_changes(
    begin: Begin, harm: str, words: str
) -> None:
    service = begin()
    service.next_version()
    store, wanted = service.store, "v0001"
    backbone = store.read("backbone.json", BackboneState)
    assert backbone is not None
    weights = store.path("backbones", backbone.fingerprint[:16], "weights.safetensors")
    if harm == "no such version":
        wanted = "v0009"
    elif harm == "damaged":
        store.path("versions", "v0001", "miner.json").unlink()
    elif harm == "no frozen model":
        shutil.rmtree(weights.parent)
    else:
        weights.write_bytes(weights.read_bytes()[:100])
    before = store.publications()
    with pytest.raises(VersionRefused, match=words):
        activate_version(service.settings, 1, wanted)
    assert pinning.pinned(store) is None
    assert store.publications() == before


def test_only_what_nothing_needs_is_deleted(begin: Begin) -> None:
    service = begin()
    for _ in range(3):
        service.next_version()
    settings = service.settings
    assert service.store.publications().versions == {"v0003", "v0004"}
    with pytest.raises(VersionRefused, match="v0004 is active and published"):
        delete_version(settings, 1, "v0004")
    with pytest.raises(VersionRefused, match="v0003 is previous"):
        delete_version(settings, 1, "v0003")
    assert delete_version(settings, 1, "v0001").version == "v0001"
    activate_version(settings, 1, "v0002")
    with pytest.raises(VersionRefused, match="v0002 is active and pinned"):
        delete_version(settings, 1, "v0002")
    with pytest.raises(VersionRefused, match="found no version 'v0001'"):
        delete_version(settings, 1, "v0001")
    with pytest.raises(NotConnected, match="project 7 is not connected"):
        delete_version(settings, 7, "v0001")
    service.round()
    assert service.served.version == "v0002"


def test_pruning_leaves_what_is_served(begin: Begin) -> None:
    service = begin(keep_versions=2)
    for _ in range(3):
        service.next_version()
    names = [row.name for row in list_versions(service.settings, 1).versions]
    assert names == ["v0002", "v0003", "v0004"], "v0003 was published at that fit, v0002 before"
    assert service.store.path("versions", "latest").exists()


def test_what_is_activated_during_a_fit_is_not_pruned_by_it(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = begin(keep_versions=2)
    for _ in range(3):
        service.next_version()

    def activated_meanwhile(*arguments: Any, **named: Any) -> Miner:
        assert not activate_version(service.settings, 1, "v0002").in_place
        return fit_miner(*arguments, **named)

    monkeypatch.setattr("models.tasks.classification_models.fit_miner", activated_meanwhile)
    service.label(3)
    service.round()
    pin = pinning.pinned(service.store)
    assert pin is not None
    assert pin.version == service.served.version == "v0002"
    assert pinning.released(service.store) == ""


def test_what_a_round_deleted_before_activation_got_the_project_is_refused(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = begin()
    service.next_version()
    service.next_version()
    before = service.store.path("versions", "active").read_text()
    pin = pinning.pin

    def deleted_first(store: ProjectStore, version: str) -> pinning.Pinned:
        delete_version(service.settings, 1, version)
        return pin(store, version)

    monkeypatch.setattr(pinning, "pin", deleted_first)
    with pytest.raises(VersionRefused, match="found no version 'v0001'"):
        activate_version(service.settings, 1, "v0001")
    assert pinning.pinned(service.store) is None
    assert "v0001 is not pinned any more" in pinning.released(service.store)
    assert service.store.path("versions", "active").read_text() == before


def frozen_model(service: Service) -> BackboneState:
    found = service.store.read("backbone.json", BackboneState)
    assert found is not None
    return found


def test_back_across_frozen_models_with_tasks_that_are_newer(begin: Begin) -> None:
    service = begin()
    first, older = service.served, frozen_model(service)
    service.label(3)
    service = Service(service.label_studio, service.settings.model_copy(update=RESNET))
    service.round()
    second, newer = service.served, frozen_model(service)
    assert (second.version, older.fingerprint == newer.fingerprint) == ("v0002", False)
    new = [service.label_studio.add_task(kind) for kind in ("blue", "red", "green")]
    service.store.hint("changed")
    service.round()

    activate_version(service.settings, 1, first.version)
    assert frozen_model(service) == older
    service.round()
    assert service.served.version == first.version
    assert service.report.embedded == 63, "the newer tasks were embedded with the older model"
    assert service.report.backbone == "untrained cnn4"
    assert any("ask for another frozen model" in reason for reason in service.report.why_not)
    old = [i for i in service.served.task_ids if i not in new]
    expected = service.open(first.task_ids)
    assert len(old) >= 17
    assert old[: len(expected)] == expected[: len(old)]
    assert any(i in service.served.task_ids for i in new)

    # And forward again: its frozen model is still there.
    activate_version(service.settings, 1, second.version)
    service.round()
    assert frozen_model(service) == newer
    expected = service.open(second.task_ids)
    found = [i for i in service.served.task_ids if i not in new]
    assert found == expected[: len(found)]


def test_following_the_labels_adopts_the_frozen_model_that_the_settings_ask_for(
    begin: Begin,
) -> None:
    service = begin()
    activate_version(service.settings, 1, "v0001")
    service = Service(service.label_studio, service.settings.model_copy(update=RESNET))
    service.round()
    assert service.served.version == "v0001"
    follow_labels(service.settings, 1)
    service.round()
    assert service.report.backbone == "untrained resnet32"
    assert service.served.version == "v0002"


def test_a_frozen_model_goes_with_the_last_version_that_needs_it(begin: Begin) -> None:
    service = begin(keep_versions=2)
    older = service.store.path("backbones", frozen_model(service).fingerprint[:16])
    service = Service(service.label_studio, service.settings.model_copy(update=RESNET))
    service.round()
    assert older.is_dir(), "v0001 can be activated"
    for _ in range(3):
        service.next_version()
    assert not older.is_dir()
    assert len(list(service.store.path("backbones").iterdir())) == 1
    assert len(list(service.store.path("mirror").glob("features_*"))) == 1
    assert all(row.frozen_model_stored for row in list_versions(service.settings, 1).versions)


def test_a_label_taken_back_does_not_lose_its_task(begin: Begin) -> None:
    service = begin(top_k=100)
    activate_version(service.settings, 1, "v0001")
    before = list(service.served.task_ids)
    back = next(i for i, row in service.label_studio.task_rows.items() if row.annotations)
    service.label_studio.delete_annotations(back)
    for task_id in before[:30]:
        service.label_studio.annotate(task_id)
    service.store.hint("deleted")
    service.round()
    assert list(service.served.task_ids) == [*before[30:], back]
