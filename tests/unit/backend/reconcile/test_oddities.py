"""What happens when: the cases of docs/design.md's table, against a Label Studio in memory."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from backend.errors import AddressBlocked, ConnectionIncomplete, LabelStudioUnavailable
from backend.instance import unpublished_name, version_prefix
from backend.labelstudio.connection_record import ConnectionRecord
from backend.projects import ProjectStore
from backend.reconcile.connected import cut_off, leave
from backend.versions import activate_version
from tests.unit.backend.reconcile.fake_label_studio import CONFIG, FakeLabelStudio
from tests.unit.backend.reconcile.rounds import Start, report, served, squares, starter
from tests.unit.backend.reconcile.rounds import run as run_for

OURS = "http://localhost:9090"
OTHER = "http://other:9090"
UNCERTAIN, SEQUENTIAL = "Uncertainty sampling", "Sequential sampling"
#: What a person changes in Label Studio is seen by the timer, where nothing else is said.
run = partial(run_for, reason="timer")


@pytest.fixture
def label_studio() -> FakeLabelStudio:
    """40 squares, 4 of them blue; 16 labeled, 2 of those blue."""
    return squares(40, blue=(3, 9, 20, 30), labeled=16)


@pytest.fixture
def start(tmp_path: Path, label_studio: FakeLabelStudio) -> Start:
    return starter(
        label_studio,
        tmp_path / "ours",
        top_k=8,
        tail_min_labels=10,
        tail_threshold=0.5,
        discover_s=0.001,
    )


def label_more(label_studio: FakeLabelStudio, count: int = 3) -> None:
    """Enough for a new order."""
    unlabeled = [i for i, row in label_studio.task_rows.items() if not row.annotations]
    for task_id in unlabeled[:count]:
        label_studio.annotate(task_id)


def shows(label_studio: FakeLabelStudio) -> object:
    return label_studio.settings["model_version"]


# What a person chooses -------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [SEQUENTIAL, "Uniform sampling"])
def test_another_sampling_is_left_alone_and_said_at_once(
    start: Start, label_studio: FakeLabelStudio, sampling: str
) -> None:
    reconciler = start()
    store = run(reconciler)
    first = served(store).name
    label_studio.settings["sampling"] = sampling
    label_more(label_studio)
    run(reconciler, reason="hint")
    assert label_studio.settings["sampling"] == sampling
    (line,) = report(store).drift
    assert sampling in line
    assert "connect --project 1" in line
    assert served(store).name != first, "its scores go on: the tab shows them"
    label_studio.settings["sampling"] = UNCERTAIN
    run(reconciler, reason="hint")
    assert report(store).drift == ()


def test_an_earlier_queue_put_back_by_hand_is_served_until_the_next_publication(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    names = [served(store).name]
    for _ in range(2):
        label_more(label_studio)
        run(reconciler)
        names.append(served(store).name)
    assert set(label_studio.model_versions(1)) == set(names[1:])
    label_studio.settings["model_version"] = names[1]
    run(reconciler)
    run(reconciler)
    assert shows(label_studio) == names[1], "nothing is new, so nothing is published"
    (line,) = report(store).drift
    assert f"{names[1]}, an earlier queue of ours" in line
    assert label_studio.model_versions(1)[names[1]] == 8, "what is shown is never deleted"
    label_more(label_studio, 6)
    run(reconciler)
    assert shows(label_studio) == served(store).name not in names
    assert report(store).drift == ()
    assert len(label_studio.imports) == 4


def test_a_chosen_leftover_is_not_deleted_while_it_is_shown(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    first = served(store).name
    chosen = False

    def choose(name: str) -> None:
        # While the loop deletes the oldest, a person chooses it.
        nonlocal chosen
        if name == "delete_prediction" and not chosen:
            chosen = True
            label_studio.settings["model_version"] = first
            store.hint("changed")

    for _ in range(2):
        label_more(label_studio)
        label_studio.fail = choose
        run(reconciler)
    assert chosen
    run(reconciler)
    assert label_studio.model_versions(1)[first] >= 7
    assert store.publications().leftovers == (first,)
    label_studio.settings["model_version"] = served(store).name
    run(reconciler)
    assert first not in label_studio.model_versions(1)
    assert store.publications().leftovers == ()


def test_plain_connect_takes_back_what_is_ours(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start()
    store = run(reconciler)
    for by_hand in ("", "rarefirst"):
        label_more(label_studio)
        run(reconciler)
        newest = served(store).name
        label_studio.settings["model_version"] = by_hand
        label_more(label_studio)
        run(reconciler)
        assert shows(label_studio) == by_hand
        assert any("connect --project 1`" in line for line in report(store).why_not), by_hand
        reconciler.connect(1, own_url=None, dry_run=False)
        run(reconciler)
        assert shows(label_studio) == served(store).name != newest


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("by_hand", ["", "rarefirst", "earlier"])
def test_plain_connect_takes_back_at_once_and_once(
    start: Start, label_studio: FakeLabelStudio, by_hand: str, pinned: bool
) -> None:
    reconciler = start()
    store = run(reconciler)
    earlier = served(store).name
    label_more(label_studio)
    run(reconciler)
    if pinned:
        activate_version(reconciler.settings, 1, served(store).version)
        run(reconciler)
    newest = served(store).name
    label_studio.settings["model_version"] = earlier if by_hand == "earlier" else by_hand
    run(reconciler)
    assert shows(label_studio) != newest
    before = len(label_studio.imports)
    reconciler.connect(1, own_url=None, dry_run=False)
    for _ in range(3):
        run(reconciler)
    assert shows(label_studio) == served(store).name != newest
    assert len(label_studio.imports) == before + 1
    # It was asked for once: who sets it again means it.
    label_studio.settings["model_version"] = ""
    run(reconciler)
    assert shows(label_studio) == ""
    assert len(label_studio.imports) == before + 1


def test_take_over_takes_another_backends_place_without_a_label(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    some = list(label_studio.task_rows)[-1]
    label_studio.predictions[label_studio.new_id()] = (some, "yolo-7", 0.5)
    label_studio.settings["model_version"] = "yolo-7"
    run(reconciler)
    reconciler.connect(1, own_url=None, dry_run=False)
    run(reconciler)
    assert shows(label_studio) == "yolo-7"
    reconciler.connect(1, own_url=None, dry_run=False, take_over=True)
    run(reconciler)
    run(reconciler)
    assert shows(label_studio) == served(store).name
    assert len(label_studio.imports) == 2


def test_connecting_while_we_serve_says_nothing_of_our_earlier_queues(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    first = served(store).name
    label_more(label_studio)
    run(reconciler)
    reconciler.connect(1, own_url=None, dry_run=False)
    label_studio.settings["model_version"] = first
    run(reconciler)
    assert shows(label_studio) == first
    assert any("an earlier queue of ours" in line for line in report(store).drift)


def test_the_title_chosen_by_hand_says_what_it_does(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    label_studio.settings["model_version"] = "rarefirst"
    label_more(label_studio)
    run(reconciler)
    assert shows(label_studio) == "rarefirst"
    assert any("the title of our connection" in line for line in report(store).why_not)


def test_scores_deleted_in_the_data_manager_are_published_again(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    first = served(store)
    # The action "Delete predictions" leaves the model version standing.
    for key in label_studio.prediction_ids(1, first.name)[:3]:
        del label_studio.predictions[key]
    run(reconciler)
    assert shows(label_studio) == served(store).name != first.name
    assert label_studio.stream() == list(served(store).task_ids)


def test_deleted_tasks_are_not_taken_for_deleted_scores(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    for task_id in served(store).task_ids[:2]:
        label_studio.delete_task(task_id)
    first = served(store).name
    run(reconciler)
    assert served(store).name == first


# Connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("published", [False, True])
def test_a_renamed_connection_changes_nothing(
    start: Start, label_studio: FakeLabelStudio, published: bool
) -> None:
    reconciler = start()
    if published:
        run(reconciler)
    else:
        # Connected, but renamed before the first queue: Label Studio renames the version too.
        reconciler.connect(1, own_url=None, dry_run=False)
        label_studio.settings["model_version"] = "new name"
    (row,) = label_studio.connection_rows
    label_studio.connection_rows = [row.model_copy(update={"title": "new name"})]
    label_more(label_studio)
    store = run(reconciler, reason="hint")
    assert shows(label_studio) == served(store).name
    run(reconciler)
    record = store.read("connection.json", ConnectionRecord)
    assert record is not None
    assert record.title == "new name"
    assert report(store).drift == ()


@pytest.mark.parametrize("by", ["loop", "command"])
@pytest.mark.parametrize(
    ("own_url", "then"), [("", OTHER), ("http://known:9090", "http://known:9090")]
)
def test_a_connection_through_which_nothing_answers_is_moved_only_to_a_known_address(
    start: Start, label_studio: FakeLabelStudio, by: str, own_url: str, then: str
) -> None:
    """Our web process may just be stopped: its address is not given up for a guess."""
    reconciler = start(own_url=own_url)
    ours = unpublished_name(reconciler.settings.data_dir)
    (row,) = label_studio.connection_rows
    asleep = {"url": OTHER, "state": "DI", "model_version": ours}
    label_studio.connection_rows = [row.model_copy(update=asleep)]
    label_studio.answers = {}
    if by == "loop":
        run(reconciler)
    else:
        reconciler.connect(1, own_url=None, dry_run=False)
    (row,) = label_studio.connection_rows
    assert row.url == then
    assert f"{then}/webhook" in {hook.url for hook in label_studio.webhook_rows}


def test_of_two_connections_the_older_counts_and_the_next_takes_its_place(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start(basic_auth_user="u", basic_auth_pass="p")
    label_studio.answers = {
        OTHER: unpublished_name(reconciler.settings.data_dir),
        OURS: unpublished_name(reconciler.settings.data_dir),
    }
    second = label_studio.create_connection(1, OTHER, title="again")
    label_studio.connection_rows.reverse()  # whatever order they come in
    report_of_connect = reconciler.connect(1, own_url=None, dry_run=False)
    assert any("2 connections lead here" in note for note in report_of_connect.notes)
    assert all("Authorization" in hook.headers for hook in label_studio.webhook_rows)
    store = run(reconciler)
    run(reconciler)
    record = store.read("connection.json", ConnectionRecord)
    assert record is not None
    first = record.connection_id
    assert first < second.id
    assert any(f"{first} ({OURS}) counts" in line for line in report(store).drift)

    label_studio.delete_connection(first)
    label_studio.settings["sampling"] = SEQUENTIAL
    run(reconciler)
    run(reconciler)
    record = store.read("connection.json", ConnectionRecord)
    assert record is not None
    assert (record.connection_id, record.url) == (second.id, OTHER)
    assert label_studio.settings["sampling"] == SEQUENTIAL, "what a person changed stays"
    assert len(report(store).drift) == 1

    label_studio.create_connection(1, OURS, title="a third")
    reconciler.disconnect(1, dry_run=False)
    assert label_studio.connection_rows == []
    assert label_studio.webhook_rows == []


def test_a_deleted_connection_is_not_a_disconnect(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    label_studio.connection_rows.clear()
    reconciler.round(store, reason="timer")
    assert reconciler.stores.all() == []
    # Connected by hand again, then disconnected: what was there before the first time comes back.
    label_studio.create_connection(1, OURS, title="by hand")
    again = run(reconciler)
    assert again.key == store.key
    assert shows(label_studio) == served(again).name
    reconciler.disconnect(1, dry_run=False)
    assert label_studio.settings["sampling"] == SEQUENTIAL
    assert label_studio.view_rows == []
    assert label_studio.predictions == {}


# Another backend -------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False])
def test_another_product_beside_us(
    start: Start, label_studio: FakeLabelStudio, before: bool
) -> None:
    reconciler = start()
    some = next(iter(label_studio.task_rows))
    label_studio.predictions[999_999] = (some, "yolo-7", 0.5)
    if before:
        label_studio.connection_rows.clear()
        label_studio.webhook_rows.clear()
        label_studio.settings["model_version"] = ""
    else:
        run(reconciler)
    label_studio.answers["http://yolo:9090"] = "yolo-7"
    yolo = label_studio.create_connection(1, "http://yolo:9090", title="yolo")
    if before:
        outcome = reconciler.connect(1, own_url=None, dry_run=False)
        assert any("'yolo'" in note and "--take-over" in note for note in outcome.notes)
        assert any("asks only the first connection" in note for note in outcome.notes)
        run(reconciler)
        assert shows(label_studio) == "yolo"
        reconciler.connect(1, own_url=None, dry_run=False, take_over=True)
    for _ in range(3):
        label_more(label_studio)
        store = run(reconciler)
    assert shows(label_studio) == served(store).name
    assert label_studio.model_versions(1)["yolo-7"] == 1
    reconciler.disconnect(1, dry_run=False)
    assert label_studio.connection_rows == [yolo]
    assert [hook.url for hook in label_studio.webhook_rows] == ["http://yolo:9090/webhook"]
    assert label_studio.model_versions(1) == {"yolo-7": 1}
    assert shows(label_studio) == ("yolo" if before else "")


def test_two_rarefirsts_do_not_fight(
    start: Start, label_studio: FakeLabelStudio, tmp_path: Path
) -> None:
    a = start()
    b = start(data_dir=tmp_path / "second", own_url=OTHER)
    label_studio.answers = {
        OURS: unpublished_name(a.settings.data_dir),
        OTHER: unpublished_name(b.settings.data_dir),
    }
    prefix_a, prefix_b = (version_prefix(x.settings.data_dir) for x in (a, b))
    store_a = run(a)
    outcome = b.connect(1, own_url=None, dry_run=False)
    assert any("--take-over" in note for note in outcome.notes)
    assert any("another rarefirst" in note for note in outcome.notes)
    assert [row.title for row in label_studio.connection_rows] == [
        "rarefirst",
        f"rarefirst {prefix_b.split('-')[1]}",
    ]

    def work(count: int) -> list[str]:
        shown = []
        for _ in range(count):
            label_more(label_studio)
            for one in (a, b):
                run(one)
                shown.append(str(shows(label_studio)))
        return shown

    assert all(name.startswith(prefix_a) for name in work(2))
    store_b = b.stores.all()[0]
    assert any(
        f"set by another rarefirst ({prefix_a.rstrip('-')})" in line
        for line in report(store_b).why_not
    )
    assert any("another rarefirst" in line for line in report(store_a).drift)

    # Taken over; A published once more before B had its first queue.
    b.connect(1, own_url=None, dry_run=False, take_over=True)
    label_more(label_studio)
    run(a)
    run(b)
    assert str(shows(label_studio)).startswith(prefix_b)
    assert all(name.startswith(prefix_b) for name in work(1))
    # And back, although nothing is new.
    run(a)
    a.connect(1, own_url=None, dry_run=False, take_over=True)
    run(a)
    run(b)
    run(a)
    assert all(name.startswith(prefix_a) for name in work(1))
    assert store_a.publications().leftovers == store_b.publications().leftovers == ()

    # A leaves: what B needs stays, and B takes nothing that is not free.
    held = {name for name in label_studio.model_versions(1) if name.startswith(prefix_b)}
    assert held
    outcome = a.disconnect(1, dry_run=False)
    assert any("another rarefirst stays connected" in note for note in outcome.notes)
    assert label_studio.settings["sampling"] == UNCERTAIN
    assert len(label_studio.view_rows) == 1
    assert set(label_studio.model_versions(1)) == held
    assert [row.url for row in label_studio.connection_rows] == [OTHER]
    assert [hook.url for hook in label_studio.webhook_rows] == [OTHER + "/webhook"]


def test_our_address_answered_by_another_rarefirst(
    start: Start, label_studio: FakeLabelStudio, tmp_path: Path
) -> None:
    a = start()
    label_studio.answers[OURS] = unpublished_name(a.settings.data_dir)
    store = run(a)
    b = start(data_dir=tmp_path / "second")
    assert b.discover() == [], "the same address, but what answers there is not us"
    with pytest.raises(ConnectionIncomplete, match="another rarefirst"):
        b.connect(1, own_url=None, dry_run=False)
    label_studio.connection_rows.clear()
    label_studio.webhook_rows.clear()
    with pytest.raises(ConnectionIncomplete, match="RAREFIRST_DATA_DIR"):
        b.connect(1, own_url=None, dry_run=False)
    assert label_studio.connection_rows == []
    assert label_studio.webhook_rows == []
    assert shows(label_studio) == served(store).name


# Databases -------------------------------------------------------------------------------------


@pytest.mark.parametrize("paused", [False, True])
def test_a_rebuilt_database_gives_our_id_to_another_project(
    start: Start, label_studio: FakeLabelStudio, paused: bool
) -> None:
    reconciler = start()
    old = run(reconciler)
    name, kept = served(old).name, copy.deepcopy(vars(label_studio))
    files = {
        path: path.read_bytes() for path in old.root.rglob("*.json") if path.name != "project.json"
    }
    if paused:
        old.path("paused").touch()

    label_studio.settings["created_at"] = label_studio.now + timedelta(days=1)
    label_studio.settings["model_version"] = "rarefirst"
    label_studio.predictions.clear()
    for task_id, row in label_studio.task_rows.items():
        label_studio.task_rows[task_id] = row.model_copy(update={"annotations": ()})
    if not paused:
        # A late message wakes the old folder before anybody searched.
        assert reconciler.round(old, reason="hint")
    new = run(reconciler)
    assert new.key != old.key
    assert [store.key for store in reconciler.stores.all()] == [new.key]
    assert report(new).labeled == 0
    assert served(new).kind == "diversity"
    assert shows(label_studio) == served(new).name
    told = ("progress.json", "report.json")
    assert {p: p.read_bytes() for p in files if p.name not in told} == {
        p: text for p, text in files.items() if p.name not in told
    }, "the old folder is left as it was"

    vars(label_studio).update(kept)  # the backup comes back
    again = run(reconciler)
    assert again.key == old.key
    assert served(again).name == name
    assert shows(label_studio) == name
    if not paused:
        assert report(again).labeled == 16
        label_more(label_studio)
        run(reconciler)
        assert shows(label_studio) != name


def test_a_database_restored_to_an_earlier_state(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    backup = copy.deepcopy(vars(label_studio))
    versions = []
    for _ in range(3):
        label_more(label_studio)
        run(reconciler)
        versions.append(served(store).name)
    assert report(store).labeled == 25
    vars(label_studio).update(backup)
    assert shows(label_studio) not in versions
    run(reconciler)
    assert report(store).labeled == 16, "labels that the backup does not hold are gone here too"
    assert shows(label_studio) == served(store).name
    assert served(store).name not in versions
    assert not set(served(store).task_ids) & {
        i for i, row in label_studio.task_rows.items() if row.annotations
    }
    run(reconciler)
    assert set(label_studio.model_versions(1)) == {served(store).name}, "old scores that came back"


# Label config and data -------------------------------------------------------------------------


def change(label_studio: FakeLabelStudio, old: str, new: str) -> None:
    config = str(label_studio.settings["label_config"])
    assert old in config
    label_studio.settings["label_config"] = config.replace(old, new)


GREEN = '<Choice value="green"/>'


def test_classes_added_removed_and_back(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start()
    store = run(reconciler)
    before = report(store)
    first = served(store).name
    change(label_studio, "</Choices>", '<Choice value="black"/></Choices>')
    run(reconciler, reason="hint")
    assert served(store).name != first
    assert "black" in report(store).unlearnable
    assert shows(label_studio) == served(store).name

    change(label_studio, GREEN, "")
    run(reconciler, reason="hint")
    found = report(store)
    assert found.unknown_labels == {"green": before.labels_by_class["green"]}
    assert found.labeled == 16
    assert "green" not in found.labels_by_class

    label_studio.settings["label_config"] = CONFIG
    run(reconciler, reason="hint")
    found = report(store)
    assert found.labels_by_class == before.labels_by_class
    assert found.tail == before.tail
    assert found.unknown_labels == {}
    assert len(label_studio.imports) == 4


def test_a_tail_class_is_still_rare_when_it_comes_back(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    assert report(store).tail == ("blue",)
    for task_id, kind in label_studio.truth.items():
        # Found by mining: by its share alone it would not be rare any more.
        if kind == "blue":
            label_studio.annotate(task_id)
    change(label_studio, '<Choice value="blue"/>', '<Choice value="teal"/>')
    run(reconciler, reason="hint")
    assert "blue" not in report(store).tail
    assert any("blue left the tail" in problem for problem in report(store).problems)
    label_studio.settings["label_config"] = CONFIG
    run(start(tail_min_labels=1000), reason="hint")
    assert report(store).tail == ("blue",)


def test_a_renamed_class_loses_no_label(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start()
    store = run(reconciler)
    green = report(store).labels_by_class["green"]
    change(label_studio, GREEN, '<Choice value="grass"/>')
    run(reconciler, reason="hint")
    assert report(store).unknown_labels == {"green": green}
    relabeled = [
        i for i, row in label_studio.task_rows.items()
        if row.annotations and label_studio.truth[i] == "green"
    ]  # fmt: skip
    for task_id in relabeled[:2]:
        label_studio.annotate(task_id, "grass")
    run(reconciler, reason="hint")
    assert report(store).unknown_labels == {"green": green - 2}
    assert report(store).labels_by_class["grass"] == 2


def test_another_order_of_the_classes_keeps_labels_with_their_names(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    before = report(store)
    head = served(store).task_ids[:2]
    choices = ['<Choice value="red"/>', GREEN, '<Choice value="blue"/>']
    change(label_studio, "".join(choices), "".join(reversed(choices)))
    run(reconciler, reason="hint")
    assert report(store).labels_by_class == before.labels_by_class
    assert report(store).tail == ("blue",)
    assert set(served(store).task_ids[:2]) == set(head)
    assert len(label_studio.imports) == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('value="green"', 'value="green" background="#0f0" hint="grass"'),
        ('<Choices name="kind"', '<Header value="Look!"/><Choices showInline="true" name="kind"'),
    ],
)
def test_colours_and_hints_change_nothing(
    start: Start, label_studio: FakeLabelStudio, old: str, new: str
) -> None:
    reconciler = start()
    store = run(reconciler)
    change(label_studio, old, new)
    asked: list[object] = []
    original = label_studio.tasks

    def tasks(project_id: int, **arguments: object) -> object:
        asked.append(arguments.get("updated_after"))
        return original(project_id, **arguments)  # type: ignore[arg-type]

    label_studio.tasks = tasks  # type: ignore[method-assign, assignment]
    run(reconciler, reason="hint")
    assert None not in asked, "not everything was read again"
    assert len(label_studio.imports) == 1
    assert report(store).labeled == 16


def test_multiple_choice_stops_and_single_goes_on(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    name = served(store).name
    change(label_studio, '<Choices name="kind"', '<Choices choice="multiple" name="kind"')
    label_more(label_studio)
    run(reconciler, reason="hint")
    assert 'choice="multiple"' in report(store).next
    assert shows(label_studio) == name
    label_studio.settings["label_config"] = CONFIG
    run(reconciler, reason="hint")
    assert report(store).labeled == 19
    assert shows(label_studio) == served(store).name != name


@pytest.mark.parametrize("how", ["renamed", "another one first"])
def test_a_renamed_control_hides_the_labels_and_says_so(
    start: Start, label_studio: FakeLabelStudio, how: str
) -> None:
    reconciler = start()
    store = run(reconciler)
    if how == "renamed":
        change(label_studio, 'name="kind"', 'name="sort"')
    else:
        first = CONFIG[CONFIG.index("<Choices") : CONFIG.index("</View>")]
        change(label_studio, first, first.replace('name="kind"', 'name="sort"') + first)
    run(reconciler, reason="hint")
    found = report(store)
    assert (found.labeled, found.skipped) == (0, 0)
    (line,) = [problem for problem in found.problems if "'sort'" in problem]
    assert line.startswith("16 annotated tasks hold no choice")
    assert not set(served(store).task_ids) & {
        i for i, row in label_studio.task_rows.items() if row.annotations
    }
    label_studio.settings["label_config"] = CONFIG
    run(reconciler, reason="hint")
    assert report(store).labeled == 16
    assert not [problem for problem in report(store).problems if "no choice" in problem]


def test_another_image_key(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start()
    store = run(reconciler)
    change(label_studio, "$image", "$photo")
    run(reconciler, reason="hint")
    found = report(store)
    assert found.embedded == 0
    assert sum(found.failed.values()) == 40
    assert found.labeled == 16
    assert served(store).name == shows(label_studio), "the queue that is there goes on being served"
    for task_id, row in list(label_studio.task_rows.items()):
        data = {"photo": row.data["image"]}
        label_studio.task_rows[task_id] = row.model_copy(
            update={"data": data, "updated_at": label_studio.tick()}
        )
    run(reconciler, reason="hint")
    assert (report(store).embedded, report(store).failed) == (40, {})


def test_another_image_under_the_same_task(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start()
    store = run(reconciler)
    labeled, blue = next(iter(label_studio.task_rows)), None
    for task_id, kind in label_studio.truth.items():
        if kind == "blue" and not label_studio.task_rows[task_id].annotations:
            blue = task_id
    assert blue is not None
    data = {"image": label_studio.task_rows[blue].data["image"]}
    row = label_studio.task_rows[labeled]
    label_studio.task_rows[labeled] = row.model_copy(
        update={"data": data, "updated_at": label_studio.tick()}
    )
    label_studio.settings["title"] = "another title"
    run(reconciler, reason="hint")
    found = report(store)
    assert (found.labeled, found.embedded, found.title) == (16, 40, "another title")
    assert len(label_studio.imports) == 1, "it takes its place in the next order"


def test_an_import_that_nothing_follows_is_not_read_again_and_again(
    start: Start, label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task_id, row in label_studio.task_rows.items():
        label_studio.task_rows[task_id] = row.model_copy(update={"updated_at": label_studio.now})
    read: list[int] = []
    original = label_studio.tasks

    def tasks(project_id: int, **arguments: object) -> object:
        rows = list(original(project_id, **arguments))  # type: ignore[arg-type]
        read.append(len(rows))
        return iter(rows)

    label_studio.tasks = tasks  # type: ignore[method-assign, assignment]
    for number, row in enumerate(list(label_studio.task_rows.values())):
        at = label_studio.now - timedelta(milliseconds=100 * number)
        label_studio.task_rows[row.id] = row.model_copy(update={"updated_at": at})
    reconciler, clock = start(), time.time()
    monkeypatch.setattr("backend.reconcile.actions.sync.time.time", lambda: clock)
    for _ in range(4):
        store = run(reconciler, reason="hint")
        clock += 20.0
    assert read == [40, 40, 40, 1]
    label_more(label_studio, 1)
    run(reconciler, reason="hint")
    assert report(store).labeled == 17


def test_a_deletion_that_gives_way_to_a_submit_is_not_an_outage(
    start: Start, label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.labelstudio.deletion._AGAIN_S", 0.0)
    reconciler = start()
    store = run(reconciler)

    def locked(name: str) -> None:
        if name == "delete_prediction" and label_studio.calls[name] % 3 == 1:
            raise LabelStudioUnavailable("Label Studio answered 500: database is locked")

    label_studio.fail = locked
    for _ in range(2):
        label_more(label_studio)
        run(reconciler)
    assert store.publications().leftovers == ()
    assert report(store).label_studio == "reachable"
    reconciler.disconnect(1, dry_run=False)
    assert label_studio.predictions == {}


def test_disconnecting_does_not_wait_for_old_scores_to_be_deleted(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start(delete_pause_s=0.05)
    store = run(reconciler)
    leaving = threading.Thread(target=lambda: reconciler.disconnect(1, dry_run=False))

    def disconnect(name: str) -> None:
        if name == "delete_prediction" and not leaving.ident:
            leaving.start()

    for _ in range(2):
        label_more(label_studio)
        label_studio.fail = disconnect
        run(reconciler)
    assert store.publications().leftovers != (), "the round gave way"
    leaving.join(30)
    assert label_studio.predictions == {}


# Disconnecting that is killed ------------------------------------------------------------------


class Killed(BaseException):
    """kill -9: nothing after it runs."""


def test_a_disconnect_killed_while_deleting_scores_is_finished_by_a_second_one(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    worker = start()
    label_studio.settings["sampling"] = "Uniform sampling"
    run(worker)
    imports = len(label_studio.imports)

    def kill(name: str) -> None:
        if name == "delete_prediction" and label_studio.calls[name] > 3:
            raise Killed

    label_studio.fail = kill
    with pytest.raises(Killed):
        start().disconnect(1, dry_run=False)
    label_studio.fail = lambda name: None
    for _ in range(2):
        assert worker.discover() == [], "the loop leaves it alone"
    assert len(label_studio.imports) == imports
    label_studio.settings["sampling"] = UNCERTAIN  # as if it had died before
    start().disconnect(1, dry_run=False)
    assert label_studio.settings["sampling"] == "Uniform sampling"
    assert label_studio.predictions == {}
    assert label_studio.view_rows == []
    assert not list(worker.settings.data_dir.glob("projects/*/conn*.json"))


def test_a_disconnect_killed_before_the_connection_is_deleted_is_as_if_connected_by_hand(
    start: Start, label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start()
    first = served(run(worker)).name

    def kill(connection_id: int) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(label_studio, "delete_connection", kill)
        with pytest.raises(Killed):
            start().disconnect(1, dry_run=False)
    store = run(worker)
    assert shows(label_studio) == served(store).name != first
    assert len(label_studio.webhook_rows) == 1
    worker.disconnect(1, dry_run=False)
    assert label_studio.settings["sampling"] == SEQUENTIAL, "what was there before us is known"
    assert label_studio.connection_rows == []
    assert label_studio.predictions == {}


def test_scores_that_cannot_be_deleted_do_not_end_the_disconnect(
    start: Start, label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.labelstudio.deletion._AGAIN_S", 0.0)
    reconciler = start()
    run(reconciler)

    def locked(name: str) -> None:
        if name == "delete_prediction" and label_studio.calls[name] in (2, 3):
            raise LabelStudioUnavailable("Label Studio answered 500: database is locked")

    label_studio.fail = locked
    outcome = reconciler.disconnect(1, dry_run=False)
    assert len(label_studio.predictions) == 1
    assert any(note.startswith("1 of 8 scores could not be deleted") for note in outcome.notes)
    assert reconciler.discover() == []
    outcome = reconciler.disconnect(1, dry_run=False)
    assert outcome.notes == ()
    assert label_studio.predictions == {}


@pytest.mark.parametrize("going", [leave, cut_off])
def test_no_connection_is_left_without_its_project(
    start: Start,
    label_studio: FakeLabelStudio,
    monkeypatch: pytest.MonkeyPatch,
    going: Callable[[ProjectStore], None],
) -> None:
    store = run(start())
    unlink, seen = Path.unlink, []

    def watched(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        if path.parent == store.root:
            seen.append(
                (store.path("project.json").exists(), store.path("connection.json").exists())
            )

    monkeypatch.setattr(Path, "unlink", watched)
    going(store)
    assert seen
    assert (False, True) not in seen


def test_disconnect_goes_by_the_projects_own_pause(
    start: Start, label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler = start()
    run(reconciler)
    (row,) = label_studio.connection_rows
    label_studio.connection_rows = [
        row.model_copy(update={"extra_params": {"delete_pause_s": 0.125}})
    ]
    (store,) = reconciler.discover()
    store.hint("settings")
    run(reconciler, reason="hint")
    slept: list[float] = []
    monkeypatch.setattr("backend.labelstudio.disconnection.time.sleep", slept.append)
    reconciler.disconnect(1, dry_run=False)
    assert slept == [0.125] * 8


def test_a_problem_of_adopting_is_forgotten_when_connected_anew(
    start: Start, label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_studio.webhook_rows.clear()
    worker = start()

    def refuse(*_: object, **__: object) -> None:
        raise AddressBlocked("private addresses are blocked", status=400)

    with monkeypatch.context() as patch:
        patch.setattr(label_studio, "create_webhook", refuse)
        store = run(worker)
    assert any("SSRF_PROTECTION" in problem for problem in report(store).problems)
    start().connect(1, own_url=None, dry_run=False)
    run(worker, reason="hint")
    assert not any("SSRF_PROTECTION" in problem for problem in report(store).problems)


def test_many_old_scores_are_not_taken_for_an_endless_round(
    start: Start, label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler = start()
    store = run(reconciler)
    old = version_prefix(reconciler.settings.data_dir) + "v0000-old"
    some = list(label_studio.task_rows)[-1]
    for _ in range(400):
        label_studio.predictions[label_studio.new_id()] = (some, old, 0.5)
    monkeypatch.setattr("backend.reconcile.loop._MOST_STEPS", 8)
    run(reconciler)
    assert old not in label_studio.model_versions(1)
    assert not any("come to an end" in problem for problem in report(store).problems)
