"""Fine-tunes in whole rounds against a Label Studio in memory; the child process is a sleeper."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from backend.device_lock import take_device
from backend.finetunes import Finetunes, Wish, local_day
from backend.judging import Judge
from backend.pinning import pin
from backend.reconcile import finetune_children as children
from backend.reconcile.actions import finetune as finetune_action
from backend.reconcile.frozen_models import trained_on
from backend.reconcile.state import BackboneState, snapshot_of
from backend.versions import activate_version, follow_labels
from models.held_out_split import held_out
from tests.unit.backend.reconcile.finetune_squares import current, due_squares, end, last
from tests.unit.backend.reconcile.squares import Service


@pytest.fixture(autouse=True)
def sleeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(children, "command", lambda run_dir: ["sleep", "600"])
    yield
    for child in children._children.values():
        child.kill()
        child.wait()
    children._children.clear()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A project whose first round begins a fine-tune."""
    return due_squares(tmp_path)


def active(service: Service) -> BackboneState:
    found = service.store.read("backbone.json", BackboneState)
    assert found is not None
    return found


def away_of(labels: dict[int, str]) -> set[int]:
    ids = np.asarray(sorted(labels))
    return set(ids[held_out(ids)].tolist())


def test_a_due_fine_tune_is_begun_and_nobody_waits_for_it(service: Service) -> None:
    store = service.round()
    run = current(store)
    about = run.run
    assert about is not None
    assert children.is_running(run)
    assert service.served.kind == "rarefirst"  # the queue is there all the same
    assert (len(about.labels), about.tail) == (60, ("blue",))
    assert set(about.held_out) == away_of(about.labels)
    assert about.seen == ()  # a given network was trained on none of them
    assert (about.config.strategy, about.config.layers) == ("balanced_softmax", "all")
    assert about.incumbent == active(service).fingerprint
    assert "labels are new" in about.why

    before = service.served
    service.next_version()
    assert service.served.name != before.name  # labels, fits and publications go on
    assert current(store).number == run.number == 1
    (told,) = service.report.finetune.runs
    assert (told.number, told.state, told.labels + told.held_out) == (1, "running", 60)


def test_what_is_held_out_is_learned_by_nobody(service: Service) -> None:
    store = service.round()
    version = service.loop._contexts[store.key].registry.active()
    assert version is not None
    labels = snapshot_of(version).as_dict()
    away = away_of(labels)
    assert len(away) == 8
    assert version.card.metrics["labels"] == 60 - len(away)
    assert len(labels) == 60  # a fit is not due for ever
    assert service.report.labels_since_fit == 0
    told = service.report.finetune
    assert (told.enabled, told.held_out) == (True, len(away))
    assert told.why == "RAREFIRST_FINETUNE is on"
    assert sum(told.held_out_by_class.values()) == len(away)


def test_switching_it_off_gives_the_labels_back(tmp_path: Path, service: Service) -> None:
    service.round()
    (run,) = Finetunes(service.store).all()
    child = children._children[run.path]
    again = due_squares(tmp_path, finetune="off")
    again.label_studio.__dict__.update(service.label_studio.__dict__)
    store = again.round()
    version = again.loop._contexts[store.key].registry.active()
    assert version is not None
    assert version.card.metrics["labels"] == 60
    assert again.report.finetune.held_out == 0
    assert last(store).record.state == "superseded"
    assert child.poll() is not None


