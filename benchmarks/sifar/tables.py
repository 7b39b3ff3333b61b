"""The results as Markdown: the issue's table first, then everything behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.sifar.aggregate import ALL, Case, Line, Lines
from benchmarks.sifar.cells import FrozenName
from benchmarks.sifar.cnn import CnnReport
from benchmarks.sifar.goals import Goal, short
from benchmarks.sifar.plan import FEW, LABELS, PLAYED, SINGLE
from models.scorers import SCORERS

_FROZEN: tuple[FrozenName, ...] = ("cnn", "eff")
_RANKED = ("ap", "auc", "average_f", "p@50", "p@100", "p@500", "p@2000", "found@500")
_BY_CLASS = ("rarefirst", "tail_mass_rc", "tail_mass", "paper")
_RECALL = ("recall@2000.rarer", "recall@2000.rare")


@dataclass(frozen=True)
class Told:
    """All that the page says.

    Attributes:
        title: of the page.
        notes: paragraphs under it: the command, the machine, the code.
        tails: the choices of tail classes.
        goals: the issue's table.
        lines: what was measured.
        networks: how well each CNN does, by name.
        plots: file names of pictures beside the page.
    """

    title: str
    notes: Sequence[str]
    tails: Sequence[str]
    goals: Sequence[Goal]
    lines: Lines
    networks: Mapping[str, CnnReport]
    plots: Sequence[str]


def page(told: Told) -> str:
    """The whole page; of what was not measured there is no table."""
    blocks = [
        f"# {told.title}",
        *told.notes,
        "## What issue 4 asks for",
        "Means +- standard deviation over the draws. Over all: mean over the choices of tail "
        "classes; its spread is that of the draws (root mean variance). The rarer tail class is "
        "named first; CPU s: seconds of processor time, one thread.",
        *_goals(told),
        *(f"![{name}]({name})" for name in told.plots),
        *_networks(told.networks),
    ]
    for frozen in _FROZEN:
        blocks += _ranking(told, frozen)
    blocks += ["## Labels per tail class: AP, uniform pool, over all tail classes"]
    for frozen in _FROZEN:
        blocks += _labels(told, frozen)
    for frozen in _FROZEN:
        blocks += _rounds(told, frozen)
    blocks += [*_tail_classes(told), *_paper(told), *_likelihood(told), *_refusals(told.lines)]
    return "\n\n".join(blocks) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is words, the others are figures."""
    ruler = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ruler, *rows))


def _goals(told: Told) -> Iterator[str]:
    rows = []
    for goal in told.goals:
        cells = [goal.reached[tail].words if tail in goal.reached else "" for tail in told.tails]
        over_all = goal.reached[ALL]
        missed = [
            tail for tail in told.tails if tail in goal.reached and goal.reached[tail].met is False
        ]
        met = {True: "yes", False: "no", None: "not measured"}[over_all.met]
        if over_all.met and missed:
            met += f" (no: {'; '.join(missed)})"
        if over_all.met is False and goal.reached.keys() > {ALL}:
            reached = [tail for tail in told.tails if goal.reached[tail].met]
            met += f" (yes: {'; '.join(reached)})" if reached else ""
        rows.append([goal.case, goal.known, goal.wanted, *cells, over_all.words, met])
    head = ["case", "known best", "must reach", *told.tails, "over all", "met over all"]
    yield table(head, rows)


def _networks(networks: Mapping[str, CnnReport]) -> Iterator[str]:
    rows = [
        [name, f"{100 * told.balanced_accuracy:.1f} %", f"{100 * told.train_accuracy:.1f} %"]
        for name, told in networks.items()
    ]
    if not rows:
        return
    yield "## Frozen models"
    yield (
        "CNN: the released network, 20 epochs, crops and flips. Published balanced test accuracy: "
        "65.4 %. `blind` never saw the tail classes: it has eight outputs, and scores 0 on two "
        "tenths of the test. EFF: EfficientNet-Lite0 at 96 px with its ImageNet weights, no head."
    )
    yield table(["CNN", "balanced test accuracy", "training accuracy, augmented"], rows)


def _ranking(told: Told, frozen: FrozenName) -> Iterator[str]:
    for pool in ("uniform", "natural"):
        names = [f"{pool}.{name}" for name in (*_RANKED, *_RECALL)]
        last = "seconds.fit"
        rows = []
        for entry in SCORERS:
            line = told.lines.get(Case("rank", frozen, None, entry))
            if line is not None and line.figures:
                seconds = line.figures[last].mean + line.figures[f"{pool}.seconds.rank"].mean
                rows.append([entry, *_figures(line, names), f"{seconds:.1f}"])
        if not rows:
            continue
        yield f"## Ranking the {pool} pool, {frozen.upper()}, over all tail classes"
        key = f"{pool}.ap"
        rows.sort(key=lambda row: -_mean(told.lines, Case("rank", frozen, None, row[0]), key))
        yield table(["scorer", *_RANKED, "rarer@2000", "other@2000", "CPU s"], rows)
        yield f"AP on each choice of tail classes ({pool} pool, {frozen.upper()}):"
        yield table(
            ["scorer", *told.tails],
            [
                [
                    row[0],
                    *(
                        _figure(told.lines.get(Case("rank", frozen, None, row[0], tail)), key)
                        for tail in told.tails
                    ),
                ]
                for row in rows
            ],
        )


