"""`scorer: auto`: a quick backtest on the labels at hand decides what orders the queue.

The default stays unless another scorer is better beyond chance: with few labels nothing can be
told, and a change that is chance today is another one tomorrow.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.config import BacktestConfig, MinerConfig
from models.errors import NoTailClass, NotEnoughLabels, OutOfTime
from models.holdouts import UNKNOWN, Provenance
from models.recipes.backtest import DEFAULT, backtest
from models.recipes.backtest_report import BacktestReport
from models.scorers import SCORERS
from models.types import ClassSpace, LabeledExamples, Progress, no_progress

logger = logging.getLogger(__name__)

#: The scorer's name in the settings that leaves the choice to us.
AUTO = "auto"

#: What is chosen from: each has won somewhere. Those that wait for labels in between are left
#: out, since a queue is published as a whole.
CANDIDATES = (DEFAULT, "tail_mass_rc", "tail_mass", "paper")

#: Seconds, not minutes: it runs before every fit.
QUICK = BacktestConfig(repeats=8, max_labels=1000, least_tail=12, time_limit_s=15.0)


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        scorer: a name of ``SCORERS``.
        reason: why, with figures, as a sentence.
        figures: coverage of each candidate by ``backtest_<name>``; empty without a backtest.
    """

    scorer: str
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)


def choose_scorer(
    labeled: LabeledExamples,
    *,
    classes: ClassSpace,
    config: MinerConfig,
    provenance: Provenance = UNKNOWN,
    seed: int,
    progress: Progress = no_progress,
) -> Choice:
    """Choose what would have found the most, or the default where that cannot be told.

    Args:
        labeled: all labels; may be too few.
        classes: names, tail and priors.
        config: the scorers' numbers.
        provenance: how the labels came to be.
        seed: of the hold-outs and the scorers. The choice is a function of it and the labels,
            unless the time limit of ``QUICK`` ends the backtest; the reason says so then.
        progress: told after each fit.

    Raises: ShapeError: if the input is not what ``Examples`` says.
    """
    try:
        report = backtest(
            labeled,
            classes=classes,
            scorers=[name for name in CANDIDATES if name in SCORERS],
            config=config,
            settings=QUICK,
            provenance=provenance,
            seed=seed,
            progress=progress,
        )
    except (NoTailClass, NotEnoughLabels, OutOfTime) as error:
        return Choice(DEFAULT, f"auto: {DEFAULT}, since scorers cannot be compared yet: {error}")
    figures = {
        f"backtest_{result.scorer}": result.coverage.mean
        for result in report.results
        if result.coverage is not None
    }
    return Choice(report.chosen, _reason(report), figures)


def _reason(report: BacktestReport) -> str:
    chosen = report.of(report.chosen)
    if chosen.better and chosen.against_default is not None:
        more = chosen.against_default
        why = (
            f"which covers {more.mean:+.2f} ({more.low:+.2f} to {more.high:+.2f}) more than "
            f"{report.default}"
        )
    else:
        why = "no other is better beyond chance"
    each = "; ".join(
        f"{result.scorer} {result.coverage.mean:.2f} ({result.coverage.low:.2f}-"
        f"{result.coverage.high:.2f})"
        if result.coverage is not None
        else f"{result.scorer} not usable ({result.refused})"
        for result in report.results
    )
    words = (
        f"auto: {report.chosen}, {why} in {report.repeats} hold-outs of {report.labels} labels, "
        f"{report.tail_labels} of them rare. Recall averaged over the tail classes and the first "
        f"{report.first[-1]} labels: {each}"
    )
    return f"{words}. Note: {'; '.join(report.notes)}." if report.notes else f"{words}."
