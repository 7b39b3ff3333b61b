"""The policy as a table: one line a situation, and what is done in it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backend.reconcile.plan import plan
from backend.reconcile.state import (
    BackboneState,
    FinetuneFacts,
    FitFacts,
    PinFacts,
    QueueFacts,
    State,
)
from backend.settings import Settings

SETTINGS = Settings(fit_every_labels=10, fit_idle_s=20, top_up_below=0.34)
TRAINED = BackboneState(fingerprint="f" * 64, how="bootstrapped", labels=160)
UNTRAINED = BackboneState(fingerprint="0" * 64, how="untrained")
FIT = FitFacts("v0002", labels_differing=0, same_backbone=True, same_classes=True)
QUEUE = QueueFacts(version="v0002", size=300, left=300, embedded=1560)
PINNED = PinFacts("v0002", in_place=True)
DONE = State(
    usable_labels=160,
    labels_changed_ago_s=3.0,
    backbone=TRAINED,
    embedded_pool=1400,
    embedded=1560,
    pool=1400,
    fit=FIT,
    queue=QUEUE,
)


DUE = FinetuneFacts(enabled=True, new_labels=100, tail={"blue": 10}, unseen={"blue": 5})
RUNS = FinetuneFacts(enabled=True, number=3, running=True, tail={"blue": 10})
TUNED = BackboneState(fingerprint="f" * 64, how="fine-tuned", labels=160)


def due(**changes: object) -> dict[str, object]:
    return {"finetune": replace(DUE, **changes)}


def runs(**changes: object) -> dict[str, object]:
    return {"finetune": replace(RUNS, **changes)}


def fit(**changes: object) -> FitFacts:
    return replace(FIT, **changes)


def queue(**changes: object) -> QueueFacts:
    return replace(QUEUE, **changes)


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        pytest.param({}, None, id="nothing-to-do"),
        pytest.param({"paused": True, "synced": False}, None, id="paused-before-all"),
        pytest.param({"synced": False, "candidate": True}, "sync", id="look-first"),
        pytest.param({"completed": False}, "connect", id="connected-by-hand"),
        pytest.param({"config_error": "no image"}, None, id="config-not-served"),
        pytest.param({"backbone": None}, "bootstrap", id="no-frozen-model"),
        pytest.param({"backbone_wanted": True}, "bootstrap", id="another-frozen-model-wanted"),
        pytest.param(
            {"backbone_wanted": True, "bootstrap_blocked": "failed"},
            None,
            id="another-frozen-model-cannot-be-had",
        ),
        pytest.param({"fit": fit(settings_changed=("seed",))}, "fit", id="settings-of-the-fit"),
        pytest.param(
            {"fit": fit(settings_changed=("seed",)), "pin": PINNED},
            None,
            id="settings-of-the-fit-of-a-pinned-version",
        ),
        pytest.param(
            {"queue": queue(settings_changed=("top_k",))}, "publish", id="settings-of-the-queue"
        ),
        pytest.param(
            {"queue": queue(settings_changed=("top_k",)), "pin": PINNED},
            "publish",
            id="settings-of-the-queue-of-a-pinned-version",
        ),
        pytest.param(
            {"queue": queue(settings_changed=("top_k",)), "may_switch": False},
            None,
            id="settings-of-the-queue-but-not-ours",
        ),
        pytest.param({"backbone": UNTRAINED}, "bootstrap", id="enough-labels-to-train"),
        pytest.param(
            {"backbone": UNTRAINED, "usable_labels": 39}, None, id="too-few-labels-to-train"
        ),
        pytest.param(
            {"backbone": UNTRAINED, "too_alike": "all are of one"},
            None,
            id="one-class-trains-nothing",
        ),
        pytest.param(
            {"backbone": UNTRAINED, "bootstrap_blocked": "failed"}, None, id="training-failed"
        ),
        pytest.param({"backbone": UNTRAINED, "trainable": False}, None, id="model-was-given"),
        pytest.param({"usable_labels": 319}, None, id="labels-not-doubled"),
        pytest.param({"usable_labels": 320}, "bootstrap", id="labels-doubled"),
        pytest.param(
            {"usable_labels": 320, "trainable": False}, None, id="given-model-is-kept-as-it-is"
        ),
        pytest.param({"missing_labeled": 3, "fit": None}, "embed", id="labeled-images-first"),
        pytest.param(
            {"missing_pool": 1000, "embedded_pool": 400, "queue": None, "fit": None},
            "embed",
            id="not-enough-for-a-first-queue",
        ),
        pytest.param(
            {"missing_pool": 2000, "embedded_pool": 10, "fit": fit(labels_differing=10)},
            "fit",
            id="labels-before-new-images-while-a-queue-is-served",
        ),
        pytest.param({"retries": 4, "fit": fit(labels_differing=10)}, "fit", id="retries-wait"),
        pytest.param({"retries": 4}, "embed", id="retries-last"),
        pytest.param({"fit": None, "queue": None}, "fit", id="first-fit"),
        pytest.param({"fit": fit(labels_differing=9)}, None, id="too-few-new-labels"),
        pytest.param({"fit": fit(labels_differing=10)}, "fit", id="enough-new-labels"),
        pytest.param(
            {"fit": fit(labels_differing=1), "labels_changed_ago_s": 20.0},
            "fit",
            id="few-new-labels-but-quiet",
        ),
        pytest.param({"labels_changed_ago_s": 999.0}, None, id="quiet-and-nothing-new"),
        pytest.param({"force_fit": True}, "fit", id="start-training"),
        pytest.param({"fit": fit(same_backbone=False)}, "fit", id="another-frozen-model"),
        pytest.param({"fit": fit(same_classes=False)}, "fit", id="another-label-config"),
        pytest.param(
            {"fit": None, "embedded": 0, "queue": None, "embedded_pool": 0},
            None,
            id="nothing-embedded",
        ),
        pytest.param({"queue": None}, "publish", id="first-publication"),
        pytest.param({"queue": queue(version="v0001")}, "publish", id="newer-version"),
        pytest.param(
            {"queue": queue(version="v0001"), "may_switch": False, "owner": "'other'"},
            None,
            id="model-version-is-somebody-elses",
        ),
        pytest.param({"candidate": True}, "publish", id="killed-while-publishing"),
        pytest.param({"lost": True}, "publish", id="scores-deleted-in-label-studio"),
        pytest.param({"queue": queue(left=103)}, None, id="queue-long-enough"),
        pytest.param({"queue": queue(left=101)}, "publish", id="top-up"),
        pytest.param(
            {"queue": queue(left=20), "embedded_pool": 20, "pool": 20}, None, id="nothing-to-top-up"
        ),
        pytest.param({"embedded_pool": 0, "pool": 0, "queue": None}, None, id="all-labeled"),
        pytest.param({"queue": queue(embedded=1559)}, "publish", id="new-images-all-embedded"),
        pytest.param(
            {"queue": queue(embedded=1559), "missing_pool": 99}, "embed", id="new-images-to-come"
        ),
        pytest.param(
            {"queue": queue(embedded=780), "missing_pool": 99}, "publish", id="embedded-doubled"
        ),
        pytest.param({"missing_pool": 5}, "embed", id="rest-of-the-pool"),
        pytest.param({"leftovers": 1}, "cleanup", id="old-scores-last"),
        pytest.param(
            {"leftovers": 1, "fit": fit(labels_differing=10)}, "fit", id="labels-before-old-scores"
        ),
        pytest.param(
            {"pin": PinFacts("v0001", in_place=False)}, "activate", id="activated-by-a-person"
        ),
        pytest.param(
            {"pin": PinFacts("v0001", in_place=False), "fit": None, "backbone": None},
            "activate",
            id="activated-and-nothing-else-there",
        ),
        pytest.param(
            {"pin": PINNED, "fit": fit(labels_differing=99)}, None, id="pinned-fits-nothing"
        ),
        pytest.param(
            {"pin": PINNED, "usable_labels": 320}, None, id="pinned-trains-no-frozen-model"
        ),
        pytest.param(
            {"pin": PINNED, "backbone_wanted": True}, None, id="pinned-keeps-its-frozen-model"
        ),
        pytest.param(
            {"pin": PINNED, "queue": queue(version="v0009")}, "publish", id="pinned-is-published"
        ),
        pytest.param({"pin": PINNED, "queue": queue(left=101)}, "publish", id="pinned-top-up"),
        pytest.param({"pin": PINNED, "missing_pool": 5}, "embed", id="pinned-embeds"),
        pytest.param(
            {"pin": PINNED, "missing_pool": 5, "pool": 1405, "queue": queue(version="v0009")},
            "embed",
            id="newer-tasks-before-an-older-version-is-published",
        ),
        pytest.param(
            {
                "pin": PINNED,
                "missing_pool": 500,
                "pool": 3500,
                "embedded_pool": 3000,
                "queue": queue(version="v0009"),
            },
            "publish",
            id="enough-of-them-are-embedded",
        ),
        pytest.param({"pin": PINNED, "leftovers": 1}, "cleanup", id="pinned-cleans-up"),
        pytest.param({"pin": PINNED, "force_fit": True}, "fit", id="start-training-ends-the-pin"),
        pytest.param(
            {"pin": PinFacts("v0001", in_place=False), "force_fit": True},
            "fit",
            id="start-training-after-activating",
        ),
        pytest.param({"pin": PINNED, "paused": True}, None, id="paused-and-pinned"),
        pytest.param(due(), "finetune", id="finetune-due"),
        pytest.param(due(enabled=False), None, id="finetune-off"),
        pytest.param(due(new_labels=99), None, id="finetune-too-few-new-labels"),
        pytest.param(due(tail={"blue": 9}), None, id="finetune-too-few-of-the-tail"),
        pytest.param(due(tail={"blue": 10, "pink": 0}), "finetune", id="finetune-without-a-class"),
        pytest.param(due(tail={"pink": 0}), None, id="finetune-no-label-of-the-tail"),
        pytest.param(due(unseen={"blue": 4}), None, id="finetune-that-nothing-could-judge"),
        pytest.param(
            due(unseen={}, wish="start"), "finetune", id="finetune-asked-for-is-not-refused-by-that"
        ),
        pytest.param(due(tail={}), None, id="finetune-no-tail"),
        pytest.param(due(quiet="8-18"), None, id="finetune-quiet-hours"),
        pytest.param(due(spent="all of today"), None, id="finetune-budget-spent"),
        pytest.param(due(busy="another runs"), None, id="finetune-device-taken"),
        pytest.param(due(unable="no such strategy"), None, id="finetune-cannot-be"),
        pytest.param(due() | {"backbone": None}, "bootstrap", id="finetune-no-frozen-model"),
        pytest.param(
            due() | {"backbone": UNTRAINED, "trainable": False}, None, id="finetune-untrained"
        ),
        pytest.param(due() | {"pin": PINNED}, None, id="finetune-not-begun-while-pinned"),
        pytest.param(due(wish="start", enabled=False), "finetune", id="finetune-asked"),
        pytest.param(
            due(wish="start", new_labels=0, tail={}, quiet="8-18", spent="all"),
            "finetune",
            id="finetune-asked-before-its-time",
        ),
        pytest.param(due(wish="start", busy="another"), None, id="finetune-asked-device-taken"),
        pytest.param(due(wish="start") | {"pin": PINNED}, "finetune", id="finetune-asked-pinned"),
        pytest.param(due(wish="cancel"), "promote", id="finetune-nothing-to-cancel"),
        pytest.param(due() | {"paused": True}, None, id="finetune-paused"),
        pytest.param(due() | {"fit": fit(labels_differing=10)}, "fit", id="fit-before-a-finetune"),
        pytest.param(due() | {"queue": None}, "publish", id="publish-before-a-finetune"),
        pytest.param(due() | {"missing_pool": 5}, "finetune", id="finetune-before-idle-work"),
        pytest.param(runs(), None, id="finetune-runs"),
        pytest.param(
            runs() | {"fit": fit(labels_differing=10)}, "fit", id="fit-while-a-finetune-runs"
        ),
        pytest.param(runs() | {"leftovers": 1}, "cleanup", id="cleanup-while-a-finetune-runs"),
        pytest.param(
            runs() | {"usable_labels": 320}, None, id="no-training-anew-while-a-finetune-runs"
        ),
        pytest.param(
            runs(running=False, blocked="later") | {"usable_labels": 320},
            None,
            id="no-training-anew-while-a-finetune-rests",
        ),
        pytest.param(
            runs() | {"backbone_wanted": True},
            "bootstrap",
            id="another-frozen-model-while-a-finetune-runs",
        ),
        pytest.param(runs(running=False), "finetune", id="finetune-resumes"),
        pytest.param(
            runs(running=False, quiet="8-18", spent="all", enabled=False),
            "finetune",
            id="finetune-resumes-at-any-hour",
        ),
        pytest.param(runs(running=False, blocked="later"), None, id="finetune-failed-just-now"),
        pytest.param(runs(running=False, busy="another"), None, id="finetune-resumes-later"),
        pytest.param(runs(running=False, died="killed"), "finetune", id="finetune-death-is-noted"),
        pytest.param(runs(running=False) | {"pin": PINNED}, "finetune", id="resumes-while-pinned"),
        pytest.param(
            runs(running=False, over="ended", promotes=True), "promote", id="finetune-is-better"
        ),
        pytest.param(
            runs(running=False, over="ended", promotes=True) | {"pin": PINNED},
            None,
            id="finetune-is-better-but-a-version-is-pinned",
        ),
        pytest.param(
            runs(running=False, over="ended") | {"pin": PINNED},
            "promote",
            id="finetune-is-no-better-while-pinned",
        ),
        pytest.param(
            runs(over="ended", promotes=True) | {"fit": fit(labels_differing=10)},
            "promote",
            id="promote-before-a-fit",
        ),
        pytest.param(runs(wish="cancel"), "promote", id="finetune-cancelled"),
        pytest.param(
            runs(wish="cancel") | {"config_error": "multiple choice"},
            "promote",
            id="finetune-cancelled-under-a-config-that-cannot-be-served",
        ),
        pytest.param(
            runs(running=False) | {"usable_labels": 320},
            "finetune",
            id="after-the-worker-died-it-goes-on-and-no-model-is-trained-anew",
        ),
        pytest.param(
            due(new_labels=0) | {"backbone": TUNED, "usable_labels": 320},
            None,
            id="a-fine-tuned-model-is-not-trained-anew",
        ),
        pytest.param(
            {"backbone": TUNED, "usable_labels": 320},
            "bootstrap",
            id="a-fine-tuned-model-is-trained-anew-once-that-is-off",
        ),
    ],
)
def test_next_step(changes: dict[str, object], step: str | None) -> None:
    assert plan(replace(DONE, **changes), SETTINGS).step == step


def test_labeled_images_are_embedded_before_the_pool() -> None:
    assert plan(replace(DONE, missing_labeled=1, missing_pool=9), SETTINGS).which == "labeled"
    assert plan(replace(DONE, missing_pool=9), SETTINGS).which == "pool"


def test_says_why_not_yet() -> None:
    state = replace(DONE, fit=fit(labels_differing=4), may_switch=False, owner="'other'")
    waiting = " | ".join(plan(state, SETTINGS).waiting)
    assert "at 10 new labels, there are 4 (or 20 s after the last)" in waiting
    assert "trained again at 320 labels, there are 160" in waiting
    assert "model version is 'other'" in waiting


def test_paused_says_how_to_go_on() -> None:
    assert "rarefirst resume" in plan(State(paused=True), SETTINGS).why


def test_pinned_says_what_ends_it() -> None:
    state = replace(DONE, pin=PINNED, backbone_wanted=True, fit=fit(labels_differing=99))
    (words,) = plan(state, SETTINGS).waiting
    assert "a person activated v0002" in words
    assert "another frozen model" in words
    assert "rarefirst versions follow" in words


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (DUE, ""),
        (replace(DUE, new_labels=7), "at 100 new labels, there are 7"),
        (replace(DUE, tail={"blue": 4, "red": 10}), "10 labels of each rare class: blue has 4"),
        (replace(DUE, tail={"blue": 10, "pink": 0}), "goes without pink"),
        (replace(DUE, unseen={"blue": 2}), "was not trained on, to be judged by: blue has 2"),
        (replace(DUE, quiet="none is begun in the hours 8-18"), "hours 8-18"),
        (replace(RUNS, running=False, blocked="failed: no memory"), "failed: no memory"),
        (replace(DUE, wish="start", busy="another runs on cpu"), "another runs on cpu"),
    ],
)
def test_why_there_is_no_fine_tune_yet(facts: FinetuneFacts, said: str) -> None:
    waiting = plan(replace(DONE, finetune=facts), SETTINGS).waiting
    assert any(said in reason for reason in waiting)


def test_a_better_network_waits_for_the_pinned_version() -> None:
    state = replace(DONE, finetune=replace(RUNS, over="ended", promotes=True), pin=PINNED)
    assert any(
        "fine-tune 3 is better and waits" in reason for reason in plan(state, SETTINGS).waiting
    )
