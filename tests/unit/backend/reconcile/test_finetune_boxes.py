"""A fine-tune of a project of drawn boxes: begun, carried out by the child process, promoted."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from backend.cli_finetune_tables import (
    evaluation_tables,
    preview_table,
    review_table,
    verdict_table,
)
from backend.errors import BackendError
from backend.evaluate_versions import evaluate_project
from backend.finetune_request import ask_for_finetune, outcome_of, preview
from backend.finetunes import Finetune, FinetuneRun, Finetunes, Wish
from backend.reconcile import finetune_children, frozen_models
from backend.reconcile.actions import finetune as action
from backend.reconcile.actions import promote
from backend.reconcile.context import ProjectContext
from backend.reconcile.finetune_child import carry_out
from backend.reconcile.finetune_facts import finetune_facts, run_report
from backend.reconcile.loop import Reconciler
from backend.reconcile.plan import Plan
from backend.reconcile.state import BackboneState
from backend.review import review_project
from models.backbones.detector import Detector, DetectorSpec, load_detector
from models.detection.boxes import from_text
from models.detection.coco import BoxMetrics
from models.tasks.base import DETECTION
from tests.unit.backend.reconcile.boxes import SIDE, boxes_project
from tests.unit.backend.reconcile.rounds import reconciler_of, report, served, settings_of

CLASSES = ("red", "green", "blue")
#: Held out, by the ids that these pictures get, and enough others to learn from.
_AWAY = (7, 13, 31, 33, 38)
BLUE = (*_AWAY, *range(0, 36, 4))


@pytest.fixture(autouse=True)
def few_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(action, "usable_cores", lambda: 1)
    monkeypatch.setattr(finetune_children, "command", lambda run_dir: ["true"])
    yield
    torch.set_num_threads(threads)
    for child in finetune_children._children.values():
        child.kill()
        child.wait()
    finetune_children._children.clear()


class Boxes:
    """A project with a small given detector, and a fine-tune asked for."""

    def __init__(self, folder: Path, **changes: object) -> None:
        weights = folder / "given"
        spec = DetectorSpec(class_names=CLASSES, input_size=SIDE, width=8)
        load_detector(spec).save(weights)
        usual = {
            "data_dir": folder / "data",
            "label_studio_api_key": "not-a-token",
            "weights": str(weights),
            "detector_size_px": SIDE,
            "tail_classes": ("blue",),
            "finetune": "on",
            "finetune_device": "cpu",
            "finetune_layers": "all",
            "finetune_epochs": 6,
            "finetune_min_steps": 0,
            "finetune_learning_rate": 5e-3,
        }
        self.settings = settings_of(**{**usual, **changes})
        self.loop: Reconciler = reconciler_of(
            boxes_project(60, blue=BLUE, labeled=56), self.settings
        )
        (self.store,) = self.loop.discover()
        self.loop.round(self.store, reason="hint")

    @property
    def context(self) -> ProjectContext:
        return self.loop._context(self.store, 1)

    def begin(self) -> tuple[Finetune, FinetuneRun]:
        kept = Finetunes(self.store)
        if kept.current() is None:
            action.run(self.context, Plan("finetune", "a test asks for one"))
        run = kept.current()
        assert run is not None
        about = run.run
        assert about is not None
        return run, about


@pytest.fixture
def boxes(tmp_path: Path) -> Boxes:
    return Boxes(tmp_path)


def shown(what: object) -> str:
    text = StringIO()
    Console(file=text, width=160).print(what)
    return text.getvalue()


def test_what_is_trained_on_what(boxes: Boxes) -> None:
    _, about = boxes.begin()
    assert about.task == DETECTION
    assert about.classes == CLASSES
    assert about.tail == ("blue",)
    assert about.config.strategy == "repeat_factor"
    assert about.config.augmentation == "flip"
    assert (about.config.batch, about.config.clip) == (8, 5.0)
    assert len(about.labels) == 56
    assert any(not from_text(label) for label in about.labels.values()), "background counts too"
    assert set(about.held_out) < about.labels.keys()


def test_begun_carried_out_and_promoted(boxes: Boxes) -> None:
    before = boxes.store.read("backbone.json", BackboneState)
    assert before is not None
    run, about = boxes.begin()
    config = about.config.model_copy(update={"epochs": 20})
    about = about.model_copy(update={"seen": (), "config": config})
    (run.path / "run.json").write_text(about.model_dump_json())
    carry_out(run, about, boxes.store, boxes.settings)
    outcome = outcome_of(run)
    assert outcome is not None
    assert isinstance(outcome.verdict.after, BoxMetrics)
    assert outcome.verdict.promoted, outcome.verdict.reasons
    assert outcome.verdict.held_out_by_class["blue"] >= 5
    said = shown(verdict_table(outcome))
    for words in ("AP of the rare", "AP of blue (rare)", "mean AR", "boxes", "promoted: mean AP"):
        assert words in said
    promote.run(boxes.context, Plan("promote", "it has ended and is better"))
    record = Finetunes(boxes.store).all()[-1].record
    assert record.state == "promoted", record.reasons
    assert record.before is not None
    assert record.after is not None
    assert record.after > record.before
    after = boxes.store.read("backbone.json", BackboneState)
    assert after is not None
    assert (after.how, after.task, after.classes) == ("fine-tuned", DETECTION, CLASSES)
    assert isinstance(frozen_models.load(boxes.store, after.fingerprint), Detector)
    learned = frozen_models.trained_on(boxes.store, after)
    assert learned == about.labels.keys() - set(about.held_out)
    told = run_report(Finetunes(boxes.store).all()[-1])
    assert told.after == record.after
    found = review_project(boxes.settings, 1)
    assert all("[" not in doubt.label for doubt in found.labels)
    assert shown(review_table(found))


def test_a_dry_run_counts_boxes(boxes: Boxes) -> None:
    found = preview(boxes.settings, 1)
    assert found.strategy == "repeat_factor"
    labels = boxes.context.labels()
    counts = boxes.context.counts()
    assert {name: found.learned[name] + found.held_out[name] for name in CLASSES} == counts
    assert sum(counts.values()) != len(labels)
    assert "repeat_factor" in shown(preview_table(found))


def test_a_strategy_for_one_class_an_image_is_refused(boxes: Boxes) -> None:
    words = "m2m is for images of one class each, and this project's have boxes; expected one of"
    with pytest.raises(BackendError, match=words):
        preview(boxes.settings, 1, strategy="m2m")
    with pytest.raises(BackendError, match=words):
        ask_for_finetune(boxes.settings, 1, strategy="m2m")
    Finetunes(boxes.store).ask(Wish(what="start", strategy="smote"))
    facts = finetune_facts(boxes.context, boxes.context.labels())
    assert facts.unable.startswith("the strategy smote is for images of one class each")


def test_boxes_of_the_rare_are_what_is_counted(boxes: Boxes) -> None:
    facts = finetune_facts(boxes.context, boxes.context.labels())
    assert facts.tail == {"blue": boxes.context.counts()["blue"]}
    assert not facts.unable


def test_other_labels_end_the_run(boxes: Boxes) -> None:
    run, about = boxes.begin()
    other = about.model_copy(update={"task": "classification"})
    (run.path / "run.json").write_text(other.model_dump_json())
    facts = finetune_facts(boxes.context, boxes.context.labels())
    assert "the classes changed" in facts.over


def test_rounds_begin_promote_and_publish(tmp_path: Path) -> None:
    """With no command: due, carried out, promoted, embedded with, fitted on, published."""
    boxes = Boxes(
        tmp_path, finetune_every_labels=40, finetune_min_tail_labels=5, finetune_epochs=20
    )
    first = served(boxes.store)
    run = Finetunes(boxes.store).current()
    assert run is not None, report(boxes.store).why_not
    about = run.run
    assert about is not None
    assert about.why == "56 labels are new since the last fine-tune"
    carry_out(run, about, boxes.store, boxes.settings)
    boxes.store.hint("changed")
    assert boxes.loop.round(boxes.store, reason="hint")
    record = Finetunes(boxes.store).all()[-1].record
    assert record.state == "promoted", record.reasons
    assert served(boxes.store).version > first.version
    found = evaluate_project(boxes.settings, 1)
    assert found.task == DETECTION
    new = next(row for row in found.versions if row.active)
    assert isinstance(new.figures, BoxMetrics), new.why_not
    assert new.seen == 0
    assert new.missing == 0
    assert "blue" in shown(evaluation_tables(found))
