"""`rarefirst backtest`: the command, and how its report is shown to people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from backend import cli_tables
from backend.cli_common import Json, Project, clear_errors, print_json, read_settings

if TYPE_CHECKING:
    from backend.backtest import ProjectBacktest
    from models.intervals import Interval
    from models.recipes.backtest_report import BacktestReport

_MOST_CLASSES = 4


def backtest(
    project: Project,
    scorers: Annotated[
        str, typer.Option(help="Names, comma-separated; all that there are by default.")
    ] = "",
    repeats: Annotated[
        int | None, typer.Option(min=2, max=1000, help="How often labels are hidden; 20.")
    ] = None,
    json: Json = False,
) -> None:
    """Which scorer would have found how many of the rare ones that are labeled already.

    Labels are hidden, each scorer learns from the rest, and what it would have found of the
    hidden ones is counted. Nothing is changed, and Label Studio is not asked.
    """
    with clear_errors():
        from backend.backtest import backtest_project

        with Progress(
            TextColumn("hold-outs"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} % {task.description}"),
            TimeRemainingColumn(),
            console=cli_tables.err(),
            transient=True,
        ) as bar:
            task = bar.add_task("reading labels", total=None)
            found = backtest_project(
                read_settings(),
                project,
                scorers=[name.strip() for name in scorers.split(",") if name.strip()],
                repeats=repeats,
                progress=lambda done, total, message="": bar.update(
                    task, completed=done, total=total, description=message
                ),
            )
        if json:
            print_json(found)
        else:
            cli_tables.out().print(backtest_table(found), markup=False)


def backtest_table(found: ProjectBacktest) -> RenderableType:
    """Scorers side by side, the best first; what refused below; then what to make of it."""
    report = found.report
    classes = list(report.results[0].recall_by_class)[:_MOST_CLASSES]
    table = Table(
        title=f"Backtest of project {found.project}", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("scorer", no_wrap=True)
    for count in report.first:
        table.add_column(f"first {count}", justify="right", overflow="fold")
    for name in ("AP", *classes, "coverage", f"against {report.default}"):
        table.add_column(name, justify="right", overflow="fold")
    for result in report.results:
        if result.refused or result.average_precision is None or result.coverage is None:
            continue
        against = result.against_default
        table.add_row(
            Text(result.scorer, "bold" if result.scorer == report.chosen else ""),
            *(f"{it.mean:.1f} ({it.low:.0f}-{it.high:.0f})" for it in result.found),
            f"{result.average_precision.mean:.2f}",
            *(f"{result.recall_by_class[name].mean:.2f}" for name in classes),
            f"{result.coverage.mean:.2f} ({result.coverage.low:.2f}-{result.coverage.high:.2f})",
            "" if against is None else Text(_signed(against), "green" if result.better else ""),
        )
    chance = [f"{value:.1f}" for value in report.by_chance]
    table.add_row(Text("random order", "dim"), *(Text(value, "dim") for value in chance))
    lines = [Text(f"{result.scorer}: {result.refused}", "yellow") for result in report.refused]
    return Group(
        Text(_about(found)),
        table,
        *lines,
        *(Text(f"note: {note}", "dim") for note in _notes(report)),
        Text(report.conclusion, "bold"),
        *([Text(_advice(found))] if found.scorer not in (report.chosen, "auto") else []),
    )


def _about(found: ProjectBacktest) -> str:
    report = found.report
    counts = ", ".join(f"{name} {found.labels_by_class[name]}" for name in found.tail)
    asking = ", ".join(result.scorer for result in report.results if result.asks)
    words = (
        f"{report.labels} labels, {report.tail_labels} of them rare ({counts}). {report.repeats} "
        f"times {report.hidden_rare} of the rare ones were hidden among labels that stand for "
        f"{report.pool:.0f} tasks, {report.prevalence:.1%} of them rare; found with the first n "
        f"labels, {report.confidence:.0%} intervals. A class's column is its recall with "
        f"{report.first[-1]} labels, coverage the recall averaged over classes and labels up to "
        "there."
    )
    if asking:
        words += f" {asking}: told each label before choosing the next."
    return words


def _notes(report: BacktestReport) -> list[str]:
    notes = list(report.notes)
    if report.mined_share > 0:
        notes.append(
            f"{report.mined_share:.0%} of the rare ones were found by the queue of their time, "
            "which favours the scorer that made it"
        )
    return notes


def _advice(found: ProjectBacktest) -> str:
    if all(result.scorer != found.scorer for result in found.report.results):
        return f"The project's scorer, {found.scorer}, was not among them."
    return (
        f"The project's scorer is {found.scorer}; RAREFIRST_SCORER={found.report.chosen} (or "
        f'{{"scorer": "{found.report.chosen}"}} in its extra params) changes it.'
    )


def _signed(value: Interval) -> str:
    return f"{value.mean:+.2f} ({value.low:+.2f} to {value.high:+.2f})"
