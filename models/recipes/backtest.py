"""Which scorer would have found how many of the rare ones that are labeled already.

Labels are hidden again and again, each scorer learns from the rest and orders the hidden ones.
Every scorer sees the same hold-outs, so that differences are compared, not figures.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from models.config import BacktestConfig, MinerConfig
from models.errors import ConfigError, ModelError, NotEnoughLabels, OutOfTime
from models.holdouts import UNKNOWN, HoldOut, HoldOuts, Provenance
from models.intervals import Interval, resampled_interval
from models.recipes.backtest_report import BacktestReport, ScorerResult, conclusion
from models.scorers import SCORERS
from models.scorers.base import check_labeled
from models.types import (
    AsksAsItGoes,
    ClassSpace,
    IntArray,
    LabeledExamples,
    Progress,
    no_progress,
)
from models.weighted_finds import Finds

logger = logging.getLogger(__name__)

#: What others are compared with, and what is used where none is better.
DEFAULT = "rarefirst"

_BUDGETS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
_SHOWN_BUDGETS = 3
_LEAST = 2  # hold-outs, for an interval
_WORTH = 0.01  # of coverage: a smaller difference is no reason to change anything


@dataclass
class _Figures:
    """Of one scorer, a value a hold-out."""

    found: list[list[float]] = field(default_factory=list)
    recall: list[list[float]] = field(default_factory=list)
    precision: list[float] = field(default_factory=list)
    coverage: list[float] = field(default_factory=list)
    seconds: float = 0.0
    asks: bool = False
    refused: str = ""


@dataclass(frozen=True)
class _Setup:
    """What all hold-outs have in common."""

    labeled: LabeledExamples
    classes: ClassSpace
    plan: HoldOuts
    first: tuple[int, ...]
    config: MinerConfig
    settings: BacktestConfig
    seed: int
    notes: tuple[str, ...]


def backtest(
    labeled: LabeledExamples,
    *,
    classes: ClassSpace,
    scorers: Sequence[str],
    config: MinerConfig,
    settings: BacktestConfig,
    provenance: Provenance = UNKNOWN,
    seed: int,
    progress: Progress = no_progress,
) -> BacktestReport:
    """Compare scorers on the labels at hand.

    Args:
        labeled: all labels, as indices into ``classes.names``.
        classes: names, tail and priors; the priors say how rare the tail is among what is not
            labeled.
        scorers: names of ``SCORERS``. The default is what others are compared with; where it is
            not named, the first one is.
        config: the scorers' numbers.
        settings: how labels are hidden, and how often.
        provenance: how the labels came to be. A head that was trained on them knows the hidden
            ones: neither it nor its logits are shown to any scorer.
        seed: of everything random; the same input and seed give the same report but for seconds,
            where the time limit does not end it.
        progress: told after each fit.

    Raises:
        ConfigError: if no scorer is named, or one that is in no table.
        NoTailClass: if no class is in the tail, or all are.
        NotEnoughLabels: with how many there are and how many are needed.
        OutOfTime: if the time limit leaves fewer than two hold-outs.
        ShapeError: if the input is not what ``Examples`` says.
    """
    names = _known(scorers)
    order = np.argsort(labeled.examples.ids, kind="stable")
    fair = None if provenance.unbiased is None else provenance.unbiased[order]
    notes = []
    if provenance.trained_on:
        labeled = replace(labeled, examples=replace(labeled.examples, logits=None), head=None)
        notes.append(
            f"the frozen model was trained on {provenance.trained_on} of the labels, hidden ones "
            "included: in truth fewer are found, by every scorer"
        )
    labeled = _rows(labeled, order)
    check_labeled(labeled, classes)
    plan = HoldOuts(labeled.targets, classes, fair, settings)
    setup = _Setup(
        labeled, classes, plan, _first(plan), config, settings, seed, (*plan.notes, *notes)
    )
    figures = {name: _Figures() for name in names}
    return _report(setup, figures, _compare(setup, figures, progress))


def _compare(setup: _Setup, figures: Mapping[str, _Figures], progress: Progress) -> int:
    """Let every scorer order every hold-out; the number of hold-outs that all of them ordered."""
    limit, total = setup.settings.time_limit_s, setup.settings.repeats
    begun = time.monotonic()
    for repeat in range(total):
        hold_out = setup.plan.draw(np.random.default_rng([setup.seed, repeat]))
        for number, (name, found) in enumerate(figures.items()):
            if time.monotonic() - begun > limit:
                if repeat < _LEAST:
                    raise OutOfTime(
                        f"{repeat} hold-outs were made within {limit:g} s, expected {_LEAST} at "
                        "least: compare fewer scorers, or give more time"
                    )
                return repeat
            if not found.refused:
                _try(setup, hold_out, name, found, seed=setup.seed + repeat)
            progress(repeat * len(figures) + number + 1, total * len(figures), name)
    return total


def _known(scorers: Sequence[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(scorers))
    unknown = [name for name in names if name not in SCORERS]
    if unknown or not names:
        raise ConfigError(
            f"found scorers {', '.join(map(repr, unknown)) or 'none'}; expected some of "
            f"{', '.join(SCORERS)}"
        )
    return names


def _rows(labeled: LabeledExamples, rows: IntArray) -> LabeledExamples:
    """Some labels, with arrays of their own."""
    return LabeledExamples(labeled.examples.take(rows).dense(), labeled.targets[rows], labeled.head)


def _first(plan: HoldOuts) -> tuple[int, ...]:
    """Numbers of labels worth telling of: from as many as are rare on, within the pool."""
    within = [n for n in _BUDGETS if plan.rare <= n < plan.pool][:_SHOWN_BUDGETS]
    return tuple(within) or (max(int(plan.pool), 1),)


def _try(setup: _Setup, hold_out: HoldOut, name: str, figures: _Figures, *, seed: int) -> None:
    """Fit a scorer on what is known, and count what its order of the hidden ones finds."""
    begun = time.monotonic()
    known, hidden = (_rows(setup.labeled, rows) for rows in (hold_out.known, hold_out.hidden))
    by_id = np.argsort(hidden.examples.ids)
    sorted_ids, sorted_targets = hidden.examples.ids[by_id], hidden.targets[by_id]

    def oracle(ids: IntArray) -> IntArray:
        answers: IntArray = sorted_targets[np.searchsorted(sorted_ids, ids)]
        return answers

    try:
        scorer = SCORERS[name](setup.config)
        # Of the hidden ones the scorer gets what it has of a pool: no label.
        scorer.fit(known, hidden.examples, classes=setup.classes, seed=seed)
        if isinstance(scorer, AsksAsItGoes):
            figures.asks = True
            queue = scorer.ask(hidden.examples, oracle, budget=len(hidden), seed=seed)
        else:
            queue = scorer.rank(hidden.examples, budget=len(hidden), seed=seed)
    except ModelError as error:
        logger.info("scorer %s takes no part in the backtest: %s", name, error)
        figures.refused = str(error)
        return
    plan, first = setup.plan, setup.first
    finds = Finds.of(
        oracle(queue.ids),
        hold_out.weights[by_id][np.searchsorted(sorted_ids, queue.ids)],
        plan.tail,
        plan.rare_by_class[list(plan.tail)].tolist(),
    )
    figures.found.append([finds.at(n) for n in first])
    figures.recall.append(finds.recall_at(first[-1]).tolist())
    figures.precision.append(finds.average_precision())
    figures.coverage.append(finds.coverage(first[-1]))
    figures.seconds += time.monotonic() - begun


def _report(setup: _Setup, figures: Mapping[str, _Figures], repeats: int) -> BacktestReport:
    plan, settings, first = setup.plan, setup.settings, setup.first
    usable = [name for name, found in figures.items() if not found.refused]
    if not usable:
        raise NotEnoughLabels(
            "no scorer could learn from the labels that were not hidden: "
            + "; ".join(f"{name}: {found.refused}" for name, found in figures.items())
        )
    default = DEFAULT if DEFAULT in usable else usable[0]
    results = [
        ScorerResult(scorer=name, refused=found.refused)
        if found.refused
        else _result(setup, name, found, figures[default], repeats, others=len(usable) - 1)
        for name, found in figures.items()
    ]
    # Stable: of equal ones the one that was named first.
    results.sort(key=lambda result: -result.coverage.mean if result.coverage else 1.0)
    tail_labels = int(np.isin(setup.labeled.targets, setup.classes.tail).sum())
    cut = f"{repeats} of {settings.repeats} hold-outs fit into {settings.time_limit_s:g} s"
    report = BacktestReport(
        labels=len(setup.labeled),
        tail_labels=tail_labels,
        repeats=repeats,
        hidden_rare=plan.rare,
        pool=plan.pool,
        prevalence=plan.rare / plan.pool,
        mined_share=plan.mined / tail_labels,
        first=first,
        by_chance=tuple(plan.rare * n / plan.pool for n in first),
        confidence=settings.confidence,
        default=default,
        chosen=next((result.scorer for result in results if result.better), default),
        results=tuple(results),
        conclusion="",
        notes=(*setup.notes, *([cut] if repeats < settings.repeats else [])),
        seed=setup.seed,
    )
    return report.model_copy(update={"conclusion": conclusion(report)})


def _result(
    setup: _Setup, name: str, found: _Figures, default: _Figures, repeats: int, *, others: int
) -> ScorerResult:
    """Of the first ``repeats`` hold-outs, which every scorer ordered."""
    plan, settings = setup.plan, setup.settings

    def interval(
        values: Sequence[float],
        *,
        confidence: float = settings.confidence,
        least: float = 0.0,
        most: float = 1.0,
    ) -> Interval:
        return resampled_interval(
            np.asarray(values[:repeats]),
            hidden_to_known=plan.hidden_to_known,
            confidence=confidence,
            within=(least, most),
        )

    against, better = None, False
    if found is not default:
        more = np.subtract(found.coverage[:repeats], default.coverage[:repeats]).tolist()
        against = interval(more, least=-1)
        # Several are compared with the default: the chance that any seems better is shared out.
        shared = 1 - (1 - settings.confidence) / others
        strict = interval(more, confidence=shared, least=-1)
        better = strict.low > 0 and strict.mean > _WORTH
    names = [setup.classes.names[k] for k in plan.tail]
    return ScorerResult(
        scorer=name,
        found=tuple(
            interval(column, most=plan.rare) for column in np.transpose(found.found).tolist()
        ),
        recall_by_class={
            label: interval(column)
            for label, column in zip(names, np.transpose(found.recall).tolist(), strict=True)
        },
        average_precision=interval(found.precision),
        coverage=interval(found.coverage),
        against_default=against,
        better=better,
        seconds=found.seconds / len(found.coverage),
        asks=found.asks,
    )
