"""Whole rounds of a project of drawn boxes: its detector, its versions, what is published."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from backend.compare_versions import compare_versions
from backend.errors import VersionRefused
from backend.judging import Judge
from backend.pinning import pinned, released
from backend.projects import ProjectStore
from backend.reconcile import frozen_models
from backend.reconcile.actions.bootstrap import BootstrapRun
from backend.reconcile.loop import Reconciler
from backend.reconcile.state import BackboneState, SyncState, snapshot_of
from backend.served_queue import served_queue
from backend.versions import activate_version, show_version
from models.backbones.detector import Detector, DetectorSpec, load_detector
from models.registry import VersionRegistry
from models.tasks.base import CLASSIFICATION, DETECTION
from tests.unit.backend.reconcile.boxes import (
    BOXES,
    SIDE,
    BoxesLabelStudio,
    boxes_project,
    boxes_starter,
    picture_of,
)
from tests.unit.backend.reconcile.fake_label_studio import CONFIG
from tests.unit.backend.reconcile.rounds import Start, report, run, served

CLASSES = ("red", "green", "blue")


@pytest.fixture
def label_studio() -> BoxesLabelStudio:
    """40 pictures, 3 of them with a blue square; 24 labeled, one of those blue."""
    return boxes_project(40, blue=(5, 26, 34), labeled=24)


@pytest.fixture
def start(tmp_path: Path, label_studio: BoxesLabelStudio) -> Start:
    return boxes_starter(label_studio, tmp_path)


def state_of(store: ProjectStore) -> BackboneState:
    found = store.read("backbone.json", BackboneState)
    assert found is not None
    return found


def test_a_first_round_publishes_an_order(start: Start, label_studio: BoxesLabelStudio) -> None:
    store = run(start())
    queue = served(store)
    assert label_studio.stream() == list(queue.task_ids)
    assert len(queue.task_ids) == 12
    sync = store.read("sync.json", SyncState)
    assert sync is not None
    assert sync.task == DETECTION
    state = state_of(store)
    assert (state.how, state.task) == ("untrained", DETECTION)
    assert state.source == "cnn4|none|64 px, 10 boxes"
    detector = frozen_models.load(store, state.fingerprint)
    assert isinstance(detector, Detector)
    assert detector.class_names == CLASSES
    version = VersionRegistry(store.path("versions")).active()
    assert version is not None
    snapshot = snapshot_of(version)
    assert snapshot.task == DETECTION
    assert len(snapshot.ids) == 24, "pictures without a box are labels too"
    assert version.card.config["frozen_model"] == {
        "architecture": "cnn4",
        "weights": "none",
        "how": "untrained",
        "labels": 0,
    }
    detail = show_version(start().settings, 1, version.name)
    assert detail.labels_by_class["blue"] == 1
    assert label_studio.shown[queue.task_ids[0]] == [], "nothing is shown that nobody asked for"
    scores = store.published_scores(queue.name)
    assert scores is not None
    assert scores.boxes is None


def test_boxes_are_shown_where_the_settings_ask_for_them(
    start: Start, label_studio: BoxesLabelStudio
) -> None:
    label_studio.settings["label_config"] = BOXES.replace(
        "<RectangleLabels ", '<RectangleLabels model_score_threshold="0" '
    )
    store = run(start(preannotate=True))
    scores = store.published_scores(served(store).name)
    assert scores is not None
    assert scores.boxes is not None
    assert scores.boxes.shape == (40, scores.boxes.shape[1], 6)
    sure = scores.boxes[..., 5]
    assert ((sure >= 0) & (sure <= 1)).all()
    for regions in label_studio.shown.values():
        for region in regions:
            assert (region["from_name"], region["type"]) == ("box", "rectanglelabels")


def test_a_second_round_has_nothing_to_do(start: Start, label_studio: BoxesLabelStudio) -> None:
    reconciler = start()
    store = run(reconciler)
    before = store.publications()
    run(reconciler, reason="timer")
    assert store.publications() == before
    assert len(label_studio.imports) == 1


def test_a_detector_is_trained_on_the_boxes(start: Start, label_studio: BoxesLabelStudio) -> None:
    reconciler = start(bootstrap_min_labels=20, detector_steps=3)
    store = run(reconciler)
    state = state_of(store)
    assert (state.how, state.labels, state.task) == ("bootstrapped", 24, DETECTION)
    assert state.classes == CLASSES
    assert len(frozen_models.trained_on(store, state) or ()) == 24
    assert not list(store.path("runs").iterdir())
    assert served(store).version == "v0001"
    assert any("trained again at 48" in words for words in report(store).why_not)


def test_the_child_is_told_all_that_it_needs(
    start: Start, label_studio: BoxesLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BootstrapRun] = []

    class Child:
        returncode = 3

        def __init__(self, command: Sequence[str], **_: object) -> None:
            path = Path(command[command.index("bootstrap") + 1]) / "run.json"
            seen.append(BootstrapRun.model_validate_json(path.read_bytes()))

        def poll(self) -> int:
            return self.returncode

    monkeypatch.setattr("backend.reconcile.actions.bootstrap.subprocess.Popen", Child)
    store = run(start(bootstrap_min_labels=20, detector_steps=7, top_detections=5))
    (about,) = seen
    assert (about.task, about.steps, about.input_size, about.detections) == (DETECTION, 7, 64, 5)
    assert (about.architecture, about.weights, about.classes) == ("cnn4", "none", CLASSES)
    assert sum(text == "[]" for text in about.labels.values()) == 6
    assert served(store), "a queue is there all the same"
    assert any("training a first model failed" in words for words in report(store).why_not)


def test_pictures_without_a_box_train_nothing(tmp_path: Path) -> None:
    fake = boxes_project(12, blue=(), labeled=0)
    for _ in range(6):
        fake.annotate(fake.add_boxes())
    store = run(boxes_starter(fake, tmp_path)(bootstrap_min_labels=5))
    assert state_of(store).how == "untrained"
    assert "a first model needs a labeled box, no labeled image has one" in report(store).why_not


def test_another_size_is_another_detector(start: Start, label_studio: BoxesLabelStudio) -> None:
    store = run(start())
    first = state_of(store).fingerprint
    run(start(detector_size_px=96))
    state = state_of(store)
    assert state.fingerprint != first
    assert state.source == "cnn4|none|96 px, 10 boxes"


def test_predicted_values_are_said_to_mean_nothing(
    start: Start, label_studio: BoxesLabelStudio
) -> None:
    label_studio.settings["label_config"] = BOXES.replace(
        '<Label value="red"', '<Label predicted_values="brick" value="red"'
    )
    store = run(start())
    assert any(
        "predicted_values are not used: a detector" in said for said in report(store).problems
    )


# The label config changes its kind ------------------------------------------------------------


@pytest.fixture
def choices(label_studio: BoxesLabelStudio) -> Callable[[], None]:
    """Makes it a config of choices, in which nothing is labeled."""

    def change() -> None:
        label_studio.settings["label_config"] = CONFIG

    return change


def test_a_changed_kind_gets_another_model_and_order(
    start: Start, label_studio: BoxesLabelStudio, choices: Callable[[], None]
) -> None:
    reconciler = start()
    store = run(reconciler)
    boxes, first = state_of(store), served(store)
    choices()
    run(reconciler, hint="changed")
    classes, second = state_of(store), served(store)
    assert classes.task == CLASSIFICATION
    assert classes.source == "cnn4|none|"
    assert (second.version, second.labels) == ("v0002", 0)
    assert second.name != first.name
    label_studio.settings["label_config"] = BOXES
    run(reconciler, hint="changed")
    assert state_of(store).task == DETECTION
    assert state_of(store).fingerprint == boxes.fingerprint
    assert (served(store).version, served(store).labels) == ("v0003", 24)


def test_a_version_of_the_other_kind_is_not_servable(
    start: Start, label_studio: BoxesLabelStudio, choices: Callable[[], None]
) -> None:
    reconciler = start()
    store = run(reconciler)
    activate_version(reconciler.settings, 1, "v0001")
    choices()
    run(reconciler, hint="changed")
    assert pinned(store) is None
    said = "version v0001 is for detection, the label config asks for classification"
    assert said in released(store)
    assert served(store).version == "v0002"
    with pytest.raises(VersionRefused, match=said):
        activate_version(reconciler.settings, 1, "v0001")


def test_a_model_of_the_other_kind_never_stands_in(
    start: Start, label_studio: BoxesLabelStudio, choices: Callable[[], None], tmp_path: Path
) -> None:
    """Where the new one cannot be had the old queue stays, and the reason is said."""
    store = run(start())
    queue = served(store)
    choices()
    loop: Reconciler = start(backbone="resnet18", weights=str(tmp_path / "gone.pt"))
    run(loop, hint="changed")
    assert state_of(store).task == DETECTION
    assert served(store) == queue
    assert any("found no file" in words for words in report(store).problems)


def test_a_given_detector_is_kept_as_it_is(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    given = load_detector(DetectorSpec(class_names=CLASSES, input_size=SIDE, seed=5))
    given.save(folder)
    store = run(start(weights=str(folder), bootstrap_min_labels=20))
    state = state_of(store)
    assert (state.how, state.fingerprint, state.classes) == ("given", given.fingerprint, CLASSES)
    assert not store.path("runs").exists()


def test_published_weights_are_a_trunks_and_the_rest_is_trained(start: Start) -> None:
    few = run(start(backbone="efficientnet_lite0", weights="DEFAULT"))
    assert (state_of(few).how, state_of(few).labels) == ("pretrained", 0)
    why = report(few).why_not
    assert any("a first model is trained at 10000 labels" in words for words in why)


@pytest.mark.parametrize(("scorer", "said"), [("galaxy", True), ("paper_max", False)])
def test_a_scorer_of_another_kind_costs_no_queue(start: Start, scorer: str, said: bool) -> None:
    store = run(start(scorer=scorer))
    assert served(store).task_ids
    sentence = f"scorer {scorer} is for another kind of labels, these are ordered by rarefirst"
    assert any(sentence in problem for problem in report(store).problems) is said


def test_classes_come_and_go(start: Start, label_studio: BoxesLabelStudio) -> None:
    """The detector knows the classes of before; labels and orders go by names."""
    reconciler = start()
    store = run(reconciler)
    fingerprint = state_of(store).fingerprint
    label_studio.settings["label_config"] = BOXES.replace(
        '<Label value="red"/>', '<Label value="black"/>'
    )
    run(reconciler, hint="changed")
    assert state_of(store).fingerprint == fingerprint
    version = VersionRegistry(store.path("versions")).load(served(store).version)
    assert version.card.classes == ("black", "green", "blue")
    assert set(report(store).labels_by_class) >= {"green", "blue"}
    assert len(served(store).task_ids) == 12


def test_two_versions_side_by_side(start: Start, label_studio: BoxesLabelStudio) -> None:
    reconciler = start(fit_every_labels=2)
    store = run(reconciler)
    for task_id in label_studio.stream()[:2]:
        label_studio.annotate(task_id)
    store.hint("changed")
    run(reconciler)
    found = compare_versions(reconciler.settings, 1, "v0001", "v0002")
    assert found.order.why_not == ""
    assert found.order.tasks == 14
    assert (found.labels.same, sum(found.labels.added.values())) == (24, 2)
    assert all("[" not in words for words in found.labels.added), "in words, not as they are kept"
    queue = served_queue(reconciler.settings, 1, limit=3)
    assert [entry.task for entry in queue.tasks] == label_studio.stream()[:3]
    assert all(entry.reason for entry in queue.tasks)


def test_a_published_version_judges_what_comes_in(
    start: Start, label_studio: BoxesLabelStudio
) -> None:
    store = run(start())
    judge = Judge.load(store, served(store).version)
    uri = picture_of((("red", 10, 20, 30, 60),), seed=1)
    data = base64.b64decode(uri.partition(",")[2])
    judged = judge.judge([7], lambda _: data, max_pixels=10_000, batch=16, threads=1)
    assert judged.failures == {}
    assert judged.judgement is not None
    assert judged.judgement.boxes is not None
    assert judged.judgement.boxes.shape == (1, 10, 6)
