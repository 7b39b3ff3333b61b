"""`rarefirst status`, `pause`, `resume`: read from files, for people and for machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend import heartbeat
from backend.cli import app
from backend.jobs import Jobs
from backend.labelstudio.connection_record import ConnectionReport, Step
from backend.project_settings import FILE, decide
from backend.projects import ProjectStore
from backend.reconcile.state import Failure, Failures
from backend.reports import ProjectReport, RareEstimate, RareLeftReport, ServiceReport
from backend.settings import Settings
from backend.status import service_status
from tests.recorded import LABEL_STUDIO


@pytest.fixture
def runner(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("RAREFIRST_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", LABEL_STUDIO)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "not-a-token")
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner()


@pytest.fixture
def report(store: ProjectStore) -> ProjectReport:
    made = ProjectReport(
        project_id=1,
        title="digits",
        at=datetime.now(UTC),
        tasks=1400,
        labeled=170,
        skipped=2,
        embedded=1398,
        failed={"truncated file": 2},
        labels_by_class={"ship": 4, "cat": 100},
        labels_by_origin={"initial": 160, "queue": 10},
        unknown_labels={"zebra": 1},
        tail=("ship",),
        unlearnable=("dog",),
        labels_since_fit=3,
        backbone="bootstrapped cnn4",
        version="v0007",
        queue_left=2,
        next="fit: at 10 new labels",
        why_not=("the next fit is at 10 new labels, there are 3",),
        problems=("a webhook is missing",),
        drift=("sampling was changed to Sequential",),
    )
    store.write("report.json", made)
    return made


def test_what_is_left_is_told_with_its_interval(
    runner: CliRunner, store: ProjectStore, report: ProjectReport
) -> None:
    lines = " ".join(runner.invoke(app, ["status"]).stdout.split())
    assert "rare left not known: no random slice is in the queue; RAREFIRST_CONTROL_SHARE" in lines
    left = RareLeftReport(
        control_share=0.1,
        labels=60,
        rare=2,
        found=31,
        tasks=1100,
        newer=5,
        total=RareEstimate(likely=7, low=0, high=51),
        by_class={"ship": RareEstimate(likely=7, low=0, high=51)},
        at_most=9,
        at_most_share=9 / 40,
    )
    store.write("report.json", report.model_copy(update={"rare_left": left}))
    lines = " ".join(runner.invoke(app, ["status"]).stdout.split())
    assert "rare left about 7 rare left (0-51), labeled 31" in lines
    assert (
        "from 60 labels of the random slice, 2 of them rare, for 1100 unlabeled tasks; 5" in lines
    )
    assert "at most 23 % of the rare are left with 95 % confidence" in lines
    assert "hardly any more" not in lines
    (project,) = json.loads(runner.invoke(app, ["status", "--json"]).stdout)["projects"]
    assert project["rare_left"] == left.model_dump()


def test_json_tells_everything(
    runner: CliRunner, store: ProjectStore, report: ProjectReport, publish: Callable[..., object]
) -> None:
    publish([1, 2, 3], [0.1, 0.9, 0.5])
    result = runner.invoke(app, ["status", "--json"])
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said["missing_settings"] == []
    assert said["worker"] == {"alive": False, "heartbeat_age_s": None, "pid": None}
    (project,) = said["projects"]
    assert project["project"] == 1
    assert project["doing"] == "nothing"
    assert project["next"] == "fit: at 10 new labels"
    assert project["why_not"] == list(report.why_not)
    assert project["labels"]["by_class"] == {"ship": 4, "cat": 100}
    assert project["labels"]["total"] == 170
    assert project["tail"] == ["ship"]
    publication = project["publication"]
    assert publication["name"] == "rarefirst-v0007-abc123"
    assert (publication["size"], publication["left"], publication["labels"]) == (3, 2, 40)
    assert datetime.fromisoformat(publication["published_at"]).tzinfo is not None


def test_people_read_the_same(
    runner: CliRunner, report: ProjectReport, publish: Callable[..., object]
) -> None:
    publish([1, 2, 3], [0.1, 0.9, 0.5])
    text = runner.invoke(app, ["status"]).stdout
    for words in (
        "Project 1: digits",
        "2 of 3 tasks left",
        "the next fit is at 10 new labels, there are 3",
        "a webhook is missing",
        "sampling was changed",
        "cat 100, ship 4",
        "2: truncated file",
        "1398 of 1400 embedded",
        "does not run; start it with `rarefirst serve`",
    ):
        assert words in text


def test_a_projects_own_settings_and_what_is_wrong_with_them(
    runner: CliRunner, settings: Settings, store: ProjectStore, report: ProjectReport
) -> None:
    extra = {"top_k": 7, "tail_classes": ["ship"], "tail_quota": None, "port": 1}
    store.write(FILE, decide(settings, extra, known={}, seen=(), before=None))
    (project,) = json.loads(runner.invoke(app, ["status", "--json"]).stdout)["projects"]
    assert project["settings"] == {"top_k": 7, "tail_classes": ["ship"], "tail_quota": None}
    assert project["problems"][0] == "a webhook is missing"
    assert project["problems"][1].startswith('extra params: "port": is a setting of the whole')
    words = " ".join(runner.invoke(app, ["status"]).stdout.split())
    assert "own setting tail_classes = ship own setting tail_quota = none" in words
    assert "own setting top_k = 7" in words
    assert 'to mend extra params: "port"' in words


def test_a_project_nobody_looked_at_yet(settings: Settings, store: ProjectStore) -> None:
    (project,) = service_status(settings).projects
    assert project.label_studio == "not looked at yet"
    assert project.publication is None


def test_no_project_says_how_to_connect_one(runner: CliRunner) -> None:
    assert "rarefirst connect --project N" in runner.invoke(app, ["status"]).stdout


def test_a_refused_token_is_shown_though_no_project_is_connected(
    runner: CliRunner, settings: Settings
) -> None:
    refused = ServiceReport(
        at=datetime.now(UTC),
        label_studio_url=LABEL_STUDIO,
        label_studio="Label Studio does not accept the token",
    )
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    path = settings.data_dir / "service.json"
    path.write_text(refused.model_dump_json())
    text = runner.invoke(app, ["status"]).stdout
    assert "does not accept the token" in text
    assert "No project is connected yet" not in text
    said = json.loads(runner.invoke(app, ["status", "--json"]).stdout)
    assert said["label_studio"] == "Label Studio does not accept the token"

    fine = refused.model_copy(update={"label_studio": "reachable"})
    path.write_text(fine.model_dump_json())
    text = runner.invoke(app, ["status"]).stdout
    assert "reachable, asked at" in text
    assert "No project is connected yet" in text

    # What was found out about another Label Studio says nothing of this one.
    elsewhere = refused.model_copy(update={"label_studio_url": "http://elsewhere:8080"})
    path.write_text(elsewhere.model_dump_json())
    assert service_status(settings).label_studio == "not looked at yet"
    path.write_text("torn")
    assert service_status(settings).label_studio == "not looked at yet"


def test_missing_settings_are_named(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABEL_STUDIO_API_KEY")
    assert "LABEL_STUDIO_API_KEY" in runner.invoke(app, ["status"]).stdout


def test_the_worker_lives_while_its_heart_beats(settings: Settings) -> None:
    heartbeat.begin(settings.data_dir, 4711)
    worker = service_status(settings).worker
    assert worker.alive
    assert worker.pid == 4711
    long_ago = time.time() - 60
    os.utime(settings.data_dir / "worker.heartbeat", (long_ago, long_ago))
    assert not service_status(settings).worker.alive
    heartbeat.beat(settings.data_dir, 4711)
    assert service_status(settings).worker.alive
    heartbeat.end(settings.data_dir)
    assert service_status(settings).worker.heartbeat_age_s is None
    heartbeat.beat(settings.data_dir, 4711)
    assert service_status(settings).worker.pid == 4711


def test_a_note_of_a_dead_process_is_not_work(settings: Settings, store: ProjectStore) -> None:
    store.note("embed", 3, 10, "images")
    (project,) = service_status(settings).projects
    assert project.doing.startswith("embed: images")
    assert (project.done, project.total) == (3, 10)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    note = store.progress().model_copy(update={"pid": dead.pid})
    store.write("progress.json", note)
    (project,) = service_status(settings).projects
    assert (project.doing, project.total) == ("nothing", 0)


def test_a_note_of_another_container_counts_while_the_worker_lives(
    settings: Settings, store: ProjectStore
) -> None:
    store.note("bootstrap", 3, 10, "training")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    # An id that is nobody's here, noted where it was the worker's.
    elsewhere = {"pid": dead.pid, "space": "another/4026531836"}
    store.write("progress.json", store.progress().model_copy(update=elsewhere))
    assert service_status(settings).projects[0].doing == "nothing"
    heartbeat.begin(settings.data_dir, 1)
    (project,) = service_status(settings).projects
    assert project.doing.startswith("bootstrap: training")
    assert project.done == 3
    # And one that somebody has here, of a container that is gone.
    elsewhere["pid"] = os.getpid()
    store.write("progress.json", store.progress().model_copy(update=elsewhere))
    heartbeat.end(settings.data_dir)
    assert service_status(settings).projects[0].doing == "nothing"


def test_pause_and_resume(
    runner: CliRunner, settings: Settings, store: ProjectStore, report: ProjectReport
) -> None:
    assert runner.invoke(app, ["pause", "--project", "1"]).exit_code == 0
    assert store.path("paused").exists()
    assert service_status(settings).projects[0].next.startswith("nothing, paused")
    assert runner.invoke(app, ["resume", "--project", "1"]).exit_code == 0
    assert not store.path("paused").exists()
    assert store.hinted_at("changed") is not None
    assert Jobs(settings).huey.pending_count() == 1


@pytest.mark.parametrize(
    "command",
    [
        ["status", "--project", "5"],
        ["pause", "--project", "5"],
        ["resume", "--project", "5"],
        ["score", str(Path(__file__)), "--project", "5"],
    ],
)
def test_a_project_that_is_not_connected_is_one_sentence(
    runner: CliRunner, command: list[str]
) -> None:
    result = runner.invoke(app, command)
    assert result.exit_code == 1
    assert "project 5 is not connected" in result.stderr
    assert "Traceback" not in result.output


def test_wrong_settings_are_named_without_their_values(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "secret-99999")
    result = runner.invoke(app, ["status"])
    assert result.exit_code == 2
    assert "PORT" in result.stderr
    assert "secret-99999" not in result.stderr


@pytest.mark.parametrize("command", [["nothing"], ["connect"], ["score", "--project", "1"]])
def test_wrong_usage_is_exit_code_two(runner: CliRunner, command: list[str]) -> None:
    assert runner.invoke(app, command).exit_code == 2


@pytest.mark.parametrize("command", ["connect", "disconnect"])
def test_connecting_without_settings_names_them(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.delenv("LABEL_STUDIO_URL")
    result = runner.invoke(app, [command, "--project", "1"])
    assert result.exit_code == 1
    assert "LABEL_STUDIO_URL" in result.stderr


@pytest.mark.parametrize("words", ["--help", "status"])
def test_quick_commands_load_nothing_heavy(settings: Settings, words: str) -> None:
    code = (
        "import sys\n"
        "from backend.cli import app\n"
        "try:\n"
        f"    app([{words!r}])\n"
        "except SystemExit as done:\n"
        "    heavy = {'torch', 'label_studio_sdk', 'lancedb'} & set(sys.modules)\n"
        "    sys.exit(done.code or (f'loaded {heavy}' if heavy else 0))\n"
    )
    environment = {"RAREFIRST_DATA_DIR": str(settings.data_dir), "PATH": os.environ["PATH"]}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert run.returncode == 0, run.stderr


def test_help_names_the_commands(runner: CliRunner) -> None:
    text = runner.invoke(app, ["--help"]).stdout
    for name in ("serve", "connect", "disconnect", "status", "score", "pause", "resume"):
        assert name in text
    assert "bootstrap" not in text


@pytest.mark.parametrize("problem", [(), ("Label Studio refuses our address",)])
@pytest.mark.parametrize(
    ("command", "flags"),
    [("connect", []), ("connect", ["--take-over"]), ("disconnect", [])],
)
def test_connecting_shows_its_steps_and_fails_where_something_is_to_mend(
    runner: CliRunner,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    flags: list[str],
    problem: tuple[str, ...],
) -> None:
    asked: list[tuple[object, ...]] = []
    made = ConnectionReport(
        project_id=3,
        dry_run=True,
        steps=(
            Step(what="sampling", before="Sequential", after="Uncertainty", state="would"),
            Step(what="tab", before="Rarest first", after="Rarest first", state="kept"),
        ),
        notes=("the model version follows",),
        problems=problem,
    )

    def fake(settings: Settings, project_id: int, **options: object) -> ConnectionReport:
        asked.append((project_id, options))
        return made

    monkeypatch.setattr(f"backend.connecting.{command}_project", fake)
    result = runner.invoke(app, [command, "--project", "3", "--dry-run", *flags])
    assert result.exit_code == (1 if problem else 0)
    options: dict[str, object] = {"dry_run": True}
    if command == "connect":
        options |= {"own_url": None, "take_over": bool(flags)}
    assert asked == [(3, options)]
    for words in ("nothing is changed", "Sequential", "would", "note: the model version", *problem):
        assert words in result.stdout
    said = json.loads(runner.invoke(app, [command, "--project", "3", "--json"]).stdout)
    assert said["steps"][0]["after"] == "Uncertainty"


def test_images_that_cannot_be_read_are_listed(
    runner: CliRunner, store: ProjectStore, report: ProjectReport
) -> None:
    def failure(number: int, in_s: float) -> Failure:
        return Failure(
            reason="no answer in time from slow.test",
            digest="d",
            image=f"http://slow.test/{number}.png",
            tries=3,
            next_try_s=time.time() + in_s,
        )

    due = {7: failure(7, -5)}
    later = {number: failure(number, 600 + 60 * number) for number in range(100, 130)}
    store.write("failures.json", Failures(by_task=later | due))
    said = json.loads(runner.invoke(app, ["status", "--project", "1", "--json"]).stdout)
    listed = said["projects"][0]["unreadable"]
    assert len(listed) == 31
    assert [image["task"] for image in listed[:3]] == [7, 100, 101]
    assert listed[0]["image"] == "http://slow.test/7.png"
    assert (listed[0]["reason"], listed[0]["tries"]) == ("no answer in time from slow.test", 3)
    assert datetime.fromisoformat(listed[0]["next_try_at"]) < datetime.now(UTC)

    text = runner.invoke(app, ["status", "--project", "1"]).stdout
    assert "31 images that could not be read" in text
    assert text.count("http://slow.test/") == 20
    assert "and 11 more" in text
    assert " now" in text
    assert "in 2 h" in text
    assert "2: truncated file" in text
    assert "http://slow.test/" not in runner.invoke(app, ["status"]).stdout


def test_many_reasons_do_not_fill_the_screen(
    runner: CliRunner, store: ProjectStore, report: ProjectReport
) -> None:
    many = {f"reason {number}": 100 - number for number in range(30)}
    store.write("report.json", report.model_copy(update={"failed": many}))
    text = runner.invoke(app, ["status"]).stdout
    assert "81: reason 19" in text
    assert "reason 20" not in text
    assert f"{sum(100 - n for n in range(20, 30))}: for further reasons" in text