def _labels(told: Told, frozen: FrozenName) -> Iterator[str]:
    rows = [
        [
            entry,
            *(
                _figure(told.lines.get(Case("rank", frozen, labels, entry)), "uniform.ap")
                for labels in LABELS
            ),
        ]
        for entry in FEW
    ]
    if not any(any(row[1:]) for row in rows):
        return
    yield f"{frozen.upper()}:"
    yield table(["scorer", *(f"{labels} labels" for labels in LABELS)], rows)


def _rounds(told: Told, frozen: FrozenName) -> Iterator[str]:
    names = [*(f"found.round{turn}" for turn in range(1, 6)), "found.mean"]
    names += ["recall.rarer", "recall.rare"]
    rows = []
    for entry in PLAYED:
        line = told.lines.get(Case("rounds", frozen, None, entry))
        if line is not None and line.figures:
            seconds = line.figures["seconds.round"].mean
            rows.append([entry, *_figures(line, names), f"{seconds:.1f}"])
    if not rows:
        return
    yield f"## Five rounds of 200 labels, natural pool (74 rare), {frozen.upper()}"
    head = ["scorer", *(f"after {200 * turn}" for turn in range(1, 6)), "mean of the five"]
    yield table([*head, "of the rarer", "of the other", "CPU s a round"], rows)


def _tail_classes(told: Told) -> Iterator[str]:
    """Which share of each tail class is found, by name."""
    rows = []
    for frozen in _FROZEN:
        for tail in told.tails:
            for entry in _BY_CLASS:
                ranked = told.lines.get(Case("rank", frozen, None, entry, tail))
                played = told.lines.get(Case("rounds", frozen, None, entry, tail))
                for name, which in zip(tail.split(","), ("rarer", "rare"), strict=True):
                    figures = [
                        _figure(ranked, f"uniform.recall@2000.{which}"),
                        _figure(ranked, f"natural.recall@500.{which}"),
                        _figure(played, f"recall.{which}"),
                    ]
                    if any(figures):
                        rows.append([f"{frozen.upper()}, {name} ({which}), {entry}", *figures])
    if not rows:
        return
    yield "## Found of each tail class"
    yield table(
        ["case", "uniform pool, first 2,000", "natural pool, first 500", "natural, five rounds"],
        rows,
    )


def _paper(told: Told) -> Iterator[str]:
    names = [f"uniform.{name}" for name in ("ap", "auc", "average_f", "p@500", "p@2000")]
    rows = []
    for frozen in _FROZEN:
        for entry in SINGLE:
            for tail in (*told.tails, ALL):
                line = told.lines.get(Case("rank", frozen, None, entry, tail))
                if line is not None and line.figures:
                    ap = line.figures["uniform.ap"]
                    rows.append(
                        [
                            f"{entry}, {frozen.upper()}, {tail}",
                            *_figures(line, names),
                            f"{ap.least:.2f} to {ap.most:.2f}",
                        ]
                    )
    if not rows:
        return
    yield "## The published method: one autoencoder on softmax, five seeds on the same labels"
    yield table(["case", "ap", "auc", "average_f", "p@500", "p@2000", "least and most ap"], rows)


def _likelihood(told: Told) -> Iterator[str]:
    names = {
        "uniform pool, true priors": ("likelihood", "uniform.true_priors"),
        "uniform pool, label priors": ("likelihood", "uniform.label_priors"),
        "natural pool, true priors": ("likelihood", "natural.true_priors"),
        "natural pool, after five rounds": ("rounds", "after_rounds"),
    }
    rows = []
    for frozen in _FROZEN:
        for words, (task, name) in names.items():
            case = Case("rounds" if task == "rounds" else "likelihood", frozen, None, "rarefirst")
            line = told.lines.get(case)
            if line is not None and line.figures:
                keys = [f"{name}.{key}" for key in ("ece", "ece@1000", "mean_likelihood", "share")]
                rows.append([f"{frozen.upper()}, {words}", *_figures(line, keys)])
    if not rows:
        return
    yield "## Whether `rarity` reads as a probability"
    yield (
        "Expected calibration error over 15 equally wide bins, of the whole pool and of its 1,000 "
        "likeliest; true priors: the pool's own shares of the classes; label priors: those of the "
        "labels, which are the natural pool's too. After five rounds: what is left of the natural "
        "pool, 1,000 mined labels among those that were learned from."
    )
    yield table(["case", "error", "of the likeliest", "mean likelihood", "share of rare"], rows)


def _refusals(lines: Lines) -> Iterator[str]:
    refused = {
        case: line.refused for case, line in lines.items() if line.refused and case.tail == ALL
    }
    if refused:
        yield "## Refused"
        yield "\n".join(
            f"- {case.entry}, {case.task}, {case.frozen.upper()}, "
            f"{'4 and 58' if case.labels is None else case.labels} labels: {why}"
            for case, why in refused.items()
        )


def _figures(line: Line, names: Sequence[str]) -> list[str]:
    return [_figure(line, name) for name in names]


def _figure(line: Line | None, name: str) -> str:
    if line is None:
        return ""
    if line.refused:
        return "refused"
    return short(line.figures[name], name) if name in line.figures else ""


def _mean(lines: Lines, case: Case, name: str) -> float:
    """Minus one where only a head was ranked."""
    figures = lines[case].figures
    return figures[name].mean if name in figures else -1
