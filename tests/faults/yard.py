"""What the fault suite works on: a project in a real Label Studio, and the service around it.

Label Studio is reached through one proxy and reaches the web process through another; the data
directory is a small disk of its own; the service's clock can be moved. The people in it do not go
through any of that: what they did and see is asked of Label Studio directly.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

from backend.projects import ProjectStore, ProjectStores
from backend.reports import ProjectReport
from demo.annotator import file_name
from demo.backend_process import BackendSettings
from demo.label_studio_api import LabelStudioApi
from demo.ports import free_port
from tests.e2e.harness import PASSWORD, USER, Project, Studio, make_project
from tests.e2e.stall_proxy import StallProxy
from tests.faults.disk import Disk
from tests.faults.parts import Parts

CLOCK = Path(__file__).parent / "clock"
POOL = {"pool_size": 100, "rare_in_pool": 24, "seed_labels": 60, "seed": 5}
LEAST_UNLABELED = 60

#: Nothing waits for long, and every label makes a new order.
QUICK = {
    "RAREFIRST_DEBOUNCE_S": "0.2",
    "RAREFIRST_DEBOUNCE_MAX_S": "1",
    "RAREFIRST_TIMER_S": "0.7",
    "RAREFIRST_DISCOVER_S": "3",
    "RAREFIRST_CHECK_IDS_S": "5",
    "RAREFIRST_BACKOFF_MAX_S": "1",
    "RAREFIRST_FIT_EVERY_LABELS": "2",
    "RAREFIRST_FIT_IDLE_S": "0.3",
    "RAREFIRST_TOP_K": "8",
    "RAREFIRST_DELETE_PAUSE_S": "0",
    "RAREFIRST_BOOTSTRAP_STEPS": "30",
    "RAREFIRST_TAIL_MIN_LABELS": "40",
    "RAREFIRST_KEEP_VERSIONS": "3",
    "RAREFIRST_FETCH_TIMEOUT_S": "3",
    # Only when a round asks for one: its child is there to be killed.
    "RAREFIRST_FINETUNE": "on",
    "RAREFIRST_FINETUNE_DEVICE": "cpu",
    "RAREFIRST_FINETUNE_EVERY_LABELS": "100000",
    "RAREFIRST_FINETUNE_EPOCHS": "1",
    "RAREFIRST_FINETUNE_MIN_STEPS": "5",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Given:
    """A label that was given and not taken back."""

    task: int
    digit: str
    annotation: int


class Yard:
    """The project, the service, the borders, the disk and the clock.

    Args:
        studio: a running Label Studio.
        run_dir: logs, and where the disk is mounted.

    Attributes:
        given: every label there should be, by task; the seeds included.
        damaged: versions that a fault damaged: they stay, and `status` says so.
        served_twice: tasks that the label stream gave though they were labeled.
        labels: labels given by the annotator; rare: those of them of a rare digit.
        expected_rare: rare ones that random order would have found by then.
    """

    def __init__(self, studio: Studio, run_dir: Path) -> None:
        self.studio = studio
        self.disk = Disk(run_dir / "data")
        self.project: Project = make_project(studio, title="faults", **POOL)
        self.to_studio = StallProxy(studio.url)
        port = free_port()
        self.to_web = StallProxy(f"http://127.0.0.1:{port}")
        self._clock = run_dir / "clock"
        path = os.pathsep.join([str(CLOCK), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.settings = BackendSettings(
            label_studio_url=self.to_studio.url,
            token=studio.login.token,
            port=port,
            data_dir=self.disk.folder,
            user=USER,
            password=PASSWORD,
            extra={
                **QUICK,
                "RAREFIRST_TAIL_CLASSES": ",".join(self.project.digits.rare),
                "RAREFIRST_OWN_URL": self.to_web.url,
                "PYTHONPATH": path,
                "FAULTS_CLOCK": str(self._clock),
            },
        )
        self.parts = Parts(self.settings, run_dir)
        self.given: dict[int, Given] = {}
        self.served_twice: list[int] = []
        self.damaged: set[str] = set()
        self.labels = self.rare = 0
        self.expected_rare = 0.0
        self.digits: dict[int, str] = {}
        self._annotator = self.project.annotator()
        self._know_the_tasks()

    @property
    def api(self) -> LabelStudioApi:
        """Label Studio, without any proxy."""
        return self.studio.owner

    def start(self) -> None:
        """Start the service, connect the project as the settings page does, wait for a queue."""
        self.parts.start()
        body = {
            "project": self.project.id,
            "url": self.to_web.url,
            "title": "by hand",
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": USER,
            "basic_auth_pass": PASSWORD,
        }
        self.api.request("POST", "/api/ml", body=body)

    def close(self) -> None:
        """End everything."""
        self.parts.stop()
        self.to_web.close()
        self.to_studio.close()
        self.disk.close()

    @property
    def store(self) -> ProjectStore | None:
        """The folder of the project, None before there is one."""
        try:
            found = ProjectStores(self.disk.folder, self.to_studio.url).all()
        except OSError:
            return None
        return found[0] if found else None

    @property
    def the_store(self) -> ProjectStore:
        """The folder of the project."""
        store = self.store
        assert store is not None, "the project's folder is gone"
        return store

    @property
    def report(self) -> ProjectReport | None:
        """What `status` says of it."""
        store = self.store
        try:
            return store.read("report.json", ProjectReport) if store is not None else None
        except OSError:
            return None

    def move_clock(self, seconds: float) -> None:
        """Let the service's clock be wrong by so much from now on."""
        temporary = self._clock.with_suffix(".new")
        temporary.write_text(str(seconds))
        temporary.replace(self._clock)

    # People -----------------------------------------------------------------------------------

    def label(self, count: int) -> None:
        """Label what is served next; note what was served though it has a label."""
        for _ in range(count):
            served = self._annotator.next_task()
            if served is None:
                return
            task, digit = served
            if task in self.given:
                self.served_twice.append(task)
            left = [self.digits[i] for i in self.digits if i not in self.given]
            self.expected_rare += sum(d in self.project.digits.rare for d in left) / len(left)
            done = self._annotator.submit(task, digit)
            self.given[task] = Given(task, digit, done.annotation)
            self.labels += 1
            self.rare += digit in self.project.digits.rare

    def take_back(self, rng: random.Random, count: int) -> None:
        """Delete some labels, as a person does who was wrong: their tasks are to be served anew."""
        chosen = rng.sample(sorted(self.given), min(count, len(self.given)))
        for task in chosen:
            given = self.given.pop(task)
            self.api.request("DELETE", f"/api/annotations/{given.annotation}/")

    @property
    def unlabeled(self) -> int:
        """Tasks without a label."""
        return len(self.digits) - len(self.given)

    def _know_the_tasks(self) -> None:
        truth = self.project.digits.truth
        for task in self.annotations():
            self.digits[task.id] = truth[task.name]
            for annotation, digit in task.labels.items():
                self.given[task.id] = Given(task.id, digit, annotation)

    def annotations(self) -> list[Told]:
        """Every task with its labels, as Label Studio tells it."""
        told = []
        for task in self.api.tasks(self.project.id):
            labels: dict[int, str] = {}
            found = task["annotations"]
            assert isinstance(found, list)
            for annotation in found:
                assert isinstance(annotation, dict)
                regions = annotation["result"]
                assert isinstance(regions, list)
                (region,) = regions
                labels[int(str(annotation["id"]))] = region["value"]["choices"][0]  # type: ignore[index,call-overload]
            data = task["data"]
            assert isinstance(data, dict)
            told.append(Told(int(str(task["id"])), file_name(str(data["image"])), labels))
        return told

    # Rest -------------------------------------------------------------------------------------

    def restless(self, *, after: float = 0.0) -> str:
        """Why the loop is not at rest; empty where it has nothing left to do.

        Args:
            after: the last look at Label Studio must be later than this, by the disk's clock.
        """
        store, report = self.store, self.report
        if store is None or report is None:
            return "no report"
        try:
            known, doing = store.publications(), store.progress().doing
            looked = store.path("report.json").stat().st_mtime
        except OSError as error:
            return str(error)
        if looked <= after:
            return "not looked at since"
        if report.label_studio != "reachable":
            return report.label_studio
        if doing != "nothing":
            return f"doing {doing}"
        if (report.labeled, report.labels_since_fit) != (len(self.given), 0):
            return (
                f"{report.labeled} of {len(self.given)} labels seen, "
                f"{report.labels_since_fit} not fitted; next: {report.next}"
            )
        if known.published is None or known.candidate is not None:
            return f"nothing published, or something on its way; next: {report.next}"
        if known.published.version != report.version:
            return f"{report.version} is active, {known.published.version} published"
        if not report.next.startswith("everything is done"):
            return f"next: {report.next}"
        named = self.api.model_version(self.project.id)
        return "" if named == known.published.name else f"Label Studio serves {named!r}"

    def rest(self, *, timeout_s: float = 240.0) -> float:
        """Wait until the loop is at rest after now. Returns: seconds waited."""
        began, after = time.monotonic(), time.time()
        why = "?"
        while time.monotonic() - began < timeout_s:
            why = self.restless(after=after)
            if not why:
                return time.monotonic() - began
            time.sleep(0.1)
        raise AssertionError(
            f"not at rest within {timeout_s:.0f} s: {why}; report: {self.report}\n"
            f"{self.parts.services['worker'].log_tail(40)}"
        )


@dataclass(frozen=True)
class Told:
    """A task as Label Studio tells it: its labels by annotation."""

    id: int
    name: str
    labels: dict[int, str]