def test_a_promoted_network_serves_and_the_queue_never_goes_blank(service: Service) -> None:
    store = service.round()
    first, before = service.served, active(service)
    fingerprint = end(store, promoted=True)
    looks = 0

    def look(name: str) -> None:
        nonlocal looks
        looks += 1
        assert service.label_studio.stream(), f"an empty queue during {name}"
        published = store.publications().published
        assert published is not None
        Judge.load(store, published.version)  # what /predict answers with

    service.label_studio.fail = look
    service.round()
    service.label_studio.fail = lambda name: None
    assert looks > 3
    now, second = active(service), service.served
    assert (now.fingerprint, now.how, now.source) == (fingerprint, "fine-tuned", before.source)
    assert second.version > first.version
    record = last(store).record
    assert (record.state, record.reasons) == ("promoted", ("promoted: it is better",))
    assert (record.before, record.after, record.compared) == (0.5, 0.5, "held-out")
    about = last(store).run
    assert about is not None
    assert trained_on(store, now) == about.labels.keys() - set(about.held_out)

    # Back to the version before, with the frozen model that it was fitted on.
    activate_version(service.settings, 1, first.version)
    service.round()
    assert active(service) == before
    assert service.served.task_ids == first.task_ids


def test_records_stay_and_the_rest_goes(service: Service) -> None:
    store = service.round()
    run = current(store)
    (run.path / "images").mkdir()
    (run.path / "images" / "1").write_bytes(b"-")
    (run.path / "checkpoint.safetensors").write_bytes(b"-")
    (run.path / "metrics.jsonl").write_text("{}\n")
    (run.path / "review.json").write_text("{}")
    end(store, promoted=True)
    service.round()
    assert sorted(path.name for path in run.path.iterdir()) == [
        "log.txt",
        "metrics.jsonl",
        "outcome.json",
        "record.json",
        "review.json",
        "run.json",
        "verdict.json",
    ]


def test_a_rejected_network_changes_nothing(service: Service) -> None:
    store = service.round()
    before, queue, versions = active(service), service.served, service.report.version
    end(store, promoted=False)
    service.round()
    assert active(service) == before
    assert (service.served, service.report.version) == (queue, versions)
    assert last(store).record.state == "rejected"
    assert [run.state for run in service.report.finetune.runs] == ["rejected"]
    assert any("100" in why or "40 new labels" in why for why in service.report.why_not)
    assert not children._children


def test_the_next_one_counts_labels_since_a_rejected_one(service: Service) -> None:
    store = service.round()
    end(store, promoted=False)
    service.round()
    service.label(3)
    service.round()
    assert any("at 40 new labels, there are 3" in why for why in service.report.why_not)
    assert Finetunes(store).current() is None


