"""Rebalanced fine-tuning by itself, in a real Label Studio, on the processor.

The digits' first network is trained for a moment only, so that a fine-tune on more labels is better
for certain. The labels that are held out are decided by the tasks' ids: of each rare digit enough
are labeled, held out or not, for any ids.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from backend.labelstudio.client import LabelStudioClient
from backend.labelstudio.review_tab import REVIEW_TITLE, make_review_tab
from demo.annotator import Labeled, file_name
from demo.backend_process import Backend
from demo.queue_watch import ServedQueue, served_queue
from models.held_out_split import held_out
from tests.e2e.harness import (
    PASSWORD,
    USER,
    Project,
    QueueWatch,
    Studio,
    eventually,
    make_project,
    quick_status,
    status_of,
)

SEEDS = 100
EXTRA = {
    "RAREFIRST_FINETUNE": "on",
    "RAREFIRST_FINETUNE_DEVICE": "cpu",
    # More than the seeds, fewer than the seeds and what is labeled below.
    "RAREFIRST_FINETUNE_EVERY_LABELS": "150",
    "RAREFIRST_FINETUNE_MIN_TAIL_LABELS": "25",
    "RAREFIRST_FINETUNE_EPOCHS": "20",
    "RAREFIRST_FINETUNE_MIN_STEPS": "60",
    "RAREFIRST_BOOTSTRAP_MIN_LABELS": "60",
    "RAREFIRST_BOOTSTRAP_STEPS": "10",
    "RAREFIRST_FIT_EVERY_LABELS": "1000",
    "RAREFIRST_FIT_IDLE_S": "2",
    "RAREFIRST_TOP_K": "20",
    "RAREFIRST_DELETE_PAUSE_S": "0",
    "RAREFIRST_TIMER_S": "5",
}


@pytest.fixture(scope="module")
def project(studio: Studio) -> Project:
    return make_project(
        studio,
        title="fine-tuning",
        seed_labels=SEEDS,
        rare_seed_labels=10,
        rare_in_pool=110,
        pool_size=180,
        seed=6,
    )


@pytest.fixture(scope="module")
def backend_extra(project: Project) -> dict[str, str]:
    return {**EXTRA, "RAREFIRST_TAIL_CLASSES": ",".join(project.digits.rare)}


def say(backend: Backend, project: Project, *words: str) -> dict[str, Any]:
    """A command's JSON."""
    arguments = (*words, "--project", str(project.id), "--json")
    said: dict[str, Any] = json.loads(backend.command(*arguments, timeout_s=240))
    return said


def at_rest(backend: Backend, project: Project, labels: int) -> dict[str, Any]:
    """Wait until every label is seen and nothing is done; what `status` says then."""

    def rests() -> bool:
        found = quick_status(backend, project.id)
        return (
            (found.labels.total, found.labels.since_fit) == (labels, 0)
            and found.doing == "nothing"
            and found.finetune_running is None
            and found.publication is not None
            and found.publication.version == found.version
        )

    eventually(rests, f"{labels} labels are seen and nothing is left to do", timeout_s=240)
    return status_of(backend, project.id)


def queue_now(project: Project) -> ServedQueue:
    found = served_queue(project.studio.owner, project.id)
    assert found is not None
    return found


def label_rare_ones(project: Project) -> None:
    """Label 35 more of each rare digit, those that are held out first (8 at most), and 5 others."""
    truth = project.digits.truth
    by_digit: dict[str, list[int]] = {}
    for task in project.studio.owner.tasks(project.id):
        if not task["annotations"]:
            data = task["data"]
            assert isinstance(data, dict)
            digit = truth[file_name(str(data["image"]))]
            by_digit.setdefault(digit, []).append(int(str(task["id"])))
    annotator = project.annotator()
    done: list[Labeled] = []
    for digit, tasks in by_digit.items():
        ids = np.asarray(sorted(tasks))
        away = held_out(ids)
        chosen = [*ids[away][:8], *ids[~away]][:35] if digit in project.digits.rare else ids[:1]
        done += [annotator.submit(int(task), digit) for task in chosen]
    project.given.extend(done)


def a_seed(project: Project) -> dict[str, object]:
    """A task as Label Studio sends it to /predict."""
    task = next(iter(project.studio.owner.tasks(project.id)))
    return {"id": task["id"], "data": task["data"]}


