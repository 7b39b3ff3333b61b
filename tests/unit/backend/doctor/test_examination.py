"""One run: the order of the checks, what is skipped, what is mended, and how it ends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backend import cli_doctor
from backend.cli import app
from backend.doctor import examination, fixes
from backend.doctor import facts as facts_module
from backend.doctor.examination import examine
from backend.doctor.facts import ProjectFacts, ServiceFacts
from backend.doctor.finding import (
    Finding,
    Report,
    ago,
    error,
    exit_code,
    note,
    ok,
    shown,
    warning,
)
from backend.doctor.fixes import FIXES, Fix, NotYetError
from backend.doctor.table import PROJECT, SERVICE, Check
from backend.errors import Busy, LabelStudioUnavailable
from backend.labelstudio.client import LabelStudioClient
from backend.labelstudio.inspection import Sight, SightKind
from backend.projects import ProjectStore
from backend.settings import Settings
from tests.recorded import PROJECT_ID


class Patient:
    """A set-up with codes that are wrong with it, and what mends them."""

    def __init__(self, *wrong: str) -> None:
        self.wrong = set(wrong)
        self.mended: list[str] = []
        self.looked: list[str] = []


def checks(patient: Patient, names: dict[str, tuple[str, ...]]) -> tuple[Check[Any], ...]:
    """Checks that say what is wrong with the patient, each needing others."""

    def look(name: str) -> Any:
        def made(facts: object) -> Iterator[Finding]:
            patient.looked.append(name)
            yield (
                error(f"{name}.bad", "bad", why="it matters", mend="mend it")
                if name in patient.wrong
                else ok(name, "well")
            )

        return made

    return tuple(Check(name, look(name), needs) for name, needs in names.items())


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Examine patients instead of the real thing."""

    def set_up(
        service: tuple[Check[ServiceFacts], ...], project: tuple[Check[ProjectFacts], ...] = ()
    ) -> None:
        monkeypatch.setattr(examination, "SERVICE", service)
        monkeypatch.setattr(examination, "PROJECT", project)

    return set_up


def codes(report: Report) -> list[str]:
    return [finding.code for finding in report.findings]


def test_names_are_unique_and_needs_come_before(settings: Settings) -> None:
    known: list[str] = []
    for check in (*SERVICE, *PROJECT):
        assert check.name not in known
        assert set(check.needs) <= set(known), check.name
        known.append(check.name)


def test_every_code_that_the_documents_name_exists() -> None:
    root = Path(__file__).resolve().parents[4]
    source = "".join(path.read_text() for path in (root / "backend" / "doctor").glob("*.py"))
    known = set(re.findall(r'"([a-z_]+\.[a-z_]+)"', source))
    # The table's last column says what the doctor says; other columns name code with dots too.
    rows = [line for line in (root / "docs" / "design.md").read_text().splitlines() if "|" in line]
    said = " ".join(row.rstrip("| ").rpartition("|")[2] for row in rows)
    named = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", said))
    named |= set(re.findall(r"^ \w+ +(\w+\.\w+) ", (root / "README.md").read_text(), re.M))
    assert len(named) > 8
    assert named <= known
    assert set(FIXES) <= known


def test_what_follows_from_an_error_is_skipped_and_said(settings: Settings, table: Any) -> None:
    patient = Patient("a")
    needs = {"a": (), "b": ("a",), "c": ("b",), "d": ()}
    table(checks(patient, needs), ())
    report = examine(settings, 1)
    assert patient.looked == ["a", "d"]
    assert codes(report) == ["a.bad", "d"]
    assert [(skip.check, skip.because) for skip in report.skipped] == [
        ("b", "a.bad"),
        ("c", "a.bad"),
    ]
    assert report.exit_code == 2


def test_every_connected_project_or_one(
    settings: Settings, table: Any, store: ProjectStore
) -> None:
    patient = Patient()
    table((), checks(patient, {"p": ()}))
    assert {finding.project for finding in examine(settings).findings} == {PROJECT_ID}
    assert {finding.project for finding in examine(settings, 7).findings} == {7}
    store.path("project.json").unlink()
    assert codes(examine(settings)) == ["service.no_projects"]


def test_label_studio_that_goes_away_is_said_once(settings: Settings, table: Any) -> None:
    def away(facts: object) -> Iterator[Finding]:
        raise LabelStudioUnavailable("did not answer within 8 s")
        yield

    patient = Patient()
    table((), (Check("first", away), *checks(patient, {"second": (), "third": ()})))
    report = examine(settings, 1)
    assert codes(report) == ["label_studio.away"]
    assert patient.looked == []
    assert len(report.skipped) == 2


