"""`rarefirst finetune`, `evaluate` and `review` as they are typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from backend import heartbeat
from backend.cli import app
from backend.finetunes import Finetunes
from backend.labelstudio.disconnection import disconnect
from backend.labelstudio.review_tab import REVIEW_TITLE, make_review_tab, review_tab
from backend.reconcile import finetune_children as children
from backend.reconcile.actions import bootstrap
from backend.reconcile.finetune_child import carry_out
from backend.reconcile.frozen_models import trained_on
from backend.reconcile.state import BackboneState
from models.backbones import Backbone, BackboneSpec, load_backbone
from models.held_out_split import held_out
from tests.unit.backend.reconcile import tiny_network
from tests.unit.backend.reconcile.finetune_squares import current, due_squares, end, last
from tests.unit.backend.reconcile.rounds import Say
from tests.unit.backend.reconcile.squares import Service
from tests.unit.backend.simulation.squares_on_disk import write_squares


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say) -> Iterator[Service]:
    """A project whose fine-tune was begun by itself."""
    monkeypatch.setattr(children, "command", lambda run_dir: ["sleep", "600"])
    service = due_squares(tmp_path / "data")
    for name, value in service.settings.model_dump().items():
        if name.startswith("finetune") or name in {"backbone", "fit_every_labels"}:
            monkeypatch.setenv(f"RAREFIRST_{name.upper()}", str(value))
    monkeypatch.setenv("RAREFIRST_TAIL_CLASSES", "blue")
    service.round()
    yield service
    for child in children._children.values():
        child.kill()
        child.wait()
    children._children.clear()


def alive(service: Service) -> None:
    """A worker that beats once."""
    heartbeat.begin(service.settings.data_dir, 1)


def test_a_dry_run_says_what_would_be(service: Service, say: Say) -> None:
    told = json.loads(say("finetune", "--dry-run", "--json", "--strategy", "focal").output)
    assert (told["strategy"], told["layers"], told["due"]) == ("focal", "all", False)
    assert told["frozen_model"] == "given"
    assert told["running"]["number"] == 1
    assert told["fair"] == told["held_out"]  # a given network has seen none of them
    counts = {**told["learned"]}
    for name, count in told["held_out"].items():
        counts[name] = counts.get(name, 0) + count
    assert sum(counts.values()) == 60
    shown = say("finetune", "--dry-run").output
    assert "balanced_softmax, all, 5 epochs, step size 0.02, on cpu" in shown
    assert "number 1" in shown


def test_a_dry_run_says_why_not(service: Service, say: Say) -> None:
    store = service.store
    end(store, promoted=False)
    service.round()
    told = json.loads(say("finetune", "--dry-run", "--json").output)
    assert told["due"] is False
    assert told["why_not"] == ["the next fine-tune is at 40 new labels, there are 0"]


def test_asking_leaves_a_wish_that_the_loop_carries_out(service: Service, say: Say) -> None:
    end(service.store, promoted=False)
    service.round()
    words = say("finetune", "--no-wait", "--strategy", "focal", "--epochs", "3").output
    assert "begins with the worker's next round" in words
    assert "No worker runs" in words
    service.round()
    about = current(service.store).run
    assert about is not None
    config = about.config
    assert (config.strategy, config.epochs, config.min_steps) == ("focal", 3, 0)
    said = say("finetune", "--strategy", "erm", "--no-wait", fails=True).output
    assert "fine-tune 2 is not over yet" in said
    assert "goes on" in say("finetune", "--no-wait").output


def test_following_to_the_verdict(
    service: Service, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = current(service.store)
    about = run.run
    assert about is not None
    children.stop(run)
    carry_out(run, about, service.store, service.settings)
    alive(service)

    def loop(seconds: float) -> None:
        service.round()

    monkeypatch.setattr("backend.finetune_request.time.sleep", loop)
    shown = say("finetune").output
    assert "Fine-tune 1 of project 1 is promoted." in shown
    assert "promoted: balanced accuracy rose" in shown
    assert "recall of blue (rare)" in shown
    assert "compared on: held-out" in shown


def test_nobody_waits_for_a_worker_that_is_not_there(service: Service, say: Say) -> None:
    assert "no worker runs, so nothing happens" in say("finetune", fails=True).output
    alive(service)
    service.store.path("paused").touch()
    assert "rarefirst resume" in say("finetune", fails=True).output


def test_cancelling(service: Service, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    said = say("finetune", "--cancel", "--no-wait").output
    assert "ends with the worker's next round" in said
    service.round()
    assert last(service.store).record.state == "cancelled"
    assert "nothing to cancel" in say("finetune", "--cancel", fails=True).output
    say("finetune", "--no-wait")
    assert "taken back" in say("finetune", "--cancel").output
    assert Finetunes(service.store).wish is None


def test_unknown_strategies_and_projects_without_fine_tuning(
    service: Service, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "found no strategy 'luck'" in say("finetune", "--strategy", "luck", fails=True).output
    monkeypatch.setenv("RAREFIRST_FINETUNE", "off")
    assert "RAREFIRST_FINETUNE is off" in say("finetune", fails=True).output


def test_status_tells_of_it(service: Service, say: Say) -> None:
    (run,) = Finetunes(service.store).all()
    told = {"done": 3, "total": 9, "message": "epoch 1 of 3, 2 s left", "pid": 1}
    (run.path / "progress.json").write_text(json.dumps(told))
    shown = say("status").output
    assert "number 1: 3 of 9, epoch 1 of 3, 2 s left" in shown
    assert "labels are held out to judge by (" in shown
    end(service.store, promoted=False)
    service.round()
    assert "number 1 was rejected: rejected: it is worse" in say("status").output


def test_every_version_is_judged_by_what_is_held_out(service: Service, say: Say) -> None:
    run = current(service.store)
    about = run.run
    assert about is not None
    children.stop(run)
    carry_out(run, about, service.store, service.settings)
    service.round()
    told = json.loads(say("evaluate", "--json").output)
    assert told["held_out"] == len(about.held_out)
    old, new = told["versions"]
    assert (old["active"], new["active"]) == (False, True)
    assert (old["frozen_model"][:5], new["frozen_model"][:10]) == ("given", "fine-tuned")
    assert (old["seen"], new["seen"], old["missing"]) == (0, 0, 0)
    figures = new["figures"]
    assert figures["count"] == told["held_out"]
    assert figures["balanced_accuracy"] >= old["figures"]["balanced_accuracy"]
    shown = say("evaluate").output
    assert f"{new['name']} (active)" in shown
    assert "1 promoted" in shown


def test_what_a_version_has_seen_is_said(service: Service, say: Say) -> None:
    version = service.loop._contexts[service.store.key].registry.active()
    assert version is not None
    card = json.loads((version.path / "version.json").read_text())
    card["config"]["settings"].pop("held_out")  # of an older release
    (version.path / "version.json").write_text(json.dumps(card))
    (row,) = json.loads(say("evaluate", "--json").output)["versions"]
    about = current(service.store).run
    assert about is not None
    assert row["seen"] == len(about.held_out)
    assert "its figures are too good" in say("evaluate").output


def test_review_names_what_is_doubted_and_still_there(service: Service, say: Say) -> None:
    assert "no fine-tune has looked at the labels yet" in say("review", fails=True).output
    run = current(service.store)
    about = run.run
    assert about is not None
    first, second, *_ = sorted(about.labels)
    suspects = [
        {"id": task, "label": label, "instead": "blue"}
        | {"label_share": 0.1, "instead_share": 0.8, "score": 2.3}
        for task, label in ((first, about.labels[first]), (second, "of another time"))
    ]
    review = {"by": "loss", "out_of_sample": False, "suspects": suspects}
    (run.path / "review.json").write_text(json.dumps(review))
    told = json.loads(say("review", "--json").output)
    assert [(doubt["task"], doubt["instead"]) for doubt in told["labels"]] == [(first, "blue")]
    assert (told["looked_at"], told["tab"]) == (1, None)
    shown = say("review").output
    assert str(first) in shown
    assert "1 more were changed since" in shown
    assert "had learned these labels" in shown


def test_the_tab_of_a_review_is_made_anew_and_goes_with_disconnecting(service: Service) -> None:
    studio = service.label_studio
    mine = {"title": REVIEW_TITLE, "filters": {"conjunction": "and", "items": [{"filter": "x"}]}}
    studio.create_view(1, mine)  # somebody else's, of the same name
    make_review_tab(studio, 1, [4, 7])  # type: ignore[arg-type]
    made = make_review_tab(studio, 1, [9])  # type: ignore[arg-type]
    tabs = [view for view in studio.view_rows if view.title == REVIEW_TITLE]
    assert [view.data for view in tabs] == [mine, review_tab([9])]
    report = disconnect(studio, 1, None, own_url="http://localhost:9090")  # type: ignore[arg-type]
    assert [step.before for step in report.steps if step.what == "tab"][-1] == REVIEW_TITLE
    assert made.id not in {view.id for view in studio.view_rows}
    assert [view.data for view in studio.view_rows if view.title == REVIEW_TITLE] == [mine]


# Without Label Studio -----------------------------------------------------------------------------


def test_files_are_learned_and_judged_without_label_studio(
    tmp_path: Path, clean_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAREFIRST_FINETUNE_MIN_STEPS", "60")
    monkeypatch.setenv("RAREFIRST_FINETUNE_LEARNING_RATE", "0.02")
    monkeypatch.setenv("RAREFIRST_DEVICE", "cpu")
    monkeypatch.setenv("RAREFIRST_TORCH_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "200")
    data = write_squares(tmp_path / "data", red=40, green=40, blue=30)
    (data / "red" / "000.png").write_bytes(b"no image")
    words = [
        *("finetune", "--data", str(data), "--out", str(tmp_path / "run"), "--tail", "blue"),
        *("--backbone", tiny_network.ADDRESS),
    ]
    threads = torch.get_num_threads()
    try:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert "balanced accuracy" in done.output
        assert "recall of blue (rare)" in done.output
        again = CliRunner().invoke(app, [*words, "--json"])
    finally:
        torch.set_num_threads(threads)
    outcome = json.loads(again.output[again.output.index("{") :])
    found = Backbone.load(tmp_path / "run" / "candidate")
    assert found.fingerprint == outcome["candidate"]
    # Colours are plain on frozen features too: there is nothing to gain, and that is said.
    assert outcome["verdict"]["reasons"][0].startswith("rejected: balanced accuracy stayed at 1.00")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name either --project or --data"),
        (("--data", "x", "--project", "1"), "name either --project or --data"),
        (("--data", "x"), "--out"),
        (("--data", "x", "--out", "y", "--cancel"), "go with --project only"),
        (("--project", "1", "--out", "y"), "go with --data only"),
    ],
)
def test_options_that_do_not_go_together(
    words: tuple[str, ...], said: str, clean_environment: None
) -> None:
    done = CliRunner().invoke(app, ["finetune", *words])
    assert done.exit_code == 2
    assert said in done.output


# A first model ------------------------------------------------------------------------------------


def test_a_first_model_is_trained_without_what_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: dict[int, str] = {}

    def child(context: object, run_dir: Path, log: Path, labels: int) -> int:
        run = bootstrap.BootstrapRun.model_validate_json((run_dir / "run.json").read_bytes())
        trained.update(run.labels)
        spec = BackboneSpec(
            architecture="cnn4", num_classes=3, class_names=run.classes, seed=run.seed + 1
        )
        load_backbone(spec).save(run_dir / "backbone")
        return 0

    monkeypatch.setattr(bootstrap, "_child", child)
    monkeypatch.setattr(children, "command", lambda run_dir: ["true"])
    service = due_squares(
        tmp_path, backbone="cnn4", bootstrap_min_labels=20, finetune_every_labels=1000
    )
    store = service.round()
    state = store.read("backbone.json", BackboneState)
    assert state is not None
    assert (state.how, state.labels) == ("bootstrapped", 60)  # twice as many train another one
    ids = np.asarray(sorted(service.label_studio.task_rows)[:60])
    assert sorted(trained) == ids[~held_out(ids)].tolist()
    assert trained_on(store, state) == frozenset(trained)
