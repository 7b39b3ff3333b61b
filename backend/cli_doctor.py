"""`rarefirst doctor`: the command, and how its findings are shown to people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from backend import cli_tables
from backend.cli_common import AnyProject, Json, clear_errors, print_json, read_settings

if TYPE_CHECKING:
    from backend.doctor.finding import Finding, Report

_STYLES = {"error": "red", "warning": "yellow", "note": "cyan", "ok": "green", "mended": "green"}


def doctor(
    project: AnyProject = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended safely.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what --fix would do.")
    ] = False,
    json: Json = False,
) -> None:
    """Look at the whole set-up from both sides: what is wrong, why it matters, how to mend it.

    Ends with 0 where nothing is worse than a note, 1 with warnings, 2 with errors (the rarest are
    not served first, or nothing is learned).
    """
    with clear_errors():
        from backend.doctor.examination import examine

        report = examine(read_settings(), project, fix=fix, dry_run=dry_run)
        if json:
            print_json(report)
        else:
            cli_tables.out().print(report_table(report))
    raise typer.Exit(report.exit_code)


def report_table(report: Report) -> RenderableType:
    """Findings, the service's first, then project by project; then what was not looked at."""
    projects = sorted({finding.project for finding in report.findings}, key=lambda p: p or 0)
    parts: list[RenderableType] = []
    for project in projects:
        findings = [finding for finding in report.findings if finding.project == project]
        title = "rarefirst and Label Studio" if project is None else f"Project {project}"
        parts.append(_findings(title, findings))
    for cause in dict.fromkeys(skipped.because for skipped in report.skipped):
        names = dict.fromkeys(s.check for s in report.skipped if s.because == cause)
        parts.append(Text(f"not looked at because of {cause}: {', '.join(names)}", "dim"))
    parts.append(Text(_summary(report), "bold"))
    return Group(*parts)


def _findings(title: str, findings: list[Finding]) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", show_header=False, box=None
    )
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for finding in findings:
        word = "mended" if finding.fixed else str(finding.severity)
        table.add_row(Text(word, _STYLES[word]), finding.code, Text(finding.what))
        if finding.severity != "ok" and not finding.fixed:
            for label, text in (("why", finding.why), ("mend", finding.mend)):
                if text:
                    table.add_row("", label, Text(text))
        if finding.action:
            table.add_row("", "--fix", Text(finding.action))
    return table


def _summary(report: Report) -> str:
    counts = {
        word: sum(f.severity == word and not f.fixed for f in report.findings)
        for word in ("error", "warning", "note")
    }
    fixed = sum(bool(finding.fixed) for finding in report.findings)
    words = [
        f"{count} {word}{'' if count == 1 else 's'}" for word, count in counts.items() if count
    ]
    if fixed:
        words.append(f"{fixed} mended")
    more = any(f.fixable and f.fixed is None and f.severity != "ok" for f in report.findings)
    said = ", ".join(words) or "nothing wrong"
    hint = "; `rarefirst doctor --fix` mends what says so" if more else ""
    return f"{said}, after {report.seconds:.1f} s{hint}"
