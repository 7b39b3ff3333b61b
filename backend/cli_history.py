"""`rarefirst history`: what was found, how good each queue was, how fine-tunes went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from backend import cli_tables
from backend.cli_common import Json, Project, clear_errors, print_json, read_settings
from backend.dashboard.words import amount, figure, share
from backend.sparklines import sparkline

if TYPE_CHECKING:
    from backend.dashboard.classes import ClassesPanel
    from backend.dashboard.finetunes import FinetuneCard
    from backend.dashboard.found import FoundPanel
    from backend.dashboard.history import ProjectHistory
    from backend.dashboard.precision import PrecisionPanel

_QUEUES = 20
_CLASSES = 30
_BAR = 24


def history(project: Project, json: Json = False) -> None:
    """Rare ones found against random order, precision of each queue, classes, fine-tunes."""
    with clear_errors():
        from backend.dashboard.history import project_history

        found = project_history(read_settings(), project)
        if json:
            print_json(found)
        else:
            cli_tables.out().print(history_tables(found), markup=False)


def history_tables(found: ProjectHistory) -> RenderableType:
    """Everything, a table each."""
    return Group(
        Text(f"Project {found.project}" + (f": {found.title}" if found.title else ""), "bold"),
        _found(found.found),
        _classes(found.classes),
        _precision(found.precision),
        *_finetunes(found.finetunes),
    )


def _found(panel: FoundPanel) -> RenderableType:
    if not panel.curves:
        return Text("Rare ones found: needs a rare class and a finished round.", "dim")
    begun = panel.curves[0].begun
    table = _table(f"Rare ones found with {panel.total} labels; random order from label {begun} on")
    _columns(table, "class", "over labels", right=("found", "random order", "times as many"))
    for curve in panel.curves:
        expected, times = curve.expected(panel.total), curve.times(panel.total)
        table.add_row(
            curve.name or "all rare ones",
            sparkline(curve.found),
            str(curve.found[-1]),
            ""
            if expected is None
            else f"{amount(expected[0])} ({amount(expected[1])} to {amount(expected[2])})",
            "" if times is None else amount(times),
        )
    return table


def _classes(panel: ClassesPanel) -> RenderableType:
    if not panel.rows:
        return Text("Classes: the label config was not read yet.", "dim")
    unit = "boxes" if panel.boxes else "labels"
    table = _table(
        f"Classes; skewness of the {panel.unchosen} labels that our queue did not choose: below "
        f"{panel.threshold:g} a class is rare"
    )
    _columns(table, "class", "", right=(unit, "skewness"))
    table.add_column("")
    for row in panel.rows[:_CLASSES]:
        table.add_row(
            row.name,
            Text("rare" if row.rare else "", "yellow"),
            str(row.labels),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            "█" * round(_BAR * row.share),
        )
    if len(panel.rows) > _CLASSES:
        table.add_row(f"and {len(panel.rows) - _CLASSES} more", "", "", "", "")
    return table


def _precision(panel: PrecisionPanel) -> RenderableType:
    if not panel.queues:
        return Text("Queues: no task of a published one has been labeled yet.", "dim")
    line = sparkline([one.precision for one in panel.queues])
    table = _table(f"Share of rare ones among the labels of each queue  {line}")
    _columns(
        table,
        "ordered by",
        "version",
        "rare classes",
        right=("labeled", "rare", "random order", "share"),
    )
    for one in panel.queues[-_QUEUES:]:
        chance = panel.by_chance(one)
        table.add_row(
            one.kind or "not known",
            one.version,
            ", ".join(one.tail),
            str(one.labeled),
            str(one.rare),
            "" if chance is None else amount(chance),
            share(one.precision),
        )
    return table


def _finetunes(cards: tuple[FinetuneCard, ...]) -> list[RenderableType]:
    if not cards:
        return [Text("Fine-tunes: none yet.", "dim")]
    table = _table("Fine-tunes, newest first")
    _columns(table, "", "state", "loss", "", right=("before", "after"))
    for card in cards:
        ends = f"{figure(card.loss[0])} to {figure(card.loss[-1])}" if card.loss else ""
        table.add_row(
            str(card.number),
            card.state,
            sparkline(card.loss),
            ends,
            figure(card.before),
            figure(card.after),
        )
    parts: list[RenderableType] = [table]
    last = cards[0]
    parts += [Text(f"{last.number}: {reason}") for reason in last.reasons]
    if last.classes:
        each = _table(f"{last.figure} of each class, fine-tune {last.number}")
        _columns(each, "class", "", right=("before", "after", "change", "examples"))
        for one in last.classes[:_CLASSES]:
            both = one.before is not None and one.after is not None
            each.add_row(
                one.name,
                Text("rare" if one.rare else "", "yellow"),
                figure(one.before),
                figure(one.after),
                f"{(one.after or 0) - (one.before or 0):+.2f}" if both else "",
                str(one.examples),
            )
        parts.append(each)
    return parts


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None)


def _columns(table: Table, *left: str, right: tuple[str, ...]) -> None:
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right")
