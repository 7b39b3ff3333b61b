"""Reading a project of boxes into the mirror: labels, notes, and what makes all be read again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import pytest

from backend.cli_tables import note_words
from backend.labelstudio.interface import parse_label_config
from backend.mirror import TaskTable
from backend.projects import ProjectStore
from backend.reconcile.actions import sync
from backend.reconcile.context import ProjectContext
from backend.reconcile.observe import report
from backend.reconcile.plan import Plan
from backend.reconcile.reading_notes import READING_NOTES, ReadingNotes
from backend.reconcile.state import State
from backend.status import NotedTask, ProjectStatus
from backend.stored_project import StoredProject
from models.detection.boxes import from_text
from tests.unit.backend.reconcile.boxes import BOXES, BoxesLabelStudio, Drawn
from tests.unit.backend.reconcile.fake_label_studio import CONFIG
from tests.unit.backend.reconcile.rounds import settings_of

RED: Drawn = ("red", 10, 10, 30, 60)
BLUE: Drawn = ("blue", 50, 10, 30, 60)


@pytest.fixture
def label_studio() -> BoxesLabelStudio:
    """Four pictures: a red and two blue boxes; a red one; none; and one that nobody labeled."""
    fake = BoxesLabelStudio()
    for drawn in ((RED, BLUE, ("blue", 20, 20, 20, 20)), (RED,), (), (BLUE,)):
        fake.add_boxes(*drawn)
    for task_id in list(fake.task_rows)[:3]:
        fake.annotate(task_id)
    return fake


@pytest.fixture
def context(tmp_path: Path, label_studio: BoxesLabelStudio) -> ProjectContext:
    folder = tmp_path / "projects" / "1-a"
    folder.mkdir(parents=True)
    store = ProjectStore(folder)
    return ProjectContext(
        settings_of(data_dir=tmp_path), cast(Any, label_studio), cast(Any, None), store, 1
    )


def read(context: ProjectContext) -> TaskTable:
    sync.run(context, Plan("sync", ""))
    return context.tasks()


def notes(context: ProjectContext) -> ReadingNotes:
    return context.store.read(READING_NOTES, ReadingNotes) or ReadingNotes()


def test_every_labeled_picture_is_a_label_and_boxes_are_counted(context: ProjectContext) -> None:
    table = read(context)
    assert table.states.tolist() == ["labeled", "labeled", "labeled", "unlabeled"]
    labels = context.labels()
    assert list(labels) == table.ids[:3].tolist()
    assert [len(from_text(text)) for text in labels.values()] == [3, 1, 0]
    assert (context.sync.task, context.sync.classes) == ("detection", ("red", "green", "blue"))
    assert context.counts() == {"red": 2, "blue": 2}
    assert context.counts(labels) == context.counts() == context.unbiased_counts()
    assert context.images_by_class() == {"red": 2, "blue": 1}
    assert [sorted(found) for found in context.classes_by_task().values()] == [
        ["blue", "blue", "red"],
        ["red"],
        [],
    ]
    assert notes(context) == ReadingNotes()


def test_what_people_are_told(context: ProjectContext, label_studio: BoxesLabelStudio) -> None:
    *_, fourth = read(context).ids.tolist()
    label_studio.drawn[fourth] = (("blue", 90, 10, 30, 60),)
    label_studio.annotate(fourth)
    read(context)
    said = report(context, State(), Plan(None, "done"))
    assert (said.labeled, said.noted, said.unknown_labels) == (4, 1, {})
    assert said.labels_by_class == {"red": 2, "blue": 3}
    assert said.images_by_class == {"red": 2, "blue": 2}
    label_studio.settings["label_config"] = BOXES.replace('name="box"', 'name="frame"')
    read(context)
    said = report(context, State(), Plan(None, "done"))
    assert said.noted == 0
    assert any(
        problem.startswith("3 annotated tasks hold nothing but what was made with controls")
        and "boxes of frame are read" in problem
        for problem in said.problems
    )


def test_what_is_read_beside_the_loop_is_the_same(context: ProjectContext, tmp_path: Path) -> None:
    read(context)
    project = object.__new__(StoredProject)
    project.store, project._tasks = context.store, context.tasks()
    assert project.labels() == context.labels()


def test_drawn_again_and_deleted_boxes_are_seen(
    context: ProjectContext, label_studio: BoxesLabelStudio
) -> None:
    first, second, third, _ = read(context).ids.tolist()
    label_studio.drawn[third] = (BLUE,)
    label_studio.annotate(third)
    label_studio.delete_annotations(second)
    table = read(context)
    assert table.states.tolist() == ["labeled", "unlabeled", "labeled", "unlabeled"]
    assert context.counts() == {"red": 1, "blue": 3}
    assert set(context.labels()) == {first, third}


def test_a_class_that_leaves_the_config_has_all_read_again(
    context: ProjectContext, label_studio: BoxesLabelStudio
) -> None:
    first, *_ = read(context).ids.tolist()
    label_studio.settings["label_config"] = BOXES.replace('<Label value="blue"/>', "")
    read(context)
    assert context.counts() == {"red": 2}
    assert sorted(str(box.label) for box in from_text(context.labels()[first])) == [
        "None",
        "None",
        "red",
    ]
    noted = notes(context)
    assert list(noted.by_task) == [first]
    assert "has the label 'blue', which the label config does not hold" in noted.by_task[first][0]
    label_studio.settings["label_config"] = BOXES
    read(context)
    assert context.counts() == {"red": 2, "blue": 2}
    assert notes(context).tasks == 0


def test_a_change_of_kind_has_all_read_again(
    context: ProjectContext, label_studio: BoxesLabelStudio
) -> None:
    read(context)
    label_studio.settings["label_config"] = CONFIG
    table = read(context)
    assert context.sync.task == "classification"
    assert context.labels() == {}
    assert table.states.tolist() == ["other", "other", "other", "unlabeled"]
    label_studio.settings["label_config"] = BOXES
    read(context)
    assert context.counts() == {"red": 2, "blue": 2}


def test_a_renamed_control_does_not_make_pictures_empty(
    context: ProjectContext, label_studio: BoxesLabelStudio
) -> None:
    read(context)
    label_studio.settings["label_config"] = BOXES.replace('name="box"', 'name="frame"')
    assert read(context).states.tolist() == ["other", "other", "labeled", "unlabeled"]
    assert list(context.labels().values()) == ["[]"]


def test_what_decides_how_a_task_is_read() -> None:
    def digest(config: str) -> str:
        return sync.reading_digest(parse_label_config(config))

    same = BOXES.replace('value="red"', 'value="red" background="#f00"')
    assert digest(same) == digest(BOXES)
    others = {
        digest(CONFIG),
        digest(BOXES),
        digest(BOXES.replace('name="box"', 'name="frame"')),
        digest(BOXES.replace('<Label value="blue"/>', "")),
        digest(BOXES.replace("$image", "$picture")),
    }
    assert len(others) == 5
    # Of choices it is what it was: no upgrade reads everything again.
    renamed = CONFIG.replace('value="blue"', 'value="azure"')
    assert digest(renamed) == digest(CONFIG)
    before = json.dumps(["kind", "image"]).encode()
    assert digest(CONFIG) == hashlib.sha256(before).hexdigest()


def test_a_note_stays_until_its_task_is_read_again_or_gone(
    context: ProjectContext, label_studio: BoxesLabelStudio
) -> None:
    first, second, third, fourth = read(context).ids.tolist()
    for task_id in (second, fourth):
        label_studio.drawn[task_id] = (("red", 90, 10, 30, 60),)
        label_studio.annotate(task_id, by=1)
    read(context)
    assert list(notes(context).by_task) == [second, fourth]
    label_studio.annotate(third)
    read(context)
    assert list(notes(context).by_task) == [second, fourth]
    label_studio.drawn[second] = (RED,)
    label_studio.delete_annotations(second)
    label_studio.annotate(second)
    label_studio.delete_task(fourth)
    context.store.hint("deleted")
    read(context)
    assert notes(context).tasks == 0
    assert first in context.labels()


# Notes in bounds -------------------------------------------------------------------------------


def test_notes_are_kept_in_bounds() -> None:
    many = {task: tuple(f"region {n} is odd" for n in range(500)) for task in range(1000)}
    kept = ReadingNotes().read(many)
    assert (len(kept.by_task), len(kept.further), kept.tasks) == (200, 800, 1000)
    assert kept.by_task[0][-1] == "and 497 more regions"
    assert len(kept.by_task[0]) == 4
    assert kept.read({0: (), 999: ()}).tasks == 998
    assert kept.without(range(1000)) == ReadingNotes()
    # A place that became free is taken by what is read next.
    later = kept.without([0]).read({999: ("region a is odd",)})
    assert later.by_task[999] == ("region a is odd",)
    assert later.tasks == 999


def test_what_has_no_note_changes_nothing() -> None:
    kept = ReadingNotes().read({1: ("odd",)})
    assert kept.read({2: (), 3: ()}) is kept
    assert kept.without([7]) is kept


def test_status_names_the_first_tasks_and_counts_the_others() -> None:
    status = ProjectStatus(
        project=1,
        title="boxes",
        folder="f",
        paused=False,
        label_studio="reachable",
        looked_at=None,
        doing="nothing",
        next="nothing",
        noted=230,
        notes=tuple(NotedTask(task=n, notes=("region a is odd", "b")) for n in range(1, 201)),
    )
    words = note_words(status)
    assert words[0] == "task 1: region a is odd; b"
    assert len(words) == 6
    assert words[-1].startswith("and 225 more tasks")
    assert note_words(status.model_copy(update={"noted": 0, "notes": ()})) == []
