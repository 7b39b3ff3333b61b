"""How the command line shows things to people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import JsonValue
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from backend.dashboard.words import duration
from backend.reports import RareLeftReport
from backend.status import ProjectStatus, ServiceStatus, UnreadableImage

if TYPE_CHECKING:
    from backend.labelstudio.connection_record import ConnectionReport
    from backend.score_files import FileScore

_LISTED = 20
_NOTED = 5
_WORTH_SAYING = 0.5  # bound on the share of the rare that are left
_MAY_STOP = 0.1


def status_table(status: ServiceStatus, *, list_images: bool = False) -> RenderableType:
    """The whole status, project by project; ``list_images`` names those that cannot be read."""
    parts: list[RenderableType] = [_service(status)]
    for project in status.projects:
        parts.append(_project(project))
        if list_images and project.unreadable:
            parts.append(_unreadable(project.unreadable))
    if not status.projects and status.label_studio in {"reachable", "not looked at yet"}:
        parts.append(
            Text(
                "No project is connected yet. Connect one with `rarefirst connect --project N`, or "
                "add this backend's URL in the project's settings, Model.",
                style="dim",
            )
        )
    return Group(*parts)


def _service(status: ServiceStatus) -> Table:
    table = _facts()
    table.add_row("Label Studio", status.label_studio_url or "not set")
    if status.searched_at is not None:
        words = f"{status.label_studio}, asked at {status.searched_at.astimezone():%F %T}"
        table.add_row("", Text(words, "" if status.label_studio == "reachable" else "red"))
    table.add_row("data", status.data_dir)
    worker = status.worker
    age = worker.heartbeat_age_s
    if worker.alive:
        table.add_row("worker", f"runs, pid {worker.pid}, last sign of life {age} s ago")
    elif age is None:
        table.add_row("worker", Text("does not run; start it with `rarefirst serve`", "yellow"))
    else:
        table.add_row("worker", Text(f"gave no sign of life for {age:.0f} s", "red"))
    if status.missing_settings:
        table.add_row("missing", Text(", ".join(status.missing_settings), "red"))
    return table


def _project(status: ProjectStatus) -> Table:
    table = _facts(f"Project {status.project}" + (f": {status.title}" if status.title else ""))
    doing = status.doing
    if status.total:
        doing += f", {status.done} of {status.total}"
    if status.left_s is not None:
        doing += f", about {duration(status.left_s)} left"
    table.add_row("Label Studio", status.label_studio)
    table.add_row("now", "paused" if status.paused else doing)
    table.add_row("next", status.next)
    for label, lines, style in (
        ("not yet", status.why_not, ""),
        ("to mend", status.problems, "red"),
        ("left alone", status.drift, "yellow"),
    ):
        for line in lines:
            table.add_row(label, Text(line, style))
    publication = status.publication
    if publication is None:
        table.add_row("queue", "nothing is published yet")
    else:
        table.add_row(
            "queue",
            f"{publication.name} ({publication.kind}): {publication.left} of "
            f"{publication.size} tasks left"
            + (f", {publication.dropped} dropped" if publication.dropped else ""),
        )
    labels = status.labels
    table.add_row(
        "labels",
        f"{labels.total}, {labels.since_fit} since the last fit; {labels.skipped} skipped, "
        f"{labels.conflicts} in conflict",
    )
    if labels.images_by_class:
        table.add_row("boxes by class", _counts(labels.by_class))
        table.add_row("images by class", _counts(labels.images_by_class))
    else:
        table.add_row("by class", _counts(labels.by_class))
    table.add_row("by origin", _counts(labels.by_origin))
    if labels.unknown:
        table.add_row("not in config", Text(_counts(labels.unknown), "yellow"))
    for line in note_words(status):
        table.add_row("boxes", Text(line, "yellow"))
    table.add_row("rare classes", ", ".join(status.tail) or "none")
    if status.unlearnable:
        table.add_row("without labels", Text(", ".join(status.unlearnable), "yellow"))
    if status.tail:
        for line in rare_left_words(status.rare_left):
            table.add_row("rare left", line)
    table.add_row("images", f"{status.embedded} of {status.tasks} embedded")
    for reason, count in list(status.failed.items())[:_LISTED]:
        table.add_row("unreadable", Text(f"{count}: {reason}", "yellow"))
    if len(status.failed) > _LISTED:
        more = sum(list(status.failed.values())[_LISTED:])
        table.add_row("unreadable", Text(f"{more}: for further reasons", "yellow"))
    for name, value in sorted(status.settings.items()):
        table.add_row("own setting", f"{name} = {_setting(value)}")
    for line, style in finetune_words(status):
        table.add_row("fine-tune", Text(line, style))
    table.add_row("model", f"{status.backbone or 'none yet'}, version {status.version or 'none'}")
    if status.pinned:
        words = f"{status.pinned}, activated by hand; `rarefirst versions follow` ends that"
        table.add_row("pinned", words)
    return table


def note_words(status: ProjectStatus) -> list[str]:
    """What of annotations is not taken as it is: the first tasks, and how many more there are."""
    shown = status.notes[:_NOTED]
    lines = [f"task {it.task}: {'; '.join(it.notes)}" for it in shown]
    more = status.noted - len(shown)
    if more > 0:
        lines.append(f"and {more} more tasks; `rarefirst status --json` has the first 200")
    return lines


def rare_left_words(found: RareLeftReport) -> list[str]:
    """How many rare ones are left, whether labeling may stop, and what it rests on."""
    total, share = found.total, found.at_most_share
    if total is None:
        if not found.control_share:
            return [
                "not known: no random slice is in the queue; RAREFIRST_CONTROL_SHARE=0.1, or "
                '{"control_share": 0.1} in the connection\'s extra params, puts one in'
            ]
        return [f"not known: no label of the random slice ({found.control_share:.0%}) yet"]
    newer = f"; {found.newer} newer tasks are not counted" if found.newer else ""
    lines = [
        f"about {total.likely} rare left ({total.low}-{total.high}), labeled {found.found}",
        f"from {found.labels} labels of the random slice, {found.rare} of them rare, for "
        f"{found.tasks} unlabeled tasks{newer}",
    ]
    if len(found.by_class) > 1:
        each = (
            f"{name} {own.likely} ({own.low}-{own.high})" for name, own in found.by_class.items()
        )
        lines.insert(1, ", ".join(each))
    if share is not None and share <= _WORTH_SAYING:
        stop = "; labeling on finds hardly any more" if share <= _MAY_STOP else ""
        lines.append(
            f"at most {_up(share)} % of the rare are left with 95 % confidence, however often you "
            f"look{stop}"
        )
    return lines


def finetune_words(status: ProjectStatus) -> list[tuple[str, str]]:
    """Labels held out, the fine-tune that runs, and the last verdict, each with a style."""
    found, running = status.finetune, status.finetune_running
    lines: list[tuple[str, str]] = []
    if found.enabled:
        held = _counts(found.held_out_by_class)
        lines.append((f"{found.held_out} labels are held out to judge by ({held})", ""))
    if running is not None:
        words = f"number {running.number}: {running.done} of {running.total}"
        words += f", {running.message}" if running.message else ""
        lines.append((words, ""))
        if running.failure:
            lines.append((f"the last try ended: {running.failure}", "red"))
    over = [run for run in found.runs if run.state != "running"]
    if over:
        last = over[0]
        reason = f": {last.reasons[0]}" if last.reasons else ""
        lines.append((f"number {last.number} was {last.state}{reason}", ""))
    return lines


def _up(share: float) -> int:
    """Whole per cent, never less than it is."""
    return math.ceil(100 * share - 1e-9)


def _unreadable(images: Sequence[UnreadableImage]) -> Table:
    """The first images that cannot be read, each with its reason."""
    title = f"{len(images)} images that could not be read"
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    table.add_column("task", justify="right", no_wrap=True)
    table.add_column("image", overflow="fold")
    table.add_column("reason", overflow="fold")
    table.add_column("tries", justify="right")
    table.add_column("next try", no_wrap=True)
    for image in images[:_LISTED]:
        row = (str(image.task), image.image, image.reason, str(image.tries))
        table.add_row(*(Text(cell) for cell in row), _in(image.next_try_at))
    if len(images) > _LISTED:
        more = f"and {len(images) - _LISTED} more; `rarefirst status --json` has all"
        table.add_row("", Text(more, "dim"), "", "", "")
    return table


def _in(when: datetime) -> str:
    """How long from now, for people."""
    left_s = (when - datetime.now(UTC)).total_seconds()
    if left_s <= 0:
        return "now"
    for unit, name in ((3600, "h"), (60, "min")):
        if left_s >= 2 * unit:
            return f"in {left_s / unit:.0f} {name}"
    return f"in {left_s:.0f} s"


def _setting(value: JsonValue) -> str:
    """A setting's value as a person would write it."""
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def scores_table(scores: Sequence[FileScore], *, version: str) -> Table:
    """Judged files, rarest first; those that could not be read at the end with their reason."""
    table = Table(title=f"Judged by {version}")
    table.add_column("file", overflow="fold")
    table.add_column("rarity", justify="right")
    table.add_column("predicted", overflow="fold")
    table.add_column("confidence", justify="right")
    for score in scores:
        if score.error:
            table.add_row(score.file, "", Text(score.error, "red"), "")
        else:
            table.add_row(
                score.file, f"{score.rarity:.4f}", score.predicted, f"{score.confidence:.3f}"
            )
    return table


def connection_table(report: ConnectionReport) -> RenderableType:
    """What connecting or disconnecting did, or would do, step by step."""
    title = f"Project {report.project_id}" + (", nothing is changed" if report.dry_run else "")
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    table.add_column("", style="dim", no_wrap=True)
    table.add_column("was", overflow="fold")
    table.add_column("is" if not report.dry_run else "would be", overflow="fold")
    table.add_column("")
    for step in report.steps:
        style = {"missing": "red", "kept": "dim"}.get(step.state, "")
        table.add_row(step.what, step.before, step.after, Text(step.state, style))
    notes = [Text(f"note: {note}") for note in report.notes]
    problems = [Text(f"to mend: {problem}", "red") for problem in report.problems]
    return Group(table, *notes, *problems)


def _facts(title: str | None = None) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", show_header=False, box=None
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"


def out() -> Console:
    """Where results go."""
    return Console()


def err() -> Console:
    """Where everything else goes."""
    return Console(stderr=True)
