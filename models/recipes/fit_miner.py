"""Fit the miner on the labels at hand, from cached features only, and keep what it learned.

The miner always gives a queue. Without a tail class, or with too few labels, that is a diversity
order, and its explanation says so.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors.numpy import load_file, save_file
from torch import Tensor

from models.calibration import Calibration, from_part
from models.config import MinerConfig
from models.errors import ConfigError
from models.held_out import calibrated, fit_calibration
from models.holdouts import UNKNOWN, Provenance
from models.label_head import LabelHead
from models.recalibration import RecalibrationLayer
from models.recipes.choose_scorer import AUTO, Choice, choose_scorer
from models.recipes.miner_files import DAMAGE, refused_if_damaged
from models.scorers import SCORERS, StoredScorer
from models.scorers.base import (
    OriginalHead,
    check_examples,
    check_labeled,
    check_shapes,
    part_of,
)
from models.scorers.needs import Needs, has_own_head
from models.scorers.rarefirst import RareFirst
from models.streaming import Stacked
from models.types import (
    ClassSpace,
    Examples,
    IntArray,
    Judgement,
    LabeledExamples,
    Progress,
    RankedQueue,
    no_progress,
)

logger = logging.getLogger(__name__)

_CARD, _TENSORS = "miner.json", "miner.safetensors"
_CALIBRATION = "calibration"
_ROWS = 8192  # of a batch where there is no layer to compute


class _MinerCard(BaseModel):
    model_config = ConfigDict(frozen=True)

    kind: str
    explanation: str
    choice: str = ""
    metrics: dict[str, float]
    config: MinerConfig
    names: tuple[str, ...]
    tail: tuple[int, ...]
    class_priors: tuple[float, ...] | None
    judges: bool
    has_head: bool


class Miner:
    """A fitted miner: judges examples and orders a pool.

    Attributes:
        kind: name of the scorer that orders the queue.
        explanation: a sentence for a person where the order is not what was asked for, or where
            a tail class cannot be mined; empty otherwise.
        choice: how ``scorer: auto`` chose, with figures; empty where a scorer was named.
        metrics: figures of the fit.
        classes: the classes and the tail it was fitted for.
        calibration: how likelihoods at the priors become the ``rarity`` of a judgement.
    """

    def __init__(
        self,
        scorer: StoredScorer,
        *,
        kind: str,
        explanation: str,
        config: MinerConfig,
        classes: ClassSpace,
        head: OriginalHead | None,
        judge: RareFirst | None,
        metrics: dict[str, float],
        choice: str = "",
        calibration: Calibration | None = None,
    ) -> None:
        self.kind = kind
        self.explanation = explanation
        self.choice = choice
        self.config = config
        self.classes = classes
        self.metrics = metrics
        self.calibration = calibration or Calibration()
        self._scorer = scorer
        self._head = head
        self._judge = judge

    @property
    def scorer(self) -> StoredScorer:
        """What orders the queue."""
        return self._scorer

    @property
    def tail_judge(self) -> RareFirst | None:
        """What says how likely a task is rare; None where labels or tail did not allow it."""
        return self._judge

    @property
    def original_head(self) -> OriginalHead | None:
        """What says what a task looks like; None without one and without labels of two classes."""
        return self._head

    @property
    def own_head(self) -> LabelHead | None:
        """The frozen model's own head over the classes; None where a plain one stands in."""
        head = self._head
        if head is None or head.plain is None or head.label is None:
            return None
        return LabelHead(head.plain.weight, head.plain.bias, head.label, head.num_classes)

    def judge(self, examples: Examples) -> Judgement:
        """Say of each example how likely it is rare, and what it looks like.

        Raises: ShapeError: if features are not finite or of another size.
        """
        return self._pass(examples, lambda rows, logits, odds: None)

    def queue(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """The first ``min(budget, N)`` of the pool in the order in which to label them."""
        return self._scorer.rank(pool, budget=budget, seed=seed)

    def rescore(
        self, examples: Examples, pool: IntArray, *, budget: int, seed: int
    ) -> tuple[Judgement, RankedQueue]:
        """``judge`` all examples and ``queue`` those at the rows ``pool``, reading them once.

        Nothing but a batch of the features is ever held in single precision.

        Raises: ShapeError: if features are not finite or of another size.
        """
        judge, size = self._judge, min(max(budget, 0), len(pool))
        if judge is None or judge is not self._scorer or not size:
            return self.judge(examples), self.queue(examples.take(pool), budget=budget, seed=seed)
        contenders = judge.contenders(size, len(pool))
        is_open = np.zeros(len(examples), dtype=bool)
        is_open[pool] = True

        def look(rows: slice, logits: Tensor, odds: Tensor) -> None:
            at = np.flatnonzero(is_open[rows])
            if len(at) < odds.shape[1]:
                kept = torch.from_numpy(at)
                logits, odds = logits[:, kept], odds[:, kept]
            judge.look(contenders, examples, at + rows.start, logits, odds)

        judgement = self._pass(examples, look)
        return judgement, judge.order(examples.take(contenders.rows()), size)

    def _pass(self, examples: Examples, look: Callable[[slice, Tensor, Tensor], None]) -> Judgement:
        """Judge batch by batch; ``look`` is shown rows, re-calibrated logits and log-odds."""
        check_shapes(examples)
        size, head, judge = len(examples), self._head, self._judge
        predicted = np.zeros(size, dtype=np.int64)
        confidence: NDArray[np.float32] = np.zeros(size, dtype=np.float32)
        rarity: NDArray[np.float32] = np.zeros(size, dtype=np.float32)
        plain = head.plain if head is not None else None
        layers = [] if judge is None else [judge.layer]
        layers += [] if plain is None else [plain]
        if not layers:
            check_examples(examples)
        for rows, logits in _batches(layers, examples):
            if judge is not None:
                rare, odds = judge.weigh_up(logits[0])
                rarity[rows] = calibrated(rare.clamp_(0, 1), self.calibration).numpy()
                look(rows, logits[0], odds)
            if head is None:
                continue
            if plain is not None:
                shares = head.shares(logits[-1])
            else:
                shares = head.softmax_of(examples, rows.start, rows.stop)
            most, which = shares.max(dim=0)
            predicted[rows], confidence[rows] = which.numpy(), most.numpy()
        return Judgement(
            ids=examples.ids, rarity=rarity, predicted=predicted, confidence=confidence
        )

    def save(self, folder: Path) -> None:
        """Write arrays and settings into a folder that exists or is made."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, NDArray[np.generic]] = {
            f"scorer.{name}": value for name, value in self._scorer.state().items()
        }
        if self._judge is not None and self._judge is not self._scorer:
            arrays |= {f"judge.{name}": value for name, value in self._judge.state().items()}
        if self._head is not None:
            arrays |= self._head.state()
        arrays[_CALIBRATION] = self.calibration.state()
        card = _MinerCard(
            kind=self.kind,
            explanation=self.explanation,
            choice=self.choice,
            metrics=self.metrics,
            config=self.config,
            names=self.classes.names,
            tail=self.classes.tail,
            class_priors=self.classes.class_priors,
            judges=self._judge is not None,
            has_head=self._head is not None,
        )
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / _TENSORS)
        (folder / _CARD).write_text(json.dumps(card.model_dump(mode="json"), indent=2))

    @classmethod
    def load(cls, folder: Path) -> Miner:
        """Read what ``save`` wrote.

        Raises: CorruptVersion: if files are missing or damaged.
        """
        with refused_if_damaged(folder, *DAMAGE):
            card = _MinerCard.model_validate_json((folder / _CARD).read_bytes())
            arrays = load_file(folder / _TENSORS)
            classes = ClassSpace(card.names, card.tail, card.class_priors)
            scorer = _scorer(card.kind)(card.config)
            scorer.restore(part_of(arrays, "scorer."), classes=classes)
            judge = None
            if card.judges:
                judge = scorer if isinstance(scorer, RareFirst) else RareFirst(card.config)
                if judge is not scorer:
                    judge.restore(part_of(arrays, "judge."), classes=classes)
            head = OriginalHead.from_state(arrays, num_classes=classes.size)
        return cls(
            scorer,
            kind=card.kind,
            explanation=card.explanation,
            config=card.config,
            classes=classes,
            head=head if card.has_head else None,
            judge=judge,
            metrics=card.metrics,
            choice=card.choice,
            calibration=from_part(arrays, _CALIBRATION),
        )


def fit_miner(
    labeled: LabeledExamples,
    pool: Examples,
    *,
    classes: ClassSpace,
    config: MinerConfig,
    seed: int,
    judges: bool = True,
    provenance: Provenance = UNKNOWN,
    progress: Progress = no_progress,
) -> Miner:
    """Fit whatever the labels allow.

    Args:
        labeled: labels as indices into ``classes.names``; may be empty.
        pool: unlabeled examples.
        classes: names, tail and priors.
        config: which scorer, and its numbers; ``auto`` lets a backtest choose.
        seed: of everything random; the same input and seed give the same miner.
        judges: whether ``judge`` will be asked; without it only what orders the queue is fitted,
            and ``judge`` knows no likelihood but where ``rarefirst`` orders.
        provenance: how the labels came to be, for the backtest of ``auto`` and the calibration.
        progress: told after each part.

    Raises:
        ShapeError: if the input is not what ``Examples`` says.
        ConfigError: if the scorer is in no table.
    """
    labeled = replace(labeled, examples=labeled.examples.dense())
    check_labeled(labeled, classes)
    choice = _choice(labeled, classes, config, provenance, seed, progress)
    asked = config.model_copy(update={"scorer": choice.scorer})
    wanted = _scorer(asked.scorer)
    seen = np.bincount(labeled.targets, minlength=classes.size)
    several = int(np.count_nonzero(seen)) >= 2
    head = None
    if judges and (labeled.head is not None or labeled.examples.logits is not None or several):
        head = OriginalHead.fit(labeled, num_classes=classes.size)
    progress(1, 3, "re-calibration layer and autoencoder")
    kind, explanation = _what_is_possible(
        wanted.needs, seen, classes, asked, own_head=has_own_head(labeled)
    )
    judge = None
    # No scorer but ours says how likely a task is rare.
    lack = RareFirst.needs.lack_of_tail(classes)
    wants_judge = judges or kind == "rarefirst"
    if wants_judge and not lack and several and len(labeled) >= config.min_labels:
        judge = RareFirst(config).fit(labeled, pool, classes=classes, seed=seed)
    progress(2, 3, kind)
    scorer: StoredScorer
    if kind == "rarefirst" and judge is not None:
        scorer = judge
    else:
        scorer = _scorer(kind)(config).fit(labeled, pool, classes=classes, seed=seed)
    metrics = {"labels": float(len(labeled)), "pool": float(len(pool))}
    calibration = Calibration()
    if judge is not None:
        # What the frozen model has seen looks surer than the pool ever will.
        if judges and not provenance.trained_on:
            calibration = fit_calibration(
                judge,
                labeled,
                pool,
                classes=classes,
                unbiased=provenance.unbiased,
                seed=seed,
            )
        metrics |= judge.metrics | calibration.metrics
    metrics |= choice.figures
    for words in (choice.reason, explanation if kind != asked.scorer else ""):
        if words:
            logger.info("%s", words)
    progress(3, 3, kind)
    return Miner(
        scorer,
        kind=kind,
        explanation=explanation,
        config=config,
        classes=classes,
        head=head,
        judge=judge,
        metrics=metrics,
        choice=choice.reason,
        calibration=calibration,
    )


def _choice(
    labeled: LabeledExamples,
    classes: ClassSpace,
    config: MinerConfig,
    provenance: Provenance,
    seed: int,
    progress: Progress,
) -> Choice:
    """The scorer that was named, or the one that a backtest chooses."""
    if config.scorer != AUTO:
        return Choice(config.scorer, "")
    return choose_scorer(
        labeled,
        classes=classes,
        config=config,
        provenance=provenance,
        seed=seed,
        progress=lambda done, total, message="": progress(done, total, f"backtest: {message}"),
    )


def _batches(
    layers: list[RecalibrationLayer], examples: Examples
) -> Iterator[tuple[slice, tuple[Tensor, ...]]]:
    """Rows and logits of each layer, batch by batch; without layers the rows alone."""
    if layers:
        for start, logits in Stacked(layers).batches(examples):
            yield slice(start, start + logits[0].shape[1]), logits
        return
    for start in range(0, len(examples), _ROWS):
        yield slice(start, min(start + _ROWS, len(examples))), ()


def _what_is_possible(
    needs: Needs,
    seen: NDArray[np.int64],
    classes: ClassSpace,
    config: MinerConfig,
    *,
    own_head: bool,
) -> tuple[str, str]:
    """The scorer that can be fitted, and why it is not the one asked for."""
    wanted, count = config.scorer, int(seen.sum())
    if needs.learns(own_head=own_head) and count < config.min_labels:
        return "diversity", (
            f"{count} labels are too few to mine (at least {config.min_labels} are needed): "
            "the queue is a diversity order"
        )
    lack = needs.lack_of_labels(seen, classes, own_head=own_head) or needs.lack_of_tail(classes)
    if lack:
        return "diversity", f"{lack} (until then the queue is a diversity order)"
    blind = [classes.names[k] for k in classes.tail if not seen[k]]
    if blind and wanted == "rarefirst":
        return wanted, (
            f"no label of {', '.join(blind)} yet: what looks like no labeled class stands in for it"
        )
    return wanted, ""


def _scorer(name: str) -> type[StoredScorer]:
    if name not in SCORERS:
        raise ConfigError(f"found scorer {name!r}; expected {AUTO} or one of {', '.join(SCORERS)}")
    return SCORERS[name]
