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
from backend.doctor.fixes import FIXES, Mender
from backend.doctor.table import PROJECT, SERVICE, Check, Facts
from backend.errors import BackendError, LabelStudioUnavailable, ProjectGone, Unauthorized
from backend.settings import Settings

logger = logging.getLogger(__name__)

_AWAY = "label studio"


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
            run = _Run(settings, project_id)
            left = {(finding.code, finding.project) for finding in run.findings}
            mended = [_judged(finding, left) for finding in treated if finding.action]
            refused = {(f.code, f.project): f for f in mended if not f.fixed}
            now = [refused.get((f.code, f.project), f) for f in run.findings]
            run.findings[:] = [*(f for f in mended if f.fixed), *now]
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


def _judged(finding: Finding, left: set[tuple[str, int | None]]) -> Finding:
    """A treated finding is mended where the second look does not find it any more."""
    return finding.model_copy(update={"fixed": (finding.code, finding.project) not in left})


class _Run:
    """Every check once."""

    def __init__(self, settings: Settings, project_id: int | None) -> None:
        self.facts = ServiceFacts(settings)
        self.findings: list[Finding] = []
        self.skipped: list[Skipped] = []
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
            for finding in self._made(check, facts):
                fixable = finding.code in FIXES
                update = {"project": project, "fixable": fixable}
                self.findings.append(finding.model_copy(update=update))
                if finding.severity == "error":
                    failed.setdefault(check.name, finding.code)
                if finding.code == "label_studio.away":
                    failed[_AWAY] = finding.code
        return failed

    def _made(self, check: Check[Facts], facts: Facts) -> list[Finding]:
        """What a check finds; whatever goes wrong in it is a finding too."""
        found: list[Finding] = []
        try:
            found.extend(check.look(facts))
        except (LabelStudioUnavailable, Unauthorized) as failure:
            found.append(_away(str(failure)))
        except ProjectGone as failure:
            found.append(_refused(check.name, str(failure)))
        except BackendError as failure:
            found.append(_refused(check.name, str(failure)))
        except Exception as failure:
            # A defect in one check must not hide what the others find.
            logger.exception("the check %r failed", check.name)
            found.append(_defect(check.name, failure))
        return found


def _away(said: str) -> Finding:
    return error(
        "label_studio.away",
        said,
        why="Label Studio went away, or became too slow, while it was being asked",
        mend="look at Label Studio's log and machine, then run `rarefirst doctor` again",
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