def test_a_defect_in_one_check_hides_no_other(settings: Settings, table: Any) -> None:
    def broken(facts: object) -> Iterator[Finding]:
        yield ok("before", "well")
        raise KeyError("secret")

    patient = Patient()
    table((Check("broken", broken), *checks(patient, {"next": ()})), ())
    report = examine(settings, 1)
    assert codes(report) == ["before", "doctor.defect", "next"]
    assert "KeyError" in report.findings[1].what
    assert "secret" not in report.model_dump_json()
    assert report.exit_code == 1


@pytest.fixture
def mends(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Fixes for the patient's troubles."""

    def set_up(
        patient: Patient,
        *names: str,
        busy: bool = False,
        works: bool = True,
        waits: bool = False,
        breaks: str = "",
    ) -> None:
        def mend(facts: object) -> str:
            if waits:
                patient.wrong.clear()  # by somebody else
                raise NotYetError("asked for it")
            if busy:
                raise Busy("a round runs")
            patient.mended.append("once")
            if works:
                patient.wrong.clear()
            if breaks:
                patient.wrong.add(breaks)
            return "mended it"

        fix = Fix("mend it", mend, mend)
        made = {f"{name}.bad": fix for name in names}
        monkeypatch.setattr(fixes, "FIXES", made)

    return set_up


def test_fix_mends_and_looks_again(settings: Settings, table: Any, mends: Any) -> None:
    patient = Patient("a", "b")
    table((), checks(patient, {"a": (), "b": ()}))
    mends(patient, "a", "b")
    report = examine(settings, 1, fix=True)
    assert patient.mended == ["once"], "one fix for both findings is done once"
    assert [(f.code, f.fixed) for f in report.findings if f.fixed] == [
        ("a.bad", True),
        ("b.bad", True),
    ]
    assert codes(report)[2:] == ["a", "b"]
    assert report.exit_code == 0


def test_dry_run_says_and_does_nothing(settings: Settings, table: Any, mends: Any) -> None:
    patient = Patient("a")
    table((), checks(patient, {"a": ()}))
    mends(patient, "a")
    report = examine(settings, 1, fix=True, dry_run=True)
    assert patient.mended == []
    assert [(f.code, f.fixed, f.action) for f in report.findings] == [
        ("a.bad", None, "would mend it")
    ]
    assert report.exit_code == 2


@pytest.mark.parametrize(
    ("given", "action"),
    [({"busy": True}, "could not mend it: a round runs"), ({"works": False}, "mended it")],
)
def test_what_could_not_be_mended_stays(
    settings: Settings, table: Any, mends: Any, given: dict[str, bool], action: str
) -> None:
    patient = Patient("a")
    table((), checks(patient, {"a": ()}))
    mends(patient, "a", **given)
    report = examine(settings, 1, fix=True)
    assert [(f.code, f.fixed, f.action) for f in report.findings] == [("a.bad", False, action)]
    assert report.exit_code == 2


def test_a_check_that_could_not_be_made_again_proves_nothing(
    settings: Settings, table: Any, mends: Any
) -> None:
    patient = Patient("b")
    table((), checks(patient, {"a": (), "b": ("a",)}))
    mends(patient, "b", breaks="a")
    report = examine(settings, 1, fix=True)
    assert [(f.code, f.fixed) for f in report.findings] == [("b.bad", False), ("a.bad", None)]
    assert report.exit_code == 2


def test_what_a_fix_did_not_bring_to_its_end_is_not_said_to_be_mended(
    settings: Settings, table: Any, mends: Any
) -> None:
    patient = Patient("a")
    table((), checks(patient, {"a": ()}))
    mends(patient, "a", waits=True)
    report = examine(settings, 1, fix=True)
    assert [(f.code, f.fixed) for f in report.findings] == [("a", None)]


def test_one_request_that_label_studio_does_not_answer_fails_one_check(
    settings: Settings, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(facts: object) -> Iterator[Finding]:
        raise LabelStudioUnavailable("did not answer within 12 s")
        yield

    patient = Patient()
    table((), (Check("slow", slow), *checks(patient, {"second": (), "third": ("slow",)})))
    monkeypatch.setattr(examination._Run, "_gone", lambda run: False)
    report = examine(settings, 1)
    assert codes(report) == ["label_studio.unanswered", "second"]
    assert "slow: did not answer within 12 s" in report.findings[0].what
    assert [(skip.check, skip.because) for skip in report.skipped] == [
        ("third", "label_studio.unanswered")
    ]


@pytest.mark.parametrize(
    ("kind", "failure", "gone"),
    [
        ("unreachable", None, True),
        ("label_studio", LabelStudioUnavailable("slow"), True),
        ("label_studio", None, False),
    ],
)
def test_whether_label_studio_is_gone_is_asked_anew(
    settings: Settings,
    table: Any,
    monkeypatch: pytest.MonkeyPatch,
    kind: SightKind,
    failure: Exception | None,
    gone: bool,
) -> None:
    def whoami(client: object) -> None:
        if failure is not None:
            raise failure

    monkeypatch.setattr(facts_module, "look_at", lambda url, timeout_s: Sight(kind))
    monkeypatch.setattr(LabelStudioClient, "whoami", whoami)
    table(())
    run = examination._Run(settings, 1)
    run.facts.__dict__["sight"] = Sight("label_studio")
    assert run._gone() == gone


def test_what_nothing_is_known_against_is_left(settings: Settings, table: Any, mends: Any) -> None:
    patient = Patient("a")
    table((), checks(patient, {"a": ()}))
    mends(patient)
    report = examine(settings, 1, fix=True)
    assert [(f.code, f.fixable, f.fixed) for f in report.findings] == [("a.bad", False, None)]
    assert patient.looked == ["a"], "nothing was done, so nothing is looked at again"


def test_decisions_of_people_are_in_no_table_of_fixes() -> None:
    for code in ("model_version.other", "model_version.older", "overlap.above_one"):
        assert code not in FIXES
    assert not [code for code in FIXES if code.startswith(("token.", "images.", "label_config."))]


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ((), 0),
        ((ok("a", ""), note("b", "")), 0),
        ((note("b", ""), warning("c", "", why="", mend="")), 1),
        ((warning("c", "", why="", mend=""), error("d", "", why="", mend="")), 2),
        ((error("d", "", why="", mend="").model_copy(update={"fixed": True}),), 0),
    ],
)
def test_the_exit_code_is_the_worst_that_is_left(findings: tuple[Finding, ...], code: int) -> None:
    assert exit_code(findings) == code


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://u:p@host:1/path?sig=x#y", "http://host:1/path"),
        ("https://host", "https://host"),
        ("host/path", "host/path"),
        ("http://[::1", "an address that cannot be read"),
    ],
)
def test_addresses_are_shown_without_secrets(url: str, said: str) -> None:
    assert shown(url) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0.0 s ago"), (0.25, "0.2 s ago"), (119, "119 s ago"), (120, "2 min ago"),
     (7200, "2 h ago"), (200_000, "2 days ago")],
)  # fmt: skip
def test_how_long_ago(seconds: float, said: str) -> None:
    assert ago(seconds) == said


