"""A data directory of an earlier version goes on under this one, and loses nothing.

The directory was made by an earlier commit of this repository; tests/upgrade says which and how.
"""

from __future__ import annotations

import json
import tarfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from backend.data_format import FORMAT, open_data
from backend.labelstudio.records import Connection, TaskRecord, View, Webhook
from backend.pausing import resume_project
from backend.pinning import pinned
from backend.projects import ProjectStore
from backend.reconcile.ledger import Ledger
from backend.reports import RoundEntry
from backend.settings import Settings
from backend.status import service_status
from backend.stored_project import StoredProject
from backend.versions import activate_version, follow_labels, list_versions
from tests.unit.backend.reconcile.fake_label_studio import FakeLabelStudio
from tests.unit.backend.reconcile.rounds import settings_of
from tests.unit.backend.reconcile.squares import Service
from tests.unit.backend.reconcile.tiny_network import ADDRESS

ARCHIVE = Path(__file__).parents[3] / "upgrade" / "old_directory.tar.gz"


def restored(fields: dict[str, Any]) -> FakeLabelStudio:
    """Label Studio as it was when the directory was made."""
    fake = FakeLabelStudio()
    tasks = [TaskRecord.model_validate(row) for row in fields["tasks"]]
    fake.task_rows = {row.id: row for row in tasks}
    fake.now = datetime.fromisoformat(str(fields["now"]))
    fake.truth = {int(i): kind for i, kind in fields["truth"].items()}
    fake.predictions = {
        key: (task, name, score) for key, task, name, score in fields["predictions"]
    }
    fake.connection_rows = [Connection.model_validate(r) for r in fields["connections"]]
    fake.webhook_rows = [Webhook.model_validate(row) for row in fields["webhooks"]]
    fake.view_rows = [View.model_validate(row) for row in fields["views"]]
    fake.settings = dict(fields["settings"])
    fake.settings["created_at"] = datetime.fromisoformat(str(fake.settings["created_at"]))
    fake._next = int(fields["next"])
    return fake


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """The service of today on the directory of then."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    known = json.loads((tmp_path / "label_studio.json").read_text())
    settings: Settings = settings_of(
        data_dir=tmp_path / "data",
        backbone=ADDRESS,
        top_k=20,
        tail_min_labels=10,
        tail_threshold=0.5,
        control_share=0.2,
    )
    assert open_data(settings.data_dir) == 1
    return Service(restored(known), settings)


def what_is_kept(settings: Settings, store: ProjectStore) -> dict[str, Any]:
    """All that a person would miss."""
    stored, ledger = StoredProject(settings, 1), Ledger(store.path("ledger.jsonl"))
    tasks = stored.tasks()
    pin = pinned(store)
    return {
        "labels": stored.labels(),
        "skipped": tasks.rows(state="skipped").tolist(),
        "origins": {int(i): ledger.origin(int(i)) for i in tasks.ids},
        "draws": [(draw.newest, draw.control) for draw in ledger.draws()],
        "versions": [row.name for row in list_versions(settings, 1).versions],
        "activated": pin.version if pin else None,
        "tail": stored.tail,
        "history": [entry.publication for entry in store.history(RoundEntry)],
        "connection": store.path("connection.json").read_text(),
    }


def test_the_old_directory_is_what_it_says(service: Service) -> None:
    kept = what_is_kept(service.settings, service.store)
    assert kept["versions"] == ["v0001", "v0002", "v0003", "v0004"]
    assert kept["activated"] == "v0002"
    assert len(kept["labels"]) == 33
    assert len(kept["skipped"]) == 1
    assert kept["draws"]
    assert len(kept["history"]) == 5
    assert service.store.paused
    assert json.loads((service.settings.data_dir / "format.json").read_text())["format"] == FORMAT


def test_nothing_is_lost_by_a_round(service: Service) -> None:
    before = what_is_kept(service.settings, service.store)
    served = service.served
    embedded = service.label_studio.calls["import_predictions"]
    resume_project(service.settings, 1)
    service.store.hint("changed")
    service.round()
    after = what_is_kept(service.settings, service.store)
    for name in before.keys() - {"history", "draws", "origins"}:
        assert after[name] == before[name], name
    assert after["history"][: len(before["history"])] == before["history"]
    assert after["draws"][: len(before["draws"])] == before["draws"]
    # The version that a person activated is served on, in its order.
    assert service.served.version == "v0002"
    assert list(service.served.task_ids) == list(served.task_ids)
    assert service.label_studio.calls["import_predictions"] in (embedded, embedded + 1)
    (told,) = service_status(service.settings, 1).projects
    assert not told.problems


def test_it_goes_on(service: Service) -> None:
    resume_project(service.settings, 1)
    service.round()
    follow_labels(service.settings, 1)
    service.round()
    assert service.served.version == "v0005"  # of the labels since v0004
    service.next_version()
    kept = what_is_kept(service.settings, service.store)
    assert kept["versions"][-2:] == ["v0005", "v0006"]
    assert kept["activated"] is None
    # What the version before made can be gone back to.
    activate_version(service.settings, 1, "v0003")
    service.round()
    assert service.served.version == "v0003"
