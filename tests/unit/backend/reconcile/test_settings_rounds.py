"""Rounds of a project with settings of its own: what a change does, once, and without a label."""

from __future__ import annotations

import base64
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from safetensors.numpy import load_file
from torchvision import models as zoo

from backend.errors import LabelStudioError, LabelStudioRefused, LabelStudioUnavailable
from backend.judging import Judge
from backend.project_settings import digest, kept
from backend.projects import ProjectStore
from models.errors import WeightsError
from models.registry import VersionRegistry
from tests.unit.backend.reconcile.fake_label_studio import CONFIG, FakeLabelStudio
from tests.unit.backend.reconcile.rounds import Start, report, run, served, squares, starter

#: A round after Label Studio told that the connection may have changed.
run_hinted = partial(run, hint="settings")


@pytest.fixture
def label_studio() -> FakeLabelStudio:
    """40 squares, 4 of them blue; 24 labeled, 2 of those blue."""
    return squares(40, blue=(3, 17, 30, 36), labeled=24)


@pytest.fixture
def start(tmp_path: Path, label_studio: FakeLabelStudio) -> Start:
    return starter(
        label_studio,
        tmp_path,
        top_k=12,
        fit_every_labels=1000,
        tail_min_labels=10_000,  # no tail: fits take no time
        tail_threshold=0.5,
    )


def ask_for(fake: FakeLabelStudio, extra_params: object) -> None:
    """A person writes extra params."""
    (row,) = fake.connection_rows
    fake.connection_rows = [row.model_copy(update={"extra_params": extra_params})]


def version(store: ProjectStore) -> str:
    return store.path("versions", "active").read_text().strip()


@pytest.mark.parametrize("extra", [{"top_k": 7}, '{"RAREFIRST_TOP_K": "7"}'])
def test_the_first_round_goes_by_the_projects_settings(
    start: Start, label_studio: FakeLabelStudio, extra: object
) -> None:
    ask_for(label_studio, extra)
    store = run_hinted(start())
    assert len(served(store).task_ids) == 7
    assert len(label_studio.imports) == 1