def test_the_service_alone_is_examined_without_anything_running(settings: Settings) -> None:
    """Nothing listens, nothing runs: every check says so, and none fails itself."""
    bare = settings.model_copy(update={"label_studio_api_key": "", "own_url": "http://127.0.0.1:9"})
    report = examine(bare.model_copy(update={"port": 9}))
    found = {f.code for f in report.findings if f.severity == "error"}
    assert found == {"settings.missing", "worker.absent", "web.absent"}
    assert "service.no_projects" in codes(report)
    assert {skip.check for skip in report.skipped} == {"label studio", "token", "version", "clock"}


def run(monkeypatch: pytest.MonkeyPatch, report: Report, *arguments: str) -> Any:
    monkeypatch.setattr("backend.doctor.examination.examine", lambda *a, **k: report)
    return CliRunner().invoke(app, ["doctor", *arguments])


def made(settings: Settings, *findings: Finding) -> Report:
    report = examine(settings.model_copy(update={"label_studio_api_key": ""}))
    update = {"findings": findings, "exit_code": exit_code(findings)}
    return report.model_copy(update=update)


def test_the_command_prints_json_and_ends_by_severity(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = warning("webhook.off", "it is off", why="late", mend="switch it on")
    report = made(settings, ok("a", "fine"), bad)
    done = run(monkeypatch, report, "--json")
    assert done.exit_code == 1
    said = json.loads(done.output)
    assert [finding["code"] for finding in said["findings"]] == ["a", "webhook.off"]
    assert said["exit_code"] == 1


def test_the_table_says_what_why_and_how_to_mend(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        cli_doctor.cli_tables, "out", lambda: cli_doctor.cli_tables.Console(width=200)
    )
    bad = error("sampling.other", "it is Sequential", why="no order", mend="mend it so")
    fixed = bad.model_copy(
        update={"code": "webhook.off", "fixed": True, "action": "switched on", "project": 3}
    )
    done = run(monkeypatch, made(settings, bad.model_copy(update={"fixable": True}), fixed))
    assert done.exit_code == 2
    for text in (
        "it is Sequential",
        "no order",
        "mend it so",
        "Project 3",
        "mended",
        "switched on",
    ):
        assert text in done.output
    assert "not looked at because of settings.missing: label studio, token" in done.output
    assert "1 error, 1 mended" in done.output
    assert "`rarefirst doctor --fix` mends" in done.output
