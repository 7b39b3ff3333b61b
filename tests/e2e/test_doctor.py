"""The doctor before many broken set-ups of a real Label Studio: all named, those fixable mended."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.doctor.examination import examine
from backend.doctor.finding import Report
from backend.settings import Settings
from demo.backend_process import Backend
from demo.ports import free_port
from tests.e2e.doctor_setups import SET_UPS, SetUp, Stage
from tests.e2e.harness import NewBackend, Studio, make_backend, make_project

# Quick rounds, and a diversity order: nothing is trained here.
EXTRA = {
    "RAREFIRST_BOOTSTRAP_MIN_LABELS": "10000",
    "RAREFIRST_TOP_K": "20",
    "RAREFIRST_TIMER_S": "5",
    "RAREFIRST_DEBOUNCE_S": "0.1",
}
LONGEST_S = 15.0


def settings_of(backend: Backend) -> Settings:
    """The settings of a running service, for calling the doctor without a process of its own."""
    given = backend.settings
    return Settings(
        label_studio_url=given.label_studio_url,
        label_studio_api_key=given.token,
        basic_auth_user=given.user,
        basic_auth_pass=given.password,
        host="127.0.0.1",
        port=given.port,
        own_url=given.url,
        data_dir=given.data_dir,
        bootstrap_min_labels=10_000,
        timer_s=5,
    )


@pytest.fixture(scope="module")
def stage(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One healthy project and service for every set-up."""
    folder = tmp_path_factory.mktemp("rarefirst")
    backend = make_backend(studio.url, studio.login.token, folder, EXTRA)
    backend.start()
    project = make_project(studio, title="doctor", pool_size=30, rare_in_pool=4, seed_labels=10)
    backend.connect(project.id)
    project.wait_for_queue()
    yield Stage(studio, project, backend, settings_of(backend))
    backend.stop()


@pytest.fixture(scope="module")
def table() -> Iterator[list[dict[str, object]]]:
    """What came of each set-up; written where DOCTOR_JSON says."""
    rows: list[dict[str, object]] = []
    yield rows
    path = os.environ.get("DOCTOR_JSON")
    if path:
        named = sum(bool(row["named"]) for row in rows)
        fixable = [row for row in rows if row["fixable"]]
        summary = {
            "benchmark": "doctor",
            "set_ups": len(rows),
            "named_rightly": named,
            "fixable": len(fixable),
            "mended": sum(bool(row["mended"]) for row in fixable),
            "rows": rows,
        }
        Path(path).write_text(json.dumps(summary, indent=1) + "\n")


def trouble(report: Report, *expected: str) -> set[str]:
    """Codes of everything that is a warning or worse, and of the notes that are expected."""
    return {
        finding.code
        for finding in report.findings
        if not finding.fixed
        and (
            finding.severity in ("warning", "error")
            or (finding.severity == "note" and finding.code in expected)
        )
    }


