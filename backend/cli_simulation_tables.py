"""How the command line shows a simulation."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from backend.simulation.games import BASELINE
from backend.simulation.report import OrderReport, SimulationReport
from models.intervals import Interval

_LISTED = 10
_ROUNDS = 12
_ABREAST = 5  # columns with intervals that a terminal has room for


def simulation_tables(report: SimulationReport) -> RenderableType:
    """What was replayed, what was found by whom, and what that saves."""
    parts: list[RenderableType] = [_about(report)]
    if report.unread:
        parts.append(_unread(report))
    parts += [_found(report), _by_class(report), _savings(report)]
    if any(one.labels is None for order in report.orders for one in order.savings):
        parts.append(
            Text("what is not reached needs more labels: raise --rounds or --batch", "dim")
        )
    for order in report.orders:
        if order.refused:
            parts.append(Text(f"{order.scorer} was not played: {order.refused}", "red"))
        parts += [Text(f"{order.scorer}: {note}", "yellow") for note in order.notes]
    return Group(*parts)


def _about(report: SimulationReport) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    counts = ", ".join(f"{name} {count}" for name, count in report.classes.items())
    table.add_row("images", f"{sum(report.classes.values()):,} in {report.dataset}: {counts}")
    for reason, count in report.left_out.items():
        table.add_row("left out", f"{count:,} {reason}")
    how = "named" if report.tail_from == "named" else "by their share of the labels"
    rare = ", ".join(f"{name} {count}" for name, count in report.rare.items())
    table.add_row("rare", f"{rare} of {report.pool:,} in the pool ({how})")
    start = ", ".join(f"{name} {count}" for name, count in report.start.items())
    table.add_row("start", f"{sum(report.start.values())} labels: {start}")
    table.add_row("model", report.frozen_model)
    games = "1 game" if report.repeats == 1 else f"{report.repeats} games"
    table.add_row("replayed", f"{games} of {report.rounds} rounds with {report.batch} labels each")
    for note in report.notes:
        table.add_row("note", Text(note, "yellow"))
    return table


def _unread(report: SimulationReport) -> Table:
    count = len(report.unread)
    images = "1 image" if count == 1 else f"{count} images"
    table = Table(title=f"{images} could not be read", title_justify="left")
    table.add_column("image", overflow="fold")
    table.add_column("why", overflow="fold")
    for image in report.unread[:_LISTED]:
        table.add_row(Text(image.file), Text(image.reason))
    if count > _LISTED:
        table.add_row(f"and {count - _LISTED} more", "simulate.json lists them all")
    return table


def _found(report: SimulationReport) -> Table:
    table = _titled(f"Rare ones found, of {report.total}", report)
    orders = report.played()
    if len(orders) <= _ABREAST:
        table.add_column("labels", justify="right")
        for order in orders:
            table.add_column(order.scorer, justify="right", style=_style(order))
        for row in _some(len(report.labels), _ROUNDS):
            table.add_row(
                str(report.labels[row]), *(_with_interval(order.found[row]) for order in orders)
            )
        return table
    rounds = _some(len(report.labels), _ABREAST)
    table.add_column("labels")
    for row in rounds:
        table.add_column(str(report.labels[row]), justify="right")
    for order in orders:
        table.add_row(
            order.scorer,
            *(_with_interval(order.found[row]) for row in rounds),
            style=_style(order),
        )
    return table


def _by_class(report: SimulationReport) -> Table:
    table = _titled(f"Of each rare class, after {report.labels[-1]} labels", report)
    orders = report.played()
    table.add_column("class")
    table.add_column("in the pool", justify="right")
    if len(orders) <= _ABREAST:
        for order in orders:
            table.add_column(order.scorer, justify="right", style=_style(order))
        for name, count in report.rare.items():
            found = (_with_interval(order.by_class[name][-1]) for order in orders)
            table.add_row(Text(name), str(count), *found)
        return table
    table.add_column("order")
    table.add_column("found", justify="right")
    for name, count in report.rare.items():
        for number, order in enumerate(orders):
            first = (Text(name), str(count)) if not number else ("", "")
            table.add_row(*first, order.scorer, _with_interval(order.by_class[name][-1]))
        table.add_section()
    return table


def _savings(report: SimulationReport) -> Table:
    table = _titled("Labels saved against random order", report)
    table.add_column("to find")
    for name in ("order", "labels", "random order", "saved", "share"):
        table.add_column(name, justify="left" if name == "order" else "right")
    orders = [order for order in report.played() if order.scorer != BASELINE]
    for place in range(len(orders[0].savings) if orders else 0):
        some = [order for order in orders if order.savings[place].reached]
        first = orders[0].savings[place]
        words = f"{first.share:.0%}: {first.rare} of {report.total}"
        if not some:
            table.add_row(words, "none reached it", "-", _with_interval(first.random, 0), "-", "-")
        for number, order in enumerate(some):
            table.add_row("" if number else words, *_saving(order, place, report.repeats))
        table.add_section()
    return table


def _saving(order: OrderReport, place: int, repeats: int) -> tuple[str, ...]:
    one = order.savings[place]
    chance = _with_interval(one.random, 0)
    if one.labels is None or one.saved is None or one.saved_share is None:
        return order.scorer, f"reached in {one.reached} of {repeats}", chance, "-", "-"
    return (
        order.scorer,
        _with_interval(one.labels, 0),
        chance,
        _with_interval(one.saved, 0),
        f"{one.saved_share.mean:.0%}",
    )


def _titled(title: str, report: SimulationReport) -> Table:
    spread = "" if report.repeats == 1 else f" (mean of {report.repeats}, 95 % interval)"
    return Table(title=f"{title}{spread}", title_justify="left")


def _style(order: OrderReport) -> str:
    return "dim" if order.scorer == BASELINE else ""


def _some(rounds: int, most: int) -> Sequence[int]:
    """Rounds that are shown: all, or some at even steps with the last one."""
    step = -(-rounds // most)
    return [row for row in range(rounds) if (rounds - 1 - row) % step == 0]


def _with_interval(value: Interval, digits: int = 1) -> str:
    if value.low == value.high:
        return f"{value.mean:,.{digits}f}"
    return f"{value.mean:,.{digits}f} ({value.low:,.{digits}f} to {value.high:,.{digits}f})"
