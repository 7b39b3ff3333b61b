"""Rounds on a project of coloured squares in the Label Studio in memory: what tests begin with."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import cast

from click.testing import Result

from backend.labelstudio.client import LabelStudioClient
from backend.projects import Hint, ProjectStore, ProjectStores, Publication
from backend.reconcile.loop import Reconciler
from backend.reports import ProjectReport
from backend.settings import Settings
from tests.unit.backend.reconcile.fake_label_studio import FakeLabelStudio

#: Makes the loop; what it is called with are settings.
Start = Callable[..., Reconciler]
#: Runs a command on project 1; ``fails`` where it is to exit with 1.
Say = Callable[..., Result]


def squares(count: int, *, blue: Collection[int], labeled: int) -> FakeLabelStudio:
    """A project connected by hand: red and green squares, some blue, the first of them labeled."""
    fake = FakeLabelStudio()
    for i in range(count):
        fake.add_task("blue" if i in blue else ("red", "green")[i % 2])
    for task_id in list(fake.task_rows)[:labeled]:
        fake.annotate(task_id)
    fake.create_connection(1, "http://localhost:9090", title="rarefirst")
    return fake


def settings_of(**given: object) -> Settings:
    """Settings under which few labels make a version, and none trains a frozen model."""
    return Settings.model_validate(
        {
            "label_studio_url": FakeLabelStudio.base_url,
            "bootstrap_min_labels": 10_000,
            "fit_every_labels": 3,
            "fit_idle_s": 3600,
            "delete_pause_s": 0,
            **given,
        }
    )


def reconciler_of(label_studio: FakeLabelStudio, settings: Settings) -> Reconciler:
    """The loop of one worker."""
    stores = ProjectStores(settings.data_dir, label_studio.base_url)
    return Reconciler(settings, cast(LabelStudioClient, label_studio), stores)


def starter(label_studio: FakeLabelStudio, data_dir: Path, **usual: object) -> Start:
    """Makes the loop of a file's tests, under its usual settings and those that a test adds."""

    def start(**changes: object) -> Reconciler:
        given = {"data_dir": data_dir, **usual, **changes}
        return reconciler_of(label_studio, settings_of(**given))

    return start


def run(reconciler: Reconciler, *, reason: str = "hint", hint: Hint | None = None) -> ProjectStore:
    """One round of the only project; ``hint``: what it is told before."""
    (store,) = reconciler.discover()
    if hint is not None:
        store.hint(hint)
    assert reconciler.round(store, reason=reason)
    return store


def served(store: ProjectStore) -> Publication:
    """What is published; there must be something."""
    found = store.publications().published
    assert found is not None
    return found


def report(store: ProjectStore) -> ProjectReport:
    """What the last round said."""
    found = store.read("report.json", ProjectReport)
    assert found is not None
    return found