def recalls(figures: dict[str, Any], names: tuple[str, ...]) -> list[float]:
    return [one["recall"] for one in figures["classes"] if one["name"] in names]


def test_rare_labels_lead_to_a_better_network_by_itself(backend: Backend, project: Project) -> None:
    backend.connect(project.id)
    first = project.wait_for_queue()
    begun = at_rest(backend, project, SEEDS)
    assert begun["backbone"].startswith("bootstrapped")
    assert begun["finetune"]["held_out"] > 0
    assert any("next fine-tune is at 150 new labels" in why for why in begun["why_not"])

    with QueueWatch(project, backend, a_seed(project)) as watch:
        label_rare_ones(project)
        labels = SEEDS + len(project.given)
        eventually(
            lambda: len(quick_status(backend, project.id).finetune.runs) == 1,
            "a fine-tune was begun",
            timeout_s=120,
        )
        done = at_rest(backend, project, labels)
    (run,) = done["finetune"]["runs"]
    assert run["state"] == "promoted", run
    assert done["backbone"].startswith("fine-tuned")
    assert watch.looks > 5
    assert (watch.empty, watch.unanswered) == ([], [])
    assert watch.versions[0] == first.version
    assert watch.versions[-1] == queue_now(project).version != first.version

    told = say(backend, project, "evaluate")
    assert told["held_out"] == done["finetune"]["held_out"]
    *before, now = told["versions"]
    assert (now["active"], now["frozen_model"].split()[0]) == (True, "fine-tuned")
    assert now["seen"] == 0
    old = next(row for row in before if row["frozen_model"].startswith("bootstrapped"))
    rare = project.digits.rare
    assert sum(recalls(now["figures"], rare)) > sum(recalls(old["figures"], rare))
    assert [it["state"] for it in told["finetunes"]] == ["promoted"]


def test_a_bad_fine_tune_changes_nothing(backend: Backend, project: Project) -> None:
    before, queue = status_of(backend, project.id), queue_now(project)
    frozen = say(backend, project, "versions", "show", before["version"])["version"]["frozen_model"]
    (connection,) = project.get("/api/ml")
    project.studio.owner.request(
        "PATCH",
        f"/api/ml/{connection['id']}",
        body={
            "project": project.id,
            "url": backend.url,
            "extra_params": {"finetune_learning_rate": 10},
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": USER,
            "basic_auth_pass": PASSWORD,
        },
    )
    eventually(
        lambda: quick_status(backend, project.id).settings == {"finetune_learning_rate": 10},
        "the project's own step size counts",
    )
    preview = say(backend, project, "finetune", "--dry-run")
    assert (preview["learning_rate"], preview["due"]) == (10, False)
    assert sum(preview["held_out"].values()) == before["finetune"]["held_out"]

    asked = say(backend, project, "finetune")
    assert asked["run"]["state"] == "rejected", asked
    assert asked["outcome"]["verdict"]["promoted"] is False
    after = at_rest(backend, project, before["labels"]["total"])
    assert (after["version"], after["backbone"]) == (before["version"], before["backbone"])
    shown = say(backend, project, "versions", "show", after["version"])["version"]
    assert shown["frozen_model"] == frozen
    assert queue_now(project) == queue, "list for list"


def test_labels_to_check_have_a_tab_until_disconnecting(backend: Backend, project: Project) -> None:
    owner = project.studio.owner

    def shown(tab: int) -> list[int]:
        answer = owner.request("GET", "/api/tasks", query={"view": tab, "page_size": 100}).json()
        assert answer["total"] == len(answer["tasks"])
        return sorted(task["id"] for task in answer["tasks"])

    def titles() -> list[str]:
        views: Any = project.get("/api/dm/views/")
        return [view["data"]["title"] for view in views]

    found = say(backend, project, "review", "--tab")
    suspects = sorted(doubt["task"] for doubt in found["labels"])
    assert not suspects or shown(found["tab"]) == suspects
    # As many as there can be; the tab before goes.
    client = LabelStudioClient(owner.url, project.studio.login.token)
    chosen = sorted(project.labeled_ids)[:50]
    assert shown(make_review_tab(client, project.id, chosen).id) == chosen
    assert titles().count(REVIEW_TITLE) == 1
    backend.command("disconnect", "--project", str(project.id))
    assert REVIEW_TITLE not in titles()