def wait_until_healthy(stage: Stage, *, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while found := trouble(examine(stage.settings, stage.project.id)):
        assert time.monotonic() < deadline, f"still not healthy: {found}"
        time.sleep(0.5)


def test_a_healthy_set_up_has_nothing_wrong(stage: Stage) -> None:
    wait_until_healthy(stage)
    report = examine(stage.settings)
    assert trouble(report, "tab.missing") == set()
    assert report.exit_code == 0
    assert report.skipped == ()
    codes = {finding.code for finding in report.findings}
    assert {"connection.reached", "webhook", "events", "model_version", "images"} <= codes
    said = report.model_dump_json()
    for secret in (stage.settings.label_studio_api_key, stage.settings.basic_auth_pass):
        assert secret not in said


@pytest.mark.parametrize("set_up", SET_UPS, ids=lambda set_up: set_up.name)
def test_a_broken_set_up_is_named_and_mended(
    stage: Stage, table: list[dict[str, object]], set_up: SetUp
) -> None:
    project = set_up.project or stage.project.id
    row: dict[str, object] = {
        "set_up": set_up.name,
        "expected": sorted(set_up.codes),
        "found": [],
        "named": False,
        "fixable": set_up.fixable,
        "mended": False,
    }
    table.append(row)
    with set_up.broken(stage) as settings:
        report = examine(settings or stage.settings, project, fix=set_up.fixable)
        mended = {finding.code for finding in report.findings if finding.fixed}
        left = trouble(report, *set_up.codes)
        found = mended | left
        row |= {"found": sorted(found), "seconds": report.seconds, "named": found == set_up.codes}
        row["mended"] = mended == set_up.codes
        assert found == set_up.codes
        assert mended == (set_up.codes if set_up.fixable else set())
        assert report.exit_code == 0 or not set_up.fixable
        assert report.seconds < LONGEST_S or set_up.fixable
        for finding in report.findings:
            if finding.severity in ("warning", "error"):
                assert finding.what
                assert finding.why
                assert finding.mend
    if set_up.settles:
        wait_until_healthy(stage)


def test_what_a_person_decided_is_not_mended_unasked(stage: Stage) -> None:
    # A set-up before may have hindered a round, which is told of until the next one ends.
    wait_until_healthy(stage)
    stage.patch_project(maximum_annotations=2)
    try:
        fixed = examine(stage.settings, stage.project.id, fix=True)
        assert trouble(fixed) == {"overlap.above_one"}
        assert fixed.exit_code == 1
        assert stage.project.settings()["maximum_annotations"] == 2
    finally:
        stage.patch_project(maximum_annotations=1)


@contextmanager
def hanging_web(backend: Backend) -> Iterator[None]:
    """Stop the web part and the processes that answer for it."""
    part = backend.part_pid("web")
    answering = Path(f"/proc/{part}/task/{part}/children").read_text().split()
    pids = [part, *map(int, answering)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def test_a_right_connection_outlives_a_fix_while_our_web_part_hangs(stage: Stage) -> None:
    """Nobody told the command our address: what it would guess must not replace the right one."""
    before = stage.connection["url"], stage.hook["id"], stage.hook["url"]
    guessing = stage.settings.model_copy(update={"own_url": "", "port": free_port()})
    stage.patch_project(sampling="Sequential sampling")
    with hanging_web(stage.backend):
        report = examine(guessing, stage.project.id, fix=True)
        assert stage.connection["state"] != "CO"
    assert [found.code for found in report.findings if found.fixed] == ["sampling.other"]
    assert "web.absent" in trouble(report)
    assert (stage.connection["url"], stage.hook["id"], stage.hook["url"]) == before
    wait_until_healthy(stage)


def test_the_command_says_what_it_would_do_and_ends_by_severity(stage: Stage) -> None:
    stage.patch_project(sampling="Sequential sampling")
    with pytest.raises(Exception, match="ended with 2"):
        stage.backend.command("doctor", "--dry-run")
    assert stage.project.settings()["sampling"] == "Sequential sampling"
    fixed = examine(stage.settings, fix=True)
    assert [found.code for found in fixed.findings if found.fixed] == ["sampling.other"]
    assert stage.project.settings()["sampling"] == "Uncertainty sampling"


@pytest.mark.slow
def test_addresses_that_label_studio_refuses(own_studio: Studio, new_backend: NewBackend) -> None:
    """Its protections, switched on one after the other once the project is connected."""
    project = make_project(own_studio, title="guarded", pool_size=10, rare_in_pool=2, seed_labels=4)
    backend = new_backend(
        extra=EXTRA, label_studio_url=own_studio.url, token=own_studio.login.token
    )
    backend.connect(project.id)
    project.wait_for_queue()
    settings = settings_of(backend)
    for protection, code in (
        ("SSRF_PROTECTION_ENABLED", "webhook.blocked"),
        ("ML_BLOCK_LOCAL_IP", "connection.blocked"),
    ):
        own_studio.service.stop()
        own_studio.service.env[protection] = "true"
        own_studio.service.start()
        own_studio.wait_until_up()
        report = examine(settings, project.id)
        assert trouble(report) - {"loop.trouble"} == {code}
        (finding,) = [found for found in report.findings if found.code == code]
        assert "SSRF_PROTECTION_ENABLED=false" in finding.mend
        assert len(project.get("/api/webhooks/")) == 1, "what was asked left nothing behind"
        assert len(project.get("/api/ml/")) == 1
