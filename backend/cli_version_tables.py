"""How versions and the queue are shown to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import JsonValue
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from backend.why_rare import TaskWhy

if TYPE_CHECKING:
    from datetime import datetime

    from backend.compare_versions import Comparison
    from backend.served_queue import ServedQueue
    from backend.version_differences import OrderLikeness, Pair
    from backend.versions import Activated, VersionDetail, VersionList, VersionRow

#: Figures of a fit that tell versions apart at a glance.
_MAIN = ("tail_labels", "autoencoder_weight", "pool")


def versions_table(found: VersionList) -> RenderableType:
    """Every version, oldest first."""
    if not found.versions:
        return Text(
            f"Project {found.project} has no version yet; `rarefirst status` says what the loop "
            "waits for."
        )
    table = Table(title=f"Versions of project {found.project}", title_justify="left", box=None)
    for column in ("version", "", "made", "kind"):
        table.add_column(column, overflow="fold")
    table.add_column("labels", justify="right")
    table.add_column("tail", overflow="fold")
    for column in _MAIN:
        table.add_column(column.replace("_", " "), justify="right")
    table.add_column("frozen model", overflow="fold")
    for row in found.versions:
        marks = Text(", ".join(row.marks), "bold")
        if row.damaged:
            table.add_row(row.name, marks, Text("damaged", "red"))
            continue
        table.add_row(
            row.name,
            marks,
            _time(row.created_at),
            row.kind,
            str(row.labels),
            ", ".join(row.tail) or "none",
            *(_figure(row.metrics.get(name)) for name in _MAIN),
            Text(row.frozen_model, "" if row.frozen_model_stored else "yellow"),
        )
    notes: list[RenderableType] = [
        Text(f"{row.name}: {row.damaged}", "red") for row in found.versions if row.damaged
    ]
    if any(not row.frozen_model_stored and not row.damaged for row in found.versions):
        notes.append(Text("yellow: the frozen model is not stored any more", "yellow"))
    if found.pinned is not None:
        notes.append(
            Text(
                f"{found.pinned.version} was activated by hand at {_time(found.pinned.at)}: no "
                f"other is fitted until `rarefirst versions follow --project {found.project}`."
            )
        )
    if found.released:
        notes.append(Text(found.released, "yellow"))
    return Group(table, *notes)


def version_table(found: VersionDetail) -> RenderableType:
    """One version and where it was served."""
    row, card = found.version, found.card
    title = f"Version {row.name} of project {found.project}"
    facts = Table(title=title, title_justify="left", show_header=False, box=None)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    if row.marks:
        facts.add_row("it is", Text(", ".join(row.marks), "bold"))
    if row.damaged:
        facts.add_row("damaged", Text(row.damaged, "red"))
    if card is not None:
        facts.add_row("made", _time(card.created_at))
        facts.add_row("after", card.parent or "nothing")
        facts.add_row("kind", card.kind)
        if card.explanation:
            facts.add_row("", card.explanation)
        if card.choice:
            facts.add_row("chosen by", card.choice)
        facts.add_row("classes", ", ".join(card.classes))
        facts.add_row("tail", ", ".join(card.tail) or "none")
        facts.add_row("labels", f"{row.labels}: {_counts(found.labels_by_class)}")
        facts.add_row("frozen model", _frozen(row))
        for name, value in sorted(card.metrics.items()):
            facts.add_row(name.replace("_", " "), _figure(value))
        for name, setting in sorted(card.config.items()):
            facts.add_row(name.replace("_", " "), _value(setting))
        facts.add_row("seed", str(card.seed))
        facts.add_row("libraries", _value(dict(card.libraries)))
        facts.add_row("snapshot", card.snapshot_digest[:16])
    if not found.publications:
        return Group(facts, Text("It was never published."))
    table = Table(title="Publications", title_justify="left", box=None)
    for column in ("name", "state", "published"):
        table.add_column(column, overflow="fold")
    table.add_column("tasks", justify="right")
    table.add_column("control", justify="right")
    for publication in found.publications:
        table.add_row(
            publication.name,
            publication.state,
            _time(publication.published_at),
            str(publication.tasks),
            str(publication.control),
        )
    return Group(facts, table)


def comparison_table(found: Comparison) -> RenderableType:
    """Two versions side by side; what is the same in both stands in grey."""
    a, b = found.a, found.b
    table = Table(title=f"Project {found.project}", title_justify="left", box=None)
    table.add_column("", style="dim", no_wrap=True)
    table.add_column(a.name, overflow="fold")
    table.add_column(b.name, overflow="fold")
    table.add_row("made", _time(a.created_at), _time(b.created_at))
    table.add_row("it is", ", ".join(a.marks), ", ".join(b.marks))
    table.add_row("labels", str(a.labels), str(b.labels))
    _pair(table, "tail", found.tail)
    _pair(table, "classes", found.classes)
    for title, pairs in (
        ("metric", found.metrics),
        ("setting", found.config),
        ("frozen model", found.frozen_model),
    ):
        for name, pair in pairs.items():
            _pair(table, f"{title}: {name.replace('_', ' ')}", pair)
    labels = found.labels
    lines = [
        f"Labels of {b.name} against {a.name}: {labels.same} the same",
        f"  added: {_counts(labels.added)}",
        f"  removed: {_counts(labels.removed)}",
        f"  changed: {_counts(labels.changed)}",
    ]
    return Group(table, Text("\n".join(lines)), Text("\n".join(_orders(found.order))))


def _orders(order: OrderLikeness) -> list[str]:
    if order.why_not:
        return [f"Their orders cannot be compared: {order.why_not}"]
    lines = [f"Orders of the {order.tasks} tasks that are unlabeled now"]
    lines += [f"  first {it.first}: {it.common} in common" for it in order.overlap]
    if order.spearman is None:
        return [*lines, "  rarity: one of them finds every task equally rare"]
    return [*lines, f"  rarity: rank correlation {order.spearman:.3f} (Spearman)"]


def activated_words(done: Activated) -> str:
    """What activating a version came to, and what follows."""
    words = (
        f"{done.version} is the active version of project {done.project}; nothing is fitted until "
        f"`rarefirst versions follow --project {done.project}`."
    )
    if done.served:
        return f"{words} Label Studio serves its order already."
    if done.paused:
        return f"{words} The project is paused: `rarefirst resume` publishes its order."
    if done.held_up:
        return f"{words} But {done.held_up}."
    if not done.worker_alive:
        return f"{words} Its order is published once the worker runs (`rarefirst serve`)."
    return f"{words} The worker publishes its order now."


def queue_table(found: ServedQueue) -> RenderableType:
    """What is served next."""
    if not found.publication:
        return Text(f"Project {found.project}: nothing is published. {found.next}")
    head = (
        f"Project {found.project}: {found.publication}, version {found.version} ({found.kind}), "
        f"published {_time(found.published_at)}; {found.left} of {found.size} tasks left"
    )
    if found.paused:
        head += "; paused"
    table = Table(box=None)
    table.add_column("place", justify="right")
    table.add_column("task", justify="right")
    table.add_column("rarity", justify="right")
    table.add_column("looks like", overflow="fold")
    table.add_column("confidence", justify="right")
    for column in ("tail mass", "error"):
        table.add_column(column, justify="right")
    table.add_column("nearest rare labels", overflow="fold")
    table.add_column("why", overflow="fold")
    for entry in found.tasks:
        why = entry.why or TaskWhy()
        table.add_row(
            str(entry.position),
            str(entry.task),
            "" if entry.rarity is None else f"{entry.rarity:.4f}",
            entry.predicted,
            "" if entry.confidence is None else f"{entry.confidence:.3f}",
            "" if why.tail_mass is None else f"{why.tail_mass:.3f}",
            _error(why),
            ", ".join(f"{near.label} {near.task}" for near in why.nearest),
            entry.reason,
        )
    return Group(Text(head), table)


def _error(why: TaskWhy) -> str:
    """The reconstruction error, and how many standard deviations above the mean it lies."""
    above = "" if why.error_above is None else f" ({why.error_above:+.1f} sd)"
    return _figure(why.reconstruction_error) + above


def _pair(table: Table, name: str, pair: Pair) -> None:
    style = "dim" if pair.same else ""
    table.add_row(name, Text(_value(pair.a), style), Text(_value(pair.b), style))


def _frozen(row: VersionRow) -> Text:
    if row.frozen_model_stored:
        return Text(row.frozen_model)
    return Text(f"{row.frozen_model}, not stored any more", "yellow")


def _value(value: JsonValue | Mapping[str, str]) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        parts = [f"{name} {_value(part) or 'none'}" for name, part in sorted(value.items())]
        return ", ".join(parts) or "none"
    if isinstance(value, list):
        return ", ".join(_value(part) for part in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _figure(value) if isinstance(value, float) else str(value)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone():%F %T}"