def test_settings_that_changed_publish_once_without_a_label(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run_hinted(reconciler)
    fitted = version(store)
    for extra, size in (({"top_k": 7}, 7), ({"top_k": 5, "control_share": 0.4}, 5), (None, 12)):
        ask_for(label_studio, extra)
        before = len(label_studio.imports)
        for _ in range(3):
            run_hinted(reconciler)
        assert len(served(store).task_ids) == size
        assert len(label_studio.imports) == before + 1
    assert version(store) == fitted
    assert not [line for line in report(store).problems if "extra params" in line]


def test_more_than_there_is_publishes_once(start: Start, label_studio: FakeLabelStudio) -> None:
    ask_for(label_studio, {"top_k": 5000})
    reconciler = start()
    for _ in range(3):
        store = run_hinted(reconciler)
    assert len(served(store).task_ids) == 16
    assert len(label_studio.imports) == 1


def test_settings_of_the_fit_lead_to_a_new_version_once(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run_hinted(reconciler)
    for extra in ({"scorer": "random"}, {"seed": 4}, {"tail_classes": "red"}, None):
        ask_for(label_studio, extra)
        before, imports = version(store), len(label_studio.imports)
        for _ in range(3):
            run_hinted(reconciler)
        assert int(version(store)[1:]) == int(before[1:]) + 1
        assert served(store).version == version(store)
        assert len(label_studio.imports) == imports + 1


def test_a_tail_of_the_projects_own(start: Start, label_studio: FakeLabelStudio) -> None:
    ask_for(label_studio, {"tail_classes": ["red", "pink"], "not_tail_classes": "blue"})
    store = run_hinted(start())
    assert served(store).tail == ("red",)
    (problem,) = [line for line in report(store).problems if "extra params" in line]
    assert "tail_classes names pink, which the label config does not hold" in problem


def test_a_version_that_does_not_say_what_it_was_made_with_stays(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run_hinted(reconciler)
    known = store.publications()
    old = served(store).model_copy(update={"settings": None})
    store.write("publication.json", known.model_copy(update={"published": old}))
    ask_for(label_studio, {"top_k": 7})
    run_hinted(reconciler)
    assert len(label_studio.imports) == 1


def test_a_service_that_is_started_with_other_settings_publishes_anew(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    run_hinted(start())
    store = run_hinted(start(top_k=9))
    assert len(served(store).task_ids) == 9
    assert len(label_studio.imports) == 2


def test_garbage_changes_nothing_and_is_told(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start()
    store = run_hinted(reconciler)
    for garbage in ("top_k=7", [1], 3, {"port": 1, "top_k": "many", "x": [[[]]]}):
        ask_for(label_studio, garbage)
        run_hinted(reconciler)
        own = kept(store)
        assert own is not None
        assert own.overrides == {}
        assert len(own.problems) == (3 if isinstance(garbage, dict) else 1)
    assert len(label_studio.imports) == 1
    assert version(store) == "v0001"


def test_connections_are_asked_for_when_somebody_hints_only(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    asked = label_studio.calls["connections"]
    for _ in range(3):
        run(reconciler)
    assert label_studio.calls["connections"] == asked
    run_hinted(reconciler)
    assert label_studio.calls["connections"] == asked + 1
    assert store.hint_mark("settings") is None


def test_of_two_connections_to_us_one_counts_and_neither_hints_for_ever(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    ask_for(label_studio, {"top_k": 7})
    label_studio.create_connection(1, "http://localhost:9090/", title="again")
    first, second = label_studio.connection_rows
    second = second.model_copy(update={"extra_params": {"top_k": 3}})
    label_studio.connection_rows = [first, second]
    store = run_hinted(start())
    assert len(served(store).task_ids) == 7
    own = kept(store)
    assert own is not None
    # What Label Studio tells of either in /setup is known.
    assert set(own.seen) == {digest({"top_k": 7}), digest({"top_k": 3})}


def test_settings_survive_a_restart_and_connections_that_cannot_be_asked_for(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    ask_for(label_studio, {"top_k": 7})
    run_hinted(start())
    reconciler = start()
    (store,) = reconciler.discover()

    def refuse(name: str) -> None:
        if name == "connections":
            raise LabelStudioRefused("no", status=403)

    label_studio.fail = refuse
    for task_id in label_studio.stream()[:5]:
        label_studio.annotate(task_id)
    store.hint("changed")
    assert reconciler.round(store, reason="hint")
    assert len(served(store).task_ids) == 7


def test_a_first_look_that_got_no_answer_is_made_before_anything_is_published(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    ask_for(label_studio, {"top_k": 7})
    reconciler = start()
    (store,) = reconciler.discover()
    away(label_studio, LabelStudioUnavailable("timed out"))
    for _ in range(2):
        assert reconciler.round(store, reason="hint")
        assert store.publications().published is None
    away(label_studio, None)
    run(reconciler)
    assert len(served(store).task_ids) == 7
    assert len(label_studio.imports) == 1


@pytest.mark.parametrize(
    "error", [LabelStudioUnavailable("timed out"), LabelStudioRefused("no", status=403)]
)
def test_a_look_that_failed_is_made_again_after_a_while_whatever_is_hinted(
    start: Start,
    label_studio: FakeLabelStudio,
    error: LabelStudioError,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(
        "backend.reconcile.settings_look.time", SimpleNamespace(monotonic=lambda: now)
    )
    reconciler = start(timer_s=30.0)
    store = run_hinted(reconciler)
    ask_for(label_studio, {"top_k": 7})
    asked = away(label_studio, error)
    for _ in range(3):
        store.hint("settings")
        assert reconciler.round(store, reason="hint")
    assert len(asked) == 1
    assert len(served(store).task_ids) == 12
    asked = away(label_studio, None)
    now += 29.0
    run(reconciler)
    assert not asked
    now += 2.0
    run(reconciler)
    assert len(asked) == 1
    assert len(served(store).task_ids) == 7
    run(reconciler)
    assert len(asked) == 1


def away(fake: FakeLabelStudio, error: LabelStudioError | None) -> list[str]:
    """Connections cannot be asked for from now on, or can; returns the times they are."""
    asked: list[str] = []

    def fail(name: str) -> None:
        if name == "connections":
            asked.append(name)
            if error is not None:
                raise error

    fake.fail = fail
    return asked


def test_a_frozen_model_that_cannot_be_had_leaves_the_one_that_is_there(
    start: Start, label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler = start()
    store = run_hinted(reconciler)
    tries: list[object] = []

    def refuse(*arguments: object, **named: object) -> None:
        tries.append(arguments)
        raise WeightsError("the published weights of resnet18 could not be downloaded")

    monkeypatch.setattr("models.tasks.classification_models.load_backbone", refuse)
    ask_for(label_studio, {"backbone": "resnet18", "weights": "DEFAULT"})
    for _ in range(3):
        run_hinted(reconciler)
    assert len(tries) == 1
    (line,) = [line for line in report(store).why_not if "resnet18" in line]
    assert "loading resnet18 failed and is tried again later" in line
    # Labels still lead to a new order.
    ask_for(label_studio, {"backbone": "resnet18", "weights": "DEFAULT", "fit_every_labels": 2})
    for task_id in label_studio.stream()[:3]:
        label_studio.annotate(task_id)
    run_hinted(reconciler)
    assert version(store) == "v0002"
    card = VersionRegistry(store.path("versions")).load("v0002").card
    about = card.config["frozen_model"]
    assert isinstance(about, dict)
    assert (about["architecture"], about["weights"]) == ("cnn4", "none"), "what it was fitted on"
    ask_for(label_studio, None)
    run_hinted(reconciler)
    assert not [line for line in report(store).why_not if "resnet18" in line]


def with_choices(attributes: str, *, inside: str = "") -> str:
    """The label config with further attributes."""
    config = CONFIG.replace('<Choices name="kind"', f'<Choices name="kind" {attributes}')
    return config.replace('<Choice value="red"/>', inside or '<Choice value="red"/>')


def change_config(fake: FakeLabelStudio, config: str, store: ProjectStore) -> None:
    fake.settings["label_config"] = config
    store.hint("changed")


def test_only_sure_tasks_carry_a_choice(start: Start, label_studio: FakeLabelStudio) -> None:
    ask_for(label_studio, {"preannotate": True})
    reconciler = start()
    store = run_hinted(reconciler)
    scores = store.published_scores(served(store).name)
    assert scores is not None
    sure = {i: float(scores.confidence[cast(int, scores.row(i))]) for i in served(store).task_ids}
    assert set(label_studio.choices) == set(sure)
    threshold = sorted(sure.values())[len(sure) // 2]
    tasks_read = label_studio.calls["task_ids"]

    change_config(label_studio, with_choices(f'model_score_threshold="{threshold}"'), store)
    for _ in range(3):
        run(reconciler)
    assert len(label_studio.imports) == 2
    assert version(store) == "v0001"
    # The mirror is not read again for it.
    assert label_studio.calls["task_ids"] == tasks_read
    wanted = {i for i, confidence in sure.items() if confidence >= threshold}
    assert {i for i in sure if i in label_studio.choices} == wanted
    assert 0 < len(wanted) < len(sure)

    change_config(label_studio, with_choices('model_score_threshold="half"'), store)
    run(reconciler)
    assert set(label_studio.choices) == set(sure)
    assert "expected a number from 0 to 1" in report(store).problems[-1]


def test_a_threshold_without_pre_annotations_changes_nothing(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run_hinted(reconciler)
    change_config(label_studio, with_choices('model_score_threshold="0.5"'), store)
    run(reconciler)
    assert len(label_studio.imports) == 1
    assert label_studio.choices == {}


def test_predicted_values_lead_to_a_new_version_once(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run_hinted(reconciler)
    inside = '<Choice value="red" predicted_values="strawberry"/>'
    change_config(label_studio, with_choices("", inside=inside), store)
    for _ in range(3):
        run(reconciler)
    assert version(store) == "v0002"


def test_a_config_whose_blocks_are_all_skipped_is_refused(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run_hinted(reconciler)
    change_config(label_studio, with_choices('model_skip="true"'), store)
    run(reconciler)
    assert "kind: model_skip is set" in report(store).next
    change_config(label_studio, CONFIG, store)
    run(reconciler)
    assert len(label_studio.imports) == 1


def test_a_published_head_predicts_where_the_config_says_what_it_means(
    start: Start, label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = zoo.get_model

    def without_download(name: str, **arguments: object) -> object:
        arguments["weights"] = None
        return real(name, **arguments)

    monkeypatch.setattr(zoo, "get_model", without_download)
    ask_for(label_studio, {"preannotate": True})
    reconciler = start(backbone="resnet18", weights="DEFAULT", top_k=8)
    store = run_hinted(reconciler)

    def lines() -> list[str]:
        return [line for line in report(store).problems if "predicted_values" in line]

    def head() -> set[str]:
        with np.load(store.path("publications", served(store).name, "scores.npz")) as arrays:
            assert arrays["confidence"].all()
        folder = store.path("versions", version(store), "miner.safetensors")
        return {name for name in load_file(folder) if name.startswith("head.")}

    # Nothing is called red: a plain head is fitted on the labels, and nobody asked for another.
    assert (head(), lines()) == ({"head.weight", "head.bias"}, [])
    inside = '<Choice value="red" predicted_values="strawberry,tomatoe"/>'
    change_config(label_studio, with_choices("", inside=inside), store)
    run(reconciler)
    assert version(store) == "v0002"
    assert head() == {"head.weight", "head.bias"}
    assert "knows no class 'tomatoe'" in lines()[0]
    assert "no class of the frozen model stands for green, blue" in lines()[1]

    config = with_choices("", inside='<Choice value="red" predicted_values="strawberry,jeep"/>')
    for color, names in (("green", "cucumber, Granny_Smith"), ("blue", "lakeside")):
        config = config.replace(
            f'<Choice value="{color}"/>', f'<Choice value="{color}" predicted_values="{names}"/>'
        )
    change_config(label_studio, config, store)
    for _ in range(2):
        run(reconciler)
    assert version(store) == "v0003"
    assert lines() == []
    assert head() == {"head.weight", "head.bias", "head.label"}
    # The web process judges by the same head as the loop.
    scores, judge = store.published_scores(served(store).name), Judge.load(store, "v0003")
    assert scores is not None
    chosen = served(store).task_ids[:3]
    uris = {i: str(label_studio.task_rows[i].data["image"]) for i in chosen}
    judged = judge.judge(
        chosen,
        lambda i: base64.b64decode(uris[i].partition(",")[2]),
        max_pixels=10_000,
        batch=2,
        threads=1,
    ).judgement
    assert judged is not None
    for task_id, predicted, confidence in zip(
        judged.ids, judged.predicted, judged.confidence, strict=True
    ):
        row = scores.row(int(task_id))
        assert row is not None
        assert scores.predicted[row] == predicted
        assert scores.confidence[row] == pytest.approx(confidence, abs=1e-3)
