"""What a backtest of several scorers tells."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from models.errors import ConfigError
from models.intervals import Interval


class ScorerResult(BaseModel):
    """What one scorer would have found.

    Attributes:
        found: rare ones among the first labels, for each of the report's ``first``.
        recall_by_class: of each tail class at the last of ``first``.
        average_precision: over the whole imitated pool.
        coverage: recall of a tail class, averaged over the classes and over the first labels up
            to the last of ``first``: what scorers are compared by.
        against_default: how much more coverage than the default has on the same hold-outs.
        better: whether that is more than chance and worth a change.
        seconds: of one fit and order, in the mean.
        asks: it was told each label before it chose the next ones.
        refused: why it could not be used, empty where it could; there are no figures then.
    """

    model_config = ConfigDict(frozen=True)

    scorer: str
    found: tuple[Interval, ...] = ()
    recall_by_class: Mapping[str, Interval] = Field(default_factory=dict)
    average_precision: Interval | None = None
    coverage: Interval | None = None
    against_default: Interval | None = None
    better: bool = False
    seconds: float = 0.0
    asks: bool = False
    refused: str = ""


class BacktestReport(BaseModel):
    """A backtest of several scorers on the labels of one project.

    Attributes:
        labels: labels that there are; tail_labels: those of tail classes.
        repeats: hold-outs that were made.
        hidden_rare: rare ones hidden in each.
        pool: tasks of the imitated pool; prevalence: share of rare ones in it.
        mined_share: share of the tail labels that our own queue chose, which are those that the
            scorer of that time finds easily.
        first: numbers of labels for which ``found`` is told; by_chance: found in random order.
        default: the scorer that others are compared with.
        chosen: the scorer with the most coverage of those that are better than the default, else
            the default.
        results: of each scorer, most coverage first, those that refused last.
        conclusion: in a sentence.
        notes: what a person should know, one sentence each.
    """

    model_config = ConfigDict(frozen=True)

    labels: int
    tail_labels: int
    repeats: int
    hidden_rare: int
    pool: float
    prevalence: float
    mined_share: float
    first: tuple[int, ...]
    by_chance: tuple[float, ...]
    confidence: float
    default: str
    chosen: str
    results: tuple[ScorerResult, ...]
    conclusion: str
    notes: tuple[str, ...] = ()
    seed: int = 0

    @property
    def refused(self) -> tuple[ScorerResult, ...]:
        """Those that could not be used."""
        return tuple(result for result in self.results if result.refused)

    def of(self, scorer: str) -> ScorerResult:
        """The result of one scorer.

        Raises: ConfigError: if it did not take part.
        """
        for result in self.results:
            if result.scorer == scorer:
                return result
        raise ConfigError(f"scorer {scorer!r} took no part in this backtest")


def conclusion(report: BacktestReport) -> str:
    """What to make of it, in a sentence."""
    best = report.of(report.chosen)
    found = best.found[0]
    words = (
        f"{best.scorer} would have found {found.mean:.1f} ({found.low:.1f}-"
        f"{found.high:.1f}) of {report.hidden_rare} hidden rare ones with {report.first[0]} "
        f"labels, random order {report.by_chance[0]:.1f}"
    )
    if best.against_default is not None and best.better:
        more = best.against_default
        return (
            f"{words}; it covers {more.mean:+.2f} ({more.low:+.2f} to {more.high:+.2f}) more than "
            f"{report.default}, which is more than chance."
        )
    others = [result for result in report.results if result.against_default is not None]
    if not others:
        return f"{words}."
    return f"{words}; {_others(len(others))} better than {best.scorer} beyond chance."


def _others(count: int) -> str:
    return "the other scorer is not" if count == 1 else f"none of the other {count} scorers is"
