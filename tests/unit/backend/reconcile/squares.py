"""The loop and the commands on a project of coloured squares in the Label Studio in memory.

60 squares, 4 of them blue; 24 labeled, 2 of those blue.
"""

from __future__ import annotations

from pathlib import Path

from backend.projects import ProjectStore, Publication
from backend.reports import ProjectReport
from backend.settings import Settings
from backend.versions import activate_version
from tests.unit.backend.reconcile.fake_label_studio import FakeLabelStudio
from tests.unit.backend.reconcile.rounds import (
    reconciler_of,
    report,
    run,
    served,
    settings_of,
    squares,
)


def begin_squares(data_dir: Path, **changes: object) -> Service:
    """A project after its first round; ``changes`` are settings."""
    label_studio = squares(60, blue=(3, 17, 30, 50), labeled=24)
    usual = {"top_k": 20, "tail_min_labels": 10, "tail_threshold": 0.5}
    settings = settings_of(**{"data_dir": data_dir, **usual, **changes})
    service = Service(label_studio, settings)
    service.round()
    return service


class Service:
    """The loop and the commands, on one data directory."""

    def __init__(self, label_studio: FakeLabelStudio, settings: Settings) -> None:
        self.label_studio = label_studio
        self.settings = settings
        self.loop = reconciler_of(label_studio, settings)

    def round(self) -> ProjectStore:
        return run(self.loop)

    @property
    def store(self) -> ProjectStore:
        (store,) = self.loop.stores.all()
        return store

    @property
    def served(self) -> Publication:
        found = served(self.store)
        assert self.label_studio.settings["model_version"] == found.name
        assert self.label_studio.stream() == [
            i for i in found.task_ids if not self.label_studio.task_rows[i].annotations
        ]
        return found

    @property
    def report(self) -> ProjectReport:
        return report(self.store)

    def label(self, count: int) -> list[int]:
        """Label what is served next."""
        done = self.label_studio.stream()[:count]
        for task_id in done:
            self.label_studio.annotate(task_id)
        self.store.hint("changed")
        return done

    def next_version(self) -> Publication:
        """Label enough for another version, and have it served."""
        before = self.served.version
        self.label(self.settings.fit_every_labels)
        self.round()
        assert self.served.version > before
        return self.served

    def whole_order(self, version: str) -> list[int]:
        """The order of a version over everything that it was not fitted on."""
        settings = self.settings.model_copy(update={"top_k": 1000})
        service = Service(self.label_studio, settings)
        activate_version(settings, 1, version)
        service.round()
        return list(service.served.task_ids)

    def open(self, order: list[int] | tuple[int, ...]) -> list[int]:
        """What of an order nobody labeled."""
        rows = self.label_studio.task_rows
        return [i for i in order if i in rows and not rows[i].annotations]
