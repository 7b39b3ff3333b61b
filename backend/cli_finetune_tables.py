"""How fine-tunes, their verdicts and what versions are worth are shown to people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.tasks.base import DETECTION

if TYPE_CHECKING:
    from backend.evaluate_versions import Evaluation, VersionFigures
    from backend.finetune_request import FinetuneAsked, FinetunePreview
    from backend.reports import FinetuneReport
    from backend.review import LabelReview
    from models.class_metrics import ClassFigures, ClassMetrics
    from models.detection.coco import BoxFigures, BoxMetrics
    from models.recipes.finetune_outcome import Outcome

_MOST_CLASSES = 30


def verdict_table(outcome: Outcome) -> RenderableType:
    """Recall (of boxes: AP) of each class before and after, and why it was promoted or not."""
    verdict = outcome.verdict
    style = "bold green" if verdict.promoted else "bold yellow"
    parts: list[RenderableType] = [Text(reason, style) for reason in verdict.reasons[:1]]
    parts += [Text(reason) for reason in verdict.reasons[1:]]
    before, after = verdict.before, verdict.after
    if before is not None and after is not None:
        boxes = before.kind == "boxes"
        table = _table("before", "after", "boxes" if boxes else "examples", first="")
        for (name, was), now in zip(_means(before).items(), _means(after).values(), strict=True):
            table.add_row(name, was, now, str(before.count))
        tail = {before.classes[k].name for k in before.tail}
        ones: tuple[ClassFigures | BoxFigures, ...] = before.classes
        others: tuple[ClassFigures | BoxFigures, ...] = after.classes
        pairs = [pair for pair in zip(ones, others, strict=True) if pair[0].count]
        pairs.sort(key=lambda pair: pair[0].name not in tail)
        for old, new in pairs[:_MOST_CLASSES]:
            name = f"{'AP' if boxes else 'recall'} of {old.name}"
            name += " (rare)" if old.name in tail else ""
            table.add_row(name, _of_class(old), _of_class(new), str(old.count))
        if len(pairs) > _MOST_CLASSES:
            table.add_row(f"and {len(pairs) - _MOST_CLASSES} more classes", "", "", "")
        parts.append(table)
    parts.append(
        Text(
            f"{outcome.strategy}, {outcome.epochs} epochs over {outcome.examples} labels in "
            f"{outcome.seconds:.0f} s; compared on: {verdict.compared}; 95 % intervals",
            "dim",
        )
    )
    return Group(*parts)


def preview_table(found: FinetunePreview) -> RenderableType:
    """What a fine-tune would be, and whether one is due."""
    table = _facts(f"Fine-tuning project {found.project}")
    table.add_row("from", f"the {found.frozen_model or 'missing'} frozen model")
    table.add_row(
        "how",
        f"{found.strategy}, {found.layers}, {found.epochs} epochs, step size "
        f"{found.learning_rate:g}, on {found.device}",
    )
    table.add_row("rare classes", ", ".join(found.tail) or "none")
    table.add_row("learned", _counts(found.learned, found.task))
    table.add_row("held out", _counts(found.held_out, found.task))
    table.add_row("", f"never seen by the model before: {_counts(found.fair, found.task)}")
    if found.running is not None:
        table.add_row("runs", f"number {found.running.number}, {found.running.message}")
    if found.due:
        table.add_row("due", Text(found.why, "green"))
    for reason in found.why_not:
        table.add_row("not yet", reason)
    return table


def asked_words(asked: FinetuneAsked) -> str:
    """What became of a wish, in a sentence or two."""
    run = asked.run
    if run is not None and run.state != "running":
        said = (
            f": {run.reasons[0]}" if run.state in {"failed", "superseded"} and run.reasons else ""
        )
        return f"Fine-tune {run.number} of project {asked.project} is {run.state}{said}."
    if run is None and asked.cancels:
        return f"The wish for a fine-tune of project {asked.project} is taken back."
    what = "ends" if asked.cancels else "goes on" if run is not None else "begins"
    words = f"A fine-tune of project {asked.project} {what} with the worker's next round."
    if asked.paused:
        words += " The project is paused; `rarefirst resume` goes on."
    elif not asked.worker_alive:
        words += " No worker runs; start `rarefirst serve`."
    return words


def evaluation_tables(found: Evaluation) -> RenderableType:
    """All versions on the held-out labels; all fine-tunes below."""
    parts: list[RenderableType] = [
        Text(
            f"{found.held_out} labeled images of project {found.project} are held out: "
            f"{_counts(found.held_out_by_class, found.task)}"
        )
    ]
    means = _BOX_FIGURES if found.task == DETECTION else _FIGURES
    table = _table("frozen model", *means, *found.tail, first="version")
    notes = []
    for row in found.versions:
        table.add_row(*_version(row, tuple(means), found.tail))
        if row.why_not:
            notes.append(f"{row.name}: {row.why_not}")
        if row.seen:
            notes.append(f"{row.name} was fitted on {row.seen} of them: its figures are too good")
        if row.missing and not row.why_not:
            notes.append(f"{row.name} could not be asked about {row.missing} of them")
    if found.task == DETECTION:
        notes.append("judged are the boxes that a version keeps of each image, no more than those")
    parts += [table, *(Text(f"note: {note}", "dim") for note in notes)]
    if found.finetunes:
        parts.append(finetunes_table(found.finetunes))
    return Group(*parts)


def finetunes_table(runs: Iterable[FinetuneReport]) -> Table:
    """One line a fine-tune."""
    table = _table("begun", "strategy", "labels", "before", "after", "verdict", first="fine-tune")
    for run in runs:
        table.add_row(
            f"{run.number} {run.state}",
            f"{run.at.astimezone():%F %R}",
            run.strategy,
            str(run.labels),
            "" if run.before is None else f"{run.before:.3f}",
            "" if run.after is None else f"{run.after:.3f}",
            run.reasons[0] if run.reasons else "",
        )
    return table


def review_table(found: LabelReview) -> RenderableType:
    """Labels to look at again, the most doubtful first."""
    parts: list[RenderableType] = []
    if found.labels:
        table = _table("label", "share", "model says", "share", found.by, first="task")
        for doubt in found.labels:
            table.add_row(
                str(doubt.task),
                doubt.label,
                f"{doubt.label_share:.2f}",
                doubt.instead,
                f"{doubt.instead_share:.2f}",
                f"{doubt.score:.2f}",
            )
        parts.append(table)
    else:
        parts.append(Text(f"Fine-tune {found.finetune} doubts no label that is still there."))
    if found.looked_at:
        parts.append(Text(f"{found.looked_at} more were changed since, or their tasks are gone."))
    if not found.out_of_sample:
        parts.append(
            Text("The model had learned these labels: wrong ones may be missing here.", "dim")
        )
    if found.tab is not None:
        parts.append(Text(f"They are in the tab 'Check these labels' (number {found.tab})."))
    return Group(*parts)


_FIGURES: Mapping[str, Callable[[ClassMetrics], float | None]] = MappingProxyType(
    {
        "balanced accuracy": lambda figures: figures.balanced_accuracy,
        "geometric mean": lambda figures: figures.geometric_mean,
        "macro F1": lambda figures: figures.macro_f1,
    }
)
_BOX_FIGURES: Mapping[str, Callable[[BoxMetrics], float | None]] = MappingProxyType(
    {
        "AP of the rare": lambda figures: figures.tail_ap,
        "AR of the rare": lambda figures: figures.tail_ar,
        "mean AP": lambda figures: figures.mean_ap,
        "at IoU .50": lambda figures: figures.mean_ap_50,
        "mean AR": lambda figures: figures.mean_ar,
    }
)


def _means(figures: ClassMetrics | BoxMetrics) -> dict[str, str]:
    """Figures over all classes, by name."""
    if figures.kind == "boxes":
        found = {name: get(figures) for name, get in _BOX_FIGURES.items()}
    else:
        found = {name: get(figures) for name, get in _FIGURES.items()}
    return {name: "" if value is None else f"{value:.3f}" for name, value in found.items()}


def _version(row: VersionFigures, means: tuple[str, ...], tail: Iterable[str]) -> list[str | Text]:
    name = Text(f"{row.name} (active)" if row.active else row.name, "bold" if row.active else "")
    figures = row.figures
    if figures is None:
        return [name, row.frozen_model, *("" for _ in means), *("" for _ in tail)]
    by_name: dict[str, ClassFigures | BoxFigures] = {one.name: one for one in figures.classes}
    return [
        name,
        row.frozen_model,
        *_means(figures).values(),
        *(_of_class(by_name[one]) if one in by_name else "" for one in tail),
    ]


def _of_class(figures: ClassFigures | BoxFigures) -> str:
    """Recall, or AP, with its interval."""
    if figures.worth is None:
        return "none held out"
    return f"{figures.worth:.2f} ({figures.low:.2f}-{figures.high:.2f})"


def _counts(counts: Mapping[str, int], task: str) -> str:
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    what = "boxes" if task == DETECTION else "labels"
    return f"{sum(counts.values())} {what} ({each})" if counts else "none"


def _table(*columns: str, first: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _facts(title: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", show_header=False, box=None
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table
