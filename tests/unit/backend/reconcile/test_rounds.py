"""Whole rounds against a Label Studio in memory: what is there afterwards, whatever came between.

Coloured squares, blue ones rare. The frozen model stays untrained (too few labels to train it),
which tells colours apart well enough.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from backend.errors import LabelStudioUnavailable
from backend.labelstudio.client import PredictionItem
from backend.mirror_reader import MirrorReader
from backend.reconcile.actions import bootstrap
from backend.reconcile.state import SyncState
from backend.reports import RoundEntry
from models.registry import VersionCard
from tests.unit.backend.reconcile.fake_label_studio import FakeLabelStudio
from tests.unit.backend.reconcile.rounds import Start, report, run, served, squares, starter


@pytest.fixture
def label_studio() -> FakeLabelStudio:
    """60 squares, 4 of them blue; 24 labeled, 2 of those blue."""
    return squares(60, blue=(3, 17, 30, 50), labeled=24)


@pytest.fixture
def start(tmp_path: Path, label_studio: FakeLabelStudio) -> Start:
    return starter(label_studio, tmp_path, top_k=12, tail_min_labels=10, tail_threshold=0.5)


def test_first_round_publishes_a_rare_first_queue(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    store = run(start())
    queue = served(store)
    assert label_studio.settings["model_version"] == queue.name
    assert label_studio.settings["sampling"] == "Uncertainty sampling"
    assert label_studio.stream() == list(queue.task_ids)
    assert len(queue.task_ids) == 12
    assert {label_studio.truth[i] for i in queue.task_ids[:2]} == {"blue"}
    assert queue.tail == ("blue",)
    assert len(label_studio.imports) == 1
    found = report(store)
    assert (found.tasks, found.labeled, found.tail) == (60, 24, ("blue",))
    assert found.problems == ()
    (entry,) = store.history(RoundEntry)
    assert entry.publication == queue.name
    assert {"sync", "connect", "bootstrap", "embed", "fit", "publish"} <= set(entry.seconds)


def test_a_second_round_has_nothing_to_do(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start()
    store = run(reconciler)
    before = (store.publications(), len(store.history(RoundEntry)))
    run(reconciler, reason="timer")
    assert (store.publications(), len(store.history(RoundEntry))) == before
    assert len(label_studio.imports) == 1


def test_labels_lead_to_a_new_order_and_the_tail_stays(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    for _ in range(4):
        first = served(store)
        for task_id in label_studio.stream()[:3]:
            label_studio.annotate(task_id)
        store.hint("changed")
        run(reconciler)
        queue = served(store)
        assert queue.name != first.name
        assert queue.tail == ("blue",)
        assert not set(queue.task_ids) & {
            i for i, row in label_studio.task_rows.items() if row.annotations
        }
    found = report(store)
    assert found.labels_by_origin == {"initial": 24, "queue": 12}
    # 4 of 36 are blue now, 0.33 of the mean: by all labels it might have left the tail.
    assert found.labels_by_class["blue"] == 4
    last = store.history(RoundEntry)[-1]
    assert last.rare_found == 4


def test_a_name_once_used_is_never_used_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter(["aaaaaa", "aaaaaa", "bbbbbb", "aaaaaa", "bbbbbb", "cccccc"])
    monkeypatch.setattr("backend.reconcile.actions.publish._mark", lambda: next(drawn))
    # A changed size of the queue publishes the same version anew.
    names = [served(run(start(top_k=size))).name for size in (12, 11, 10)]
    assert [name[-6:] for name in names] == ["aaaaaa", "bbbbbb", "cccccc"]
    assert next(drawn, None) is None


def test_a_quota_ends_the_mining_of_a_class(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start(tail_quota=3)
    store = run(reconciler)
    for task_id in label_studio.stream()[:3]:
        label_studio.annotate(task_id)
    store.hint("changed")
    run(reconciler)
    assert report(store).tail == ()
    assert any("quota" in problem for problem in report(store).problems)


def test_old_scores_leave_label_studio_and_the_last_two_stay(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    for _ in range(3):
        for task_id in label_studio.stream()[:3]:
            label_studio.annotate(task_id)
        store.hint("changed")
        run(reconciler)
    known = store.publications()
    assert known.published is not None
    assert known.previous is not None
    assert known.leftovers == ()
    assert set(label_studio.model_versions(1)) == {known.published.name, known.previous.name}
    assert len(label_studio.imports) == len(set(label_studio.imports)) == 4


def test_deleted_tasks_and_annotations_are_noticed(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    labeled = [i for i, row in label_studio.task_rows.items() if row.annotations]
    label_studio.delete_annotations(labeled[0])
    label_studio.delete_task(labeled[1])
    label_studio.skip(label_studio.stream()[0])
    store.hint("deleted")
    run(reconciler)
    found = report(store)
    assert (found.tasks, found.labeled, found.skipped) == (59, 22, 1)


def test_a_task_deleted_between_embed_and_publish(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()

    def delete_before_import(name: str) -> None:
        if name == "import_predictions" and label_studio.calls[name] == 1:
            unlabeled = [i for i, row in label_studio.task_rows.items() if not row.annotations]
            for task_id in unlabeled[::2]:
                label_studio.delete_task(task_id)

    label_studio.fail = delete_before_import
    store = run(reconciler)
    queue = served(store)
    assert label_studio.settings["model_version"] == queue.name
    assert set(queue.task_ids) <= set(label_studio.task_rows)
    assert label_studio.calls["import_predictions"] == 2


@pytest.mark.parametrize(
    "call",
    ["project", "tasks", "create_view", "import_predictions", "update_project"],
)
def test_label_studio_away_then_back(
    start: Start, label_studio: FakeLabelStudio, call: str
) -> None:
    reconciler = start()
    (store,) = reconciler.discover()
    away = True

    def fail(name: str) -> None:
        if away and name == call:
            raise LabelStudioUnavailable("Label Studio cannot be reached")

    label_studio.fail = fail
    assert reconciler.round(store, reason="hint")
    assert "cannot be reached" in report(store).label_studio
    assert store.publications().published is None
    away = False
    assert reconciler.round(store, reason="hint")
    queue = served(store)
    assert label_studio.stream() == list(queue.task_ids)
    assert report(store).label_studio == "reachable"
    counts = label_studio.model_versions(1)
    assert counts == {queue.name: 12}, "what the failed round had imported is gone again"


def test_the_loop_backs_off_on_the_timer_and_a_hint_ends_it(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    (store,) = reconciler.discover()

    def fail(name: str) -> None:
        if name == "project":
            raise LabelStudioUnavailable("away")

    label_studio.fail = fail
    reconciler.round(store, reason="timer")
    tried = label_studio.calls["project"]
    reconciler.round(store, reason="timer")
    assert label_studio.calls["project"] == tried
    reconciler.round(store, reason="hint")
    assert label_studio.calls["project"] > tried


def test_what_a_person_changes_is_left_alone_and_reported(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    some = next(iter(label_studio.task_rows))
    label_studio.predictions[999_999] = (some, "their-model", 0.5)
    label_studio.settings.update(model_version="their-model", sampling="Sequential sampling")
    for task_id in list(label_studio.task_rows)[30:40]:
        label_studio.annotate(task_id)
    store.hint("changed")
    run(reconciler)
    assert label_studio.settings["model_version"] == "their-model"
    assert label_studio.settings["sampling"] == "Sequential sampling"
    assert any("their-model" in reason for reason in report(store).why_not)
    reconciler.connect(1, own_url=None, dry_run=False, take_over=True)
    run(reconciler)
    queue = served(store)
    assert label_studio.settings["model_version"] == queue.name
    assert label_studio.settings["sampling"] == "Uncertainty sampling"


def test_scores_deleted_by_a_person_are_published_again(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    label_studio.predictions.clear()
    label_studio.settings["model_version"] = ""
    run(reconciler)
    queue = served(store)
    assert label_studio.stream() == list(queue.task_ids)


def test_an_emptied_model_version_is_a_wish_while_the_scores_are_there(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    label_studio.settings["model_version"] = ""
    for task_id in list(label_studio.task_rows)[30:40]:
        label_studio.annotate(task_id)
    store.hint("changed")
    run(reconciler)
    assert label_studio.settings["model_version"] == ""
    assert any("empty" in reason for reason in report(store).why_not)


def test_the_whole_data_directory_lost(
    start: Start, label_studio: FakeLabelStudio, tmp_path: Path
) -> None:
    import shutil

    run(start())
    shutil.rmtree(tmp_path / "projects")
    store = run(start())
    queue = served(store)
    assert label_studio.settings["model_version"] == queue.name
    assert label_studio.stream() == list(queue.task_ids)


def test_no_labels_at_all_gives_a_diversity_order_that_says_so(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    for task_id in label_studio.task_rows:
        label_studio.delete_annotations(task_id)
    store = run(start())
    queue = served(store)
    assert queue.kind == "diversity"
    assert label_studio.stream() == list(queue.task_ids)
    assert any("label" in problem for problem in report(store).problems)


def test_an_unsupported_label_config_names_the_tags(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    label_studio.settings["label_config"] = (
        '<View><Text name="t" value="$text"/><Choices name="c" toName="t">'
        '<Choice value="a"/></Choices></View>'
    )
    store = run(start())
    assert "Text" in report(store).next
    assert "Image" in report(store).next
    assert label_studio.imports == []


def test_a_label_that_the_config_no_longer_holds(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    config = str(label_studio.settings["label_config"])
    label_studio.settings["label_config"] = config.replace('<Choice value="green"/>', "")
    store = run(start())
    found = report(store)
    labeled = [i for i, row in label_studio.task_rows.items() if row.annotations]
    green = sum(label_studio.truth[i] == "green" for i in labeled)
    assert found.unknown_labels == {"green": green}
    assert "green" not in found.labels_by_class
    assert store.publications().published is not None


def test_unreadable_images_are_named_and_do_not_stop_the_rest(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    label_studio.add_task("red", uri="data:image/png;base64,AAAA")
    label_studio.add_task("red", uri="/etc/passwd")
    label_studio.add_task("red", uri="")
    store = run(start())
    found = report(store)
    assert found.embedded == 60
    assert sum(found.failed.values()) == 3
    assert store.publications().published is not None


def test_a_project_deleted_in_label_studio(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start()
    store = run(reconciler)
    label_studio.gone = True
    assert reconciler.round(store, reason="timer")
    assert reconciler.stores.all() == []
    assert store.path("ledger.jsonl").exists(), "what was learned stays on disk"


def test_a_corrupt_version_is_skipped_and_the_one_before_used(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    for task_id in label_studio.stream()[:3]:
        label_studio.annotate(task_id)
    store.hint("changed")
    run(reconciler)
    newest = max(store.path("versions").glob("v*"))
    for file in newest.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:20])
    for task_id in label_studio.stream()[:3]:
        label_studio.annotate(task_id)
    store.hint("changed")
    again = run(start())
    queue = served(again)
    assert label_studio.stream() == list(queue.task_ids)
    assert queue.version > newest.name


def test_start_training_forces_a_fit(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start()
    store = run(reconciler)
    first = served(store)
    store.hint("force_fit")
    run(reconciler)
    second = served(store)
    assert first.version != second.version
    run(reconciler)
    assert store.publications().published == second


def test_a_control_slice_is_drawn_at_random_and_labels_from_it_count(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start(control_share=0.25)
    store = run(reconciler)
    queue = served(store)
    assert len(queue.control_ids) == 3
    assert set(queue.control_ids) <= set(queue.task_ids)
    label_studio.annotate(queue.control_ids[0])
    label_studio.annotate(next(i for i in queue.task_ids if i not in queue.control_ids))
    store.hint("changed")
    run(reconciler)
    assert report(store).labels_by_origin == {"initial": 24, "queue": 1, "control": 1}


def test_paused(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start()
    store = run(reconciler)
    store.path("paused").touch()
    for task_id in label_studio.stream()[:3]:
        label_studio.annotate(task_id)
    store.hint("changed")
    run(reconciler)
    assert len(label_studio.imports) == 1
    store.path("paused").unlink()
    run(reconciler)
    assert len(label_studio.imports) == 2


def test_pre_annotations_by_setting(start: Start, label_studio: FakeLabelStudio) -> None:
    sent: list[object] = []
    original = label_studio.import_predictions

    def keep(project_id: int, items: object) -> int:
        sent.extend(items)  # type: ignore[arg-type]
        return original(project_id, items)  # type: ignore[arg-type]

    label_studio.import_predictions = keep  # type: ignore[method-assign]
    run(start(preannotate=True))
    regions = [item.payload()["result"] for item in sent]  # type: ignore[attr-defined]
    assert all(len(region) == 1 for region in regions)
    assert {region[0]["value"]["choices"][0] for region in regions} <= {"red", "green", "blue"}


def test_another_rarefirst_keeps_its_hands_off(
    start: Start, label_studio: FakeLabelStudio, tmp_path: Path
) -> None:
    run(start())
    name = label_studio.settings["model_version"]
    (row,) = label_studio.connection_rows
    label_studio.connection_rows = [row.model_copy(update={"model_version": name})]
    other = start(data_dir=tmp_path / "other", own_url="http://elsewhere:9090")
    assert other.discover() == []
    assert other.register(1) is None


def test_constant_hints_do_not_keep_a_round_from_acting(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    (store,) = reconciler.discover()

    def hint(name: str) -> None:
        if name in {"project", "tasks"}:
            store.hint("changed")

    label_studio.fail = hint
    assert reconciler.round(store, reason="hint")
    assert store.publications().published is not None
    assert label_studio.calls["tasks"] < 10
    assert store.hinted_at("changed") is not None, "what came meanwhile is kept for the next round"


def test_a_hint_from_the_future_is_settled_like_any_other(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start(debounce_max_s=0)
    (store,) = reconciler.discover()
    store.hint("changed")
    later = time.time_ns() + 3600 * 10**9
    os.utime(store.path("hints", "changed"), ns=(later, later))
    assert reconciler.round(store, reason="hint")
    assert store.publications().published is not None
    assert store.hinted_at("changed") is None


def test_a_person_changes_the_model_version_while_scores_are_imported(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    some = next(iter(label_studio.task_rows))

    def change(name: str) -> None:
        if name == "import_predictions":
            label_studio.predictions[999_999] = (some, "their-model", 0.5)
            label_studio.settings["model_version"] = "their-model"

    label_studio.fail = change
    store = run(reconciler)
    assert label_studio.settings["model_version"] == "their-model"
    known = store.publications()
    assert (known.published, known.candidate, known.leftovers) == (None, None, ())
    assert set(label_studio.model_versions(1)) == {"their-model"}, "our scores were cleaned up"
    assert list(store.path("publications").iterdir()) == []


def test_taking_over_counts_once(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start()
    some = next(iter(label_studio.task_rows))
    label_studio.predictions[999_999] = (some, "their-model", 0.5)
    label_studio.settings["model_version"] = "their-model"
    reconciler.connect(1, own_url=None, dry_run=False, take_over=True)
    store = run(reconciler)
    assert store.publications().published is not None
    label_studio.settings["model_version"] = "their-model"
    for task_id in label_studio.stream()[:3] or list(label_studio.task_rows)[30:34]:
        label_studio.annotate(task_id)
    store.hint("changed")
    run(reconciler)
    assert label_studio.settings["model_version"] == "their-model"


def test_disconnect_then_connect_publishes_again(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    reconciler.disconnect(1, dry_run=False)
    assert reconciler.stores.all() == []
    assert label_studio.settings["sampling"] == "Sequential sampling"
    assert label_studio.connection_rows == []
    assert label_studio.webhook_rows == []
    reconciler.connect(1, own_url=None, dry_run=False)
    (again,) = reconciler.discover()
    assert again.key == store.key
    reconciler.round(again, reason="hint")
    queue = served(again)
    assert label_studio.settings["model_version"] == queue.name
    assert label_studio.stream() == list(queue.task_ids)


def test_connecting_while_a_round_looks_keeps_the_project(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    label_studio.connection_rows.clear()
    label_studio.webhook_rows.clear()
    reconciler, worker = start(), start()

    def timer_round(name: str) -> None:
        if name == "create_connection":
            for store in worker.stores.all():
                worker.round(store, reason="timer")

    label_studio.fail = timer_round
    reconciler.connect(1, own_url=None, dry_run=False)
    assert len(reconciler.stores.all()) == 1
    assert len(label_studio.connection_rows) == len(label_studio.view_rows) == 1


def test_a_connection_deleted_in_label_studio_ends_the_work(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start(discover_s=0.001)
    store = run(reconciler)
    label_studio.connection_rows.clear()
    assert reconciler.round(store, reason="timer")
    assert reconciler.stores.all() == []


def test_failing_imports_do_not_pile_up(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start()
    (store,) = reconciler.discover()

    def fail(name: str) -> None:
        if name == "update_project" and label_studio.calls["import_predictions"]:
            raise LabelStudioUnavailable("away at the switch")

    label_studio.fail = fail
    for _ in range(4):
        reconciler.round(store, reason="hint")
    assert len(list(store.path("publications").iterdir())) == 1
    label_studio.fail = lambda name: None
    reconciler.round(store, reason="hint")
    queue = served(store)
    assert set(label_studio.model_versions(1)) == {queue.name}
    assert report(store).labels_by_origin == {"initial": 24}


def test_a_renamed_control_makes_the_old_labels_void(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    config = str(label_studio.settings["label_config"])
    label_studio.settings["label_config"] = config.replace('name="kind"', 'name="sort"')
    store.hint("changed")
    run(reconciler)
    assert report(store).labeled == 0


def test_dropped_scores_are_found_and_the_rest_is_served(
    start: Start, label_studio: FakeLabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    original = label_studio.import_predictions
    dropped: list[int] = []

    def drop(project_id: int, items: Sequence[PredictionItem]) -> int:
        dropped.append(items[4].task)
        return original(project_id, [item for item in items if item.task != items[4].task])

    label_studio.import_predictions = drop  # type: ignore[method-assign]
    store = run(start())
    queue = served(store)
    assert (queue.dropped, len(queue.task_ids)) == (1, 11)
    assert dropped[0] not in queue.task_ids
    assert str(dropped[0]) in caplog.text


def test_when_every_score_is_dropped_the_old_queue_stays(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    label_studio.import_predictions = lambda project_id, items: 0  # type: ignore[method-assign]
    store = run(start())
    assert store.publications().published is None
    assert label_studio.settings["model_version"] == "rarefirst"
    assert any("stored none of 12" in problem for problem in report(store).problems)


def test_a_damaged_mirror_is_read_again(start: Start, label_studio: FakeLabelStudio) -> None:
    reconciler = start()
    store = run(reconciler)
    for data in store.path("mirror", "tasks.lance", "data").iterdir():
        data.write_bytes(b"torn")
    again = start()
    again.round(store, reason="hint")
    label_studio.annotate(label_studio.stream()[0])
    again.round(store, reason="hint")
    assert report(store).tasks == 60
    assert report(store).labels_by_origin == {"initial": 24, "queue": 1}


def test_a_mirror_damaged_under_a_running_worker_is_read_again(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start(backoff_max_s=0.01)
    store = run(reconciler)
    for data in store.path("mirror", "tasks.lance", "data").iterdir():
        data.unlink()
    label_studio.annotate(label_studio.stream()[0])
    for _ in range(3):  # it fails, is looked at and set aside; then everything is read
        run(reconciler, hint="changed")
    found = MirrorReader(store.path("mirror")).tasks()
    assert found is not None
    assert (len(found), len(found.rows(state="labeled"))) == (60, 25)
    assert report(store).labels_by_origin == {"initial": 24, "queue": 1}
    assert report(store).embedded == 60


def test_damage_that_nobody_ran_into_is_found_when_ids_are_compared(
    start: Start, label_studio: FakeLabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    reconciler = start(check_ids_s=0.001)
    store = run(reconciler)
    (data,) = store.path("mirror", "tasks.lance", "data").iterdir()
    raw = data.read_bytes()
    assert b"green" in raw
    data.write_bytes(raw.replace(b"green", b"greem"))
    time.sleep(0.01)
    run(reconciler, hint="deleted")
    assert "set aside: its files hold other tasks than were written" in caplog.text
    run(reconciler, hint="changed")
    found = MirrorReader(store.path("mirror")).tasks()
    assert found is not None
    assert set(found.labels) == {"", "red", "green", "blue"}


def test_a_damaged_ledger_costs_its_damaged_lines_only(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    store = run(start())
    with store.path("ledger.jsonl").open("ab") as file:
        file.write(b'\xc6\x19)7\xbf\n[1]\n"abandoned"\n{"abandoned": 3}\n')
    store.path("label_config.sha256").write_bytes(b"\xc6\x19\xff")
    label_studio.annotate(label_studio.stream()[0])
    again = start()
    run(again, hint="changed")
    assert report(store).problems == ()
    assert report(store).labels_by_origin == {"initial": 24, "queue": 1}


def test_a_clock_that_jumped_back_puts_nothing_off(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start(fit_idle_s=600, check_ids_s=600)
    store = run(reconciler)
    label_studio.annotate(label_studio.stream()[0])
    run(reconciler, hint="changed")
    before = served(store)
    sync = store.read("sync.json", SyncState)
    assert sync is not None
    later = time.time() + 3600
    written = sync.model_copy(update={"labels_changed_s": later, "ids_checked_s": later})
    store.write("sync.json", written)
    run(reconciler)
    assert served(store).version != before.version, "the label is fitted"
    checked = store.read("sync.json", SyncState)
    assert checked is not None
    assert checked.ids_checked_s < later, "ids were compared"


def test_a_failed_training_is_tried_again_though_the_clock_jumped_back(
    start: Start, label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def fails(context: object, run_dir: Path, log: Path, labels: int) -> int:
        tried.append(1)
        log.write_text("out of luck")
        return 1

    monkeypatch.setattr(bootstrap, "_child", fails)
    reconciler = start(bootstrap_min_labels=20)
    store = run(reconciler)
    run(reconciler)
    assert len(tried) == 1, "it has a pause"
    failure = store.read("bootstrap_failed.json", bootstrap.BootstrapFailure)
    assert failure is not None
    later = failure.model_copy(update={"retry_s": failure.retry_s + 3600})
    store.write("bootstrap_failed.json", later)
    run(reconciler)
    assert len(tried) == 2


def test_the_frozen_model_is_bit_identical_after_everything(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    before = {
        path.relative_to(store.root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.path("backbones").rglob("*.safetensors")
    }
    assert len(before) == 1
    for _ in range(2):
        for task_id in label_studio.stream()[:3]:
            label_studio.annotate(task_id)
        store.hint("changed")
        run(reconciler)
    after = {
        path.relative_to(store.root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.path("backbones").rglob("*.safetensors")
    }
    assert after == before
    (version,) = {path.parent for path in store.path("versions").glob("v0003/version.json")}
    card = VersionCard.model_validate_json((version / "version.json").read_bytes())
    assert card.config["frozen_model"] == {
        "architecture": "cnn4",
        "weights": "none",
        "how": "untrained",
        "labels": 0,
    }


def test_no_readable_labeled_image_still_gives_a_queue(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    for task_id, row in list(label_studio.task_rows.items()):
        if row.annotations:
            label_studio.task_rows[task_id] = row.model_copy(update={"data": {"image": "/nowhere"}})
    store = run(start(bootstrap_min_labels=5))
    queue = served(store)
    assert queue.kind == "diversity"
    assert any("none of the labeled images" in reason for reason in report(store).why_not)


def test_a_kill_while_connecting_does_not_lose_what_was_there_before(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    (store,) = reconciler.discover()

    def die(name: str) -> None:
        if name == "create_view" and label_studio.calls[name] == 1:
            raise LabelStudioUnavailable("killed here")

    label_studio.fail = die
    reconciler.round(store, reason="hint")
    assert label_studio.settings["sampling"] == "Uncertainty sampling"
    run(reconciler)
    reconciler.disconnect(1, dry_run=False)
    assert label_studio.settings["sampling"] == "Sequential sampling"
    assert label_studio.view_rows == []


def test_old_scores_wait_when_something_happened(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start()
    store = run(reconciler)
    for _ in range(2):
        for task_id in label_studio.stream()[:3]:
            label_studio.annotate(task_id)
        store.hint("changed")
        run(reconciler)
    label_studio.calls.clear()

    def hint(name: str) -> None:
        if name == "delete_prediction":
            store.hint("changed")

    label_studio.fail = hint
    store.hint("force_fit")
    run(reconciler)
    assert label_studio.calls["delete_prediction"] == 1
    assert store.publications().leftovers != ()
    label_studio.fail = lambda name: None
    run(reconciler)
    assert store.publications().leftovers == ()


def test_a_hint_that_comes_during_the_look_is_not_taken_for_seen(
    start: Start, label_studio: FakeLabelStudio
) -> None:
    reconciler = start(debounce_max_s=0)
    store = run(reconciler)
    queue = label_studio.stream()
    label_studio.annotate(queue[0])
    label_studio.annotate(queue[1])

    def third_label(name: str) -> None:
        # After this look has read the tasks, and before it is through.
        if name == "task_ids" and not label_studio.task_rows[queue[2]].annotations:
            label_studio.annotate(queue[2])
            store.hint("changed")

    label_studio.fail = third_label
    store.hint("changed")
    store.hint("deleted")
    run(reconciler)
    assert report(store).labels_by_origin == {"initial": 24, "queue": 3}
    assert len(label_studio.imports) == 2
