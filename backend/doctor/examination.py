"""One run: every check in order, then what `--fix` can mend, then every check again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from backend.doctor.facts import ProjectFacts, ServiceFacts
from backend.doctor.finding import (
    Finding,
    Report,
    Skipped,
    error,
    exit_code,
    note,
    shown,
    warning,
)
from backend.doctor.fixes import Mender, fix_for
from backend.doctor.table import PROJECT, SERVICE, Check, Facts
from backend.errors import BackendError, LabelStudioUnavailable, ProjectGone, Unauthorized
from backend.settings import Settings

logger = logging.getLogger(__name__)

_AWAY = "label studio"
#: A finding's code or a check's name, and the project that it is about.
_Key = tuple[str, int | None]


def examine(
    settings: Settings,
    project_id: int | None = None,
    *,
    fix: bool = False,
    dry_run: bool = False,
) -> Report:
    """Look at the service and at every connected project, or at one.

    Args:
        settings: the service's, as this environment has them.
        project_id: only this project; None: every one that the loop serves.
        fix: mend what can be mended safely.
        dry_run: only say what ``fix`` would do.
    """
    began = time.monotonic()
    run = _Run(settings, project_id)
    if fix or dry_run:
        first = run.findings
        mender = Mender(run.facts, dry_run=dry_run)
        treated = [mender.mend(finding) for finding in first]
        if not dry_run and any(finding.action for finding in treated):
            before, run = run, _Run(settings, project_id)
            run.findings[:] = _judged(treated, before, run)
        else:
            run.findings[:] = treated
    findings = tuple(run.findings)
    return Report(
        at=datetime.now(UTC),
        label_studio_url=shown(settings.label_studio_url),
        own_url=shown(settings.url),
        seconds=round(time.monotonic() - began, 2),
        findings=findings,
        skipped=tuple(run.skipped),
        exit_code=exit_code(findings),
    )


def _judged(treated: Sequence[Finding], before: _Run, after: _Run) -> list[Finding]:
    """First what is mended, then what the second look found, with what was tried against it.

    Mended is what a fix did not fail at, and what the check that had found it does not find any
    more. A check that could not be made again proves nothing: its findings stay as they were.
    """
    found = {_key(finding) for finding in after.findings}
    mended: list[Finding] = []
    unknown: list[Finding] = []
    tried: dict[_Key, Finding] = {}
    for finding in treated:
        key = _key(finding)
        if not finding.action:
            continue
        if key in found:
            tried[key] = finding
        elif before.found_by[key] not in after.finished:
            unknown.append(finding.model_copy(update={"fixed": False}))
        elif finding.fixed is None:
            mended.append(finding.model_copy(update={"fixed": True}))
    now = [
        f.model_copy(update={"fixed": False, "action": tried[_key(f)].action})
        if _key(f) in tried
        else f
        for f in after.findings
    ]
    return [*mended, *unknown, *now]


def _key(finding: Finding) -> _Key:
    return finding.code, finding.project


class _Run:
    """Every check once.

    Attributes:
        found_by: which check found what.
        finished: the checks that were made to their end.
    """

    def __init__(self, settings: Settings, project_id: int | None) -> None:
        self.facts = ServiceFacts(settings)
        self.findings: list[Finding] = []
        self.skipped: list[Skipped] = []
        self.found_by: dict[_Key, _Key] = {}
        self.finished: set[_Key] = set()
        service = self._checks(SERVICE, self.facts, None, {})
        if project_id is not None:
            numbers: Sequence[int] = (project_id,)
        elif "data" in service:
            numbers = ()
        else:
            numbers = self.facts.connected
            if not numbers:
                self.findings.append(_no_projects())
        for number in numbers:
            failed = self._checks(PROJECT, ProjectFacts(self.facts, number), number, service)
            if _AWAY in failed:
                service = {**service, _AWAY: failed[_AWAY]}

    def _checks(
        self,
        checks: Iterable[Check[Facts]],
        facts: Facts,
        project: int | None,
        failed_before: dict[str, str],
    ) -> dict[str, str]:
        """Make checks; returns by name what failed, and the code that says why."""
        failed = dict(failed_before)
        for check in checks:
            needed = (*check.needs, _AWAY) if project is not None else check.needs
            cause = next((failed[name] for name in needed if name in failed), "")
            if cause:
                self.skipped.append(Skipped(check=check.name, because=cause, project=project))
                failed[check.name] = cause
                continue
            for found in self._made(check, facts, project):
                fixable = fix_for(found.code, self.facts.settings) is not None
                finding = found.model_copy(update={"project": project, "fixable": fixable})
                self.findings.append(finding)
                self.found_by[_key(finding)] = (check.name, project)
                if finding.severity == "error":
                    failed.setdefault(check.name, finding.code)
                if finding.code == "label_studio.away":
                    failed[_AWAY] = finding.code
        return failed

    def _made(self, check: Check[Facts], facts: Facts, project: int | None) -> list[Finding]:
        """What a check finds; whatever goes wrong in it is a finding too."""
        found: list[Finding] = []
        try:
            found.extend(check.look(facts))
            self.finished.add((check.name, project))
        except (LabelStudioUnavailable, Unauthorized) as failure:
            gone = self._gone()
            found.append(_away(str(failure)) if gone else _unanswered(check.name, str(failure)))
        except ProjectGone as failure:
            found.append(_refused(check.name, str(failure)))
        except BackendError as failure:
            found.append(_refused(check.name, str(failure)))
        except Exception as failure:
            # A defect in one check must not hide what the others find.
            logger.exception("the check %r failed", check.name)
            found.append(_defect(check.name, failure))
        return found

    def _gone(self) -> bool:
        """Whether Label Studio answers nothing any more, asked anew: not only one request."""
        afresh = ServiceFacts(self.facts.settings)
        if afresh.sight.kind != "label_studio":
            return True
        try:
            afresh.client.whoami()
        except (LabelStudioUnavailable, Unauthorized):
            return True
        except BackendError:
            return False
        return False


def _away(said: str) -> Finding:
    return error(
        "label_studio.away",
        said,
        why="Label Studio went away, or became too slow, while it was being asked",
        mend="look at Label Studio's log and machine, then run `rarefirst doctor` again",
    )


def _unanswered(check: str, said: str) -> Finding:
    return error(
        "label_studio.unanswered",
        f"{check}: {said}",
        why="Label Studio answers otherwise; what this check looks at is not known, and the loop "
        "needs it too",
        mend="look at Label Studio's log of this moment, then run `rarefirst doctor` again",
    )


def _refused(check: str, said: str) -> Finding:
    return error(
        "label_studio.refused",
        f"{check}: {said}",
        why="what is asked here, the loop needs too",
        mend="see whether the token's user may read and change this project",
    )


def _defect(check: str, failure: Exception) -> Finding:
    return warning(
        "doctor.defect",
        f"the check {check!r} failed itself: {type(failure).__name__}",
        why="what it looks at is not known",
        mend="please report this, with the traceback of the log",
    )


def _no_projects() -> Finding:
    return note(
        "service.no_projects",
        "no project is connected yet",
        why="there is nothing to serve",
        mend="`rarefirst connect --project N`, or add our address in the project's settings, Model",
    )