def test_killed_between_the_switch_and_the_record(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = service.round()
    fingerprint = end(store, promoted=True)
    keep = type(current(store)).keep
    calls = iter([True])

    def dies_once(run: object, record: object) -> None:
        if next(calls, False):
            raise OSError("killed")
        keep(run, record)  # type: ignore[arg-type]

    monkeypatch.setattr("backend.finetunes.Finetune.keep", dies_once)
    service.round()
    assert active(service).fingerprint == fingerprint
    assert last(store).record.state == "running"
    service.round()
    assert last(store).record.state == "promoted"
    about = last(store).run
    assert about is not None
    assert trained_on(store, active(service)) == about.labels.keys() - set(about.held_out)


def test_a_pinned_version_keeps_its_frozen_model(service: Service) -> None:
    store = service.round()
    before = active(service)
    pin(store, service.served.version)
    fingerprint = end(store, promoted=True)
    service.round()
    assert active(service) == before
    assert any("is better and waits" in why for why in service.report.why_not)
    follow_labels(service.settings, 1)
    service.round()
    assert active(service).fingerprint == fingerprint


def test_a_run_that_another_frozen_model_overtook_is_put_away(
    tmp_path: Path, service: Service
) -> None:
    store = service.round()
    (child,) = children._children.values()
    again = due_squares(tmp_path, backbone="cnn4")
    again.label_studio.__dict__.update(service.label_studio.__dict__)
    again.round()
    assert child.poll() is not None
    assert last(store).record.state == "superseded"
    assert "is not the active one any more" in last(store).record.reasons[0]


def test_a_person_cancels(service: Service) -> None:
    store = service.round()
    (child,) = children._children.values()
    Finetunes(store).ask(Wish(what="cancel"))
    store.hint("changed")
    service.round()
    assert child.poll() is not None
    assert (last(store).record.state, Finetunes(store).wish) == ("cancelled", None)
    service.round()
    assert Finetunes(store).current() is None  # none is begun in its place


def test_a_person_asks_before_the_time(tmp_path: Path) -> None:
    service = due_squares(tmp_path, finetune_every_labels=1000, finetune_quiet_hours="0-24")
    store = service.round()
    assert not Finetunes(store).all()
    Finetunes(store).ask(Wish(what="start", strategy="focal", epochs=7))
    store.hint("changed")
    service.round()
    about = current(store).run
    assert about is not None
    assert (about.asked, about.config.strategy, about.config.epochs) == (True, "focal", 7)
    assert Finetunes(store).wish is None


def test_an_unknown_strategy_is_said_and_nothing_is_begun(tmp_path: Path) -> None:
    service = due_squares(tmp_path, finetune_strategy="luck")
    store = service.round()
    assert not Finetunes(store).all()
    assert any("found no strategy 'luck'" in why for why in service.report.why_not)
    assert service.served


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"finetune": "auto"}, ""),  # on the processor
        ({"finetune": "off"}, ""),
        ({"finetune_every_labels": 61}, "at 61 new labels, there are 60"),
        ({"finetune_min_tail_labels": 15}, "15 labels of each rare class: blue has"),
        ({"finetune_quiet_hours": "0-24"}, "none is begun in the hours 0-24"),
    ],
)
def test_none_is_begun(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    service = due_squares(tmp_path, **{"device": "cpu", **changes})
    store = service.round()
    assert not Finetunes(store).all()
    assert any(said in why for why in service.report.why_not) or not said


def test_one_at_a_time_on_a_device(service: Service) -> None:
    held = take_device(service.settings.data_dir, "cpu")
    assert held is not None
    store = service.round()
    assert not Finetunes(store).all()
    assert any("another fine-tune runs on cpu" in why for why in service.report.why_not)


def test_the_hours_of_a_day_count_over_all_projects(tmp_path: Path) -> None:
    service = due_squares(tmp_path, finetune_budget_h=0.5)
    other = tmp_path / "projects" / "7-00000000" / "finetunes" / "0001"
    other.mkdir(parents=True)
    spent = {local_day(): 1800.0, "2020-01-01": 9999.0}
    (other / "progress.json").write_text(json.dumps({"spent_s": spent}))
    store = service.round()
    assert not Finetunes(store).all()
    assert any("0.5 of 0.5 hours of today are spent" in why for why in service.report.why_not)
    spent[local_day()] = 1700.0
    (other / "progress.json").write_text(json.dumps({"spent_s": spent}))
    service.round()
    assert Finetunes(store).current() is not None


def test_a_killed_child_is_said_paused_and_started_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = service.round()
    run = current(store)
    (child,) = children._children.values()
    child.kill()
    child.wait()
    service.round()
    record = run.record
    killed = "it was killed (SIGKILL: by hand, or because memory ran out)"
    assert (record.tries, record.failure) == (1, killed)
    assert 50 < record.retry_s - time.time() <= 60
    assert any("tried again in" in why and "SIGKILL" in why for why in service.report.why_not)
    assert service.served  # unharmed
    run.keep(record.model_copy(update={"retry_s": time.time() - 1}))
    service.round()
    assert children.is_running(run)
    assert current(store).number == 1


def test_pauses_double(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    store = service.round()
    run = current(store)
    pauses = []
    for _ in range(12):
        finetune_action.note_failure(run, "the disk is full")
        pauses.append(round(run.record.retry_s - time.time()))
    assert pauses[:3] == [60, 120, 240]
    assert pauses[-1] == 6 * 3600


def test_what_the_child_says_of_its_end_is_told_even_after_a_restart(service: Service) -> None:
    store = service.round()
    run = current(store)
    (child,) = children._children.values()
    child.kill()
    child.wait()
    children._children.clear()  # another worker
    (run.path / "failure.json").write_text('{"reason": "the disk is full (No space left)"}')
    service.round()
    assert run.record.failure == "the disk is full (No space left)"
    assert not (run.path / "failure.json").exists()


def test_a_worker_that_died_took_its_child_along_and_the_next_one_resumes(
    service: Service,
) -> None:
    store = service.round()
    (child,) = children._children.values()
    child.kill()
    child.wait()
    children._children.clear()  # another worker: nobody knows how it ended
    service.round()
    assert children.is_running(current(store))
    assert current(store).record.tries == 0


def test_a_child_of_another_worker_counts_as_long_as_it_lives(service: Service) -> None:
    store = service.round()
    run = current(store)
    children.stop(run)
    held = run.lock()
    assert held is not None
    service.round()
    assert run.path not in children._children


def test_a_failure_for_good_ends_the_run(service: Service) -> None:
    store = service.round()
    run = current(store)
    children.stop(run)
    (run.path / "failure.json").write_text('{"reason": "no head to replace", "final": true}')
    service.round()
    assert (last(store).record.state, last(store).record.reasons) == (
        "failed",
        ("no head to replace",),
    )
    assert Finetunes(store).current() is None


def test_the_last_twenty_records_are_kept(service: Service) -> None:
    store = service.round()
    for _ in range(22):
        end(store, promoted=False)
        Finetunes(store).ask(Wish(what="start"))
        service.round()
    kept = Finetunes(store).all()
    assert [run.number for run in kept] == list(range(3, 24))  # 20 that are over, one that runs


def test_a_day_is_one_by_the_clock_on_the_wall() -> None:
    assert local_day(datetime.fromisoformat("2026-03-01T12:00:00+00:00")) == "2026-03-01"


@pytest.mark.parametrize("where", ["remember_trained_on", "make_active"])
def test_a_full_disk_at_the_promotion_does_not_stop_the_loop(
    where: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = service.round()
    end(store, promoted=True)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(f"backend.reconcile.frozen_models.{where}", full)
        service.round()
    run = current(store)
    assert "No space left" in run.record.failure
    before = service.served
    service.next_version()
    assert service.served.name != before.name  # labels, fits and publications go on
    assert any("No space left" in why for why in service.report.why_not)
    run.keep(run.record.model_copy(update={"retry_s": 0.0}))
    service.round()
    assert last(store).record.state == "promoted"


def test_a_wish_that_was_begun_and_not_taken_back_is_not_carried_out_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = due_squares(tmp_path, finetune_every_labels=1000)
    store = service.round()
    kept = Finetunes(store)
    kept.ask(Wish(what="start"))
    with monkeypatch.context() as patch:
        patch.setattr(Finetunes, "take_up", lambda self, wish: None)  # killed before it
        service.round()
    assert kept.wish is not None
    children.stop(current(store))
    service.round()
    assert kept.wish is None
    end(store, promoted=False)
    service.round()
    assert [run.number for run in kept.all()] == [1]


def test_a_run_on_another_device_and_one_that_fails_for_ever_are_given_up(
    service: Service,
) -> None:
    store = service.round()
    run = current(store)
    children.stop(run)
    run.keep(run.record.model_copy(update={"failure": "no driver", "tries": 8}))
    service.round()
    record = run.record
    assert record.state == "failed"
    assert "8 times: no driver" in record.reasons[0]


def test_classes_that_changed_since_are_not_promoted_over(service: Service) -> None:
    store = service.round()
    end(store, promoted=True)
    run = current(store)
    about = run.run
    assert about is not None
    (run.path / "run.json").write_text(
        about.model_copy(update={"classes": (*about.classes, "black")}).model_dump_json()
    )
    before = active(service)
    service.round()
    assert run.record.state == "superseded"
    assert active(service) == before


def test_given_weights_stay_given_after_their_first_fine_tune(service: Service) -> None:
    given = service.settings.model_copy(
        update={"backbone": "resnet18", "weights": "DEFAULT", "finetune_layers": "auto"}
    )
    own = given.model_copy(update={"weights": "none"})
    assert finetune_action.config_of(given).layers == "last_block"
    assert finetune_action.config_of(own).layers == "all"
