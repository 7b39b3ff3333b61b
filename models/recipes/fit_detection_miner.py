"""Fit the miner of a detection project on the boxes at hand, from cached detections only.

As ``fit_miner`` it always gives a queue: without a tail class, with too few labels, or where the
detector finds none of what was labeled, that is a diversity order of whole pictures, and its
explanation says so.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors.numpy import load_file, save_file
from scipy.special import expit

from models.calibration import Calibration
from models.config import MinerConfig
from models.detection.boxes import Boxes
from models.detection.matching import LabeledSlots, label
from models.detection.scorers import DETECTION_SCORERS, DIVERSITY, DetectionScorer
from models.detection.scorers.base import LEAST_CONFIDENCE, PictureScores
from models.detection.scorers.rarefirst import RareFirstBoxes
from models.detection.slots import Layout, Slots
from models.errors import ConfigError, NotEnoughLabels, ShapeError
from models.label_head import LabelHead
from models.recipes.choose_scorer import AUTO
from models.recipes.miner_files import DAMAGE, refused_if_damaged
from models.scorers.base import part_of
from models.scorers.best import best_rows
from models.scorers.diversity import Diversity
from models.scorers.needs import Needs
from models.scorers.turns import take_turns
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

KIND = "detection"
Columns = tuple[tuple[int, ...], ...]
_DEFAULT = "rarefirst"
_CARD, _TENSORS = "miner.json", "miner.safetensors"
_UNKNOWN_LOGIT = -12.0  # of a class that the detector has no column for
_CHUNK = 2000  # pictures judged at once
_POOL = 2400  # pictures of the pool that a scorer may look at
_SURE = 0.5


@dataclass(frozen=True)
class LabeledImages:
    """Pictures and the boxes that they hold.

    Attributes:
        examples: N pictures as rows of slots.
        boxes: N sets of boxes.
    """

    examples: Examples
    boxes: tuple[Boxes, ...]

    def __len__(self) -> int:
        return len(self.boxes)


class _MinerCard(BaseModel):
    model_config = ConfigDict(frozen=True)

    task: str = KIND
    kind: str
    explanation: str
    choice: str = ""
    metrics: dict[str, float]
    config: MinerConfig
    names: tuple[str, ...]
    tail: tuple[int, ...]
    class_priors: tuple[float, ...] | None
    head: tuple[str, ...]
    columns: tuple[tuple[int, ...], ...]
    patch_size: int
    judges: bool


class DetectionMiner:
    """A fitted miner of pictures by their detections; used as ``fit_miner.Miner`` is.

    Attributes:
        kind: name of the scorer that orders the queue.
        explanation: a sentence for a person where the order is not what was asked for; empty
            otherwise.
        choice: how ``scorer: auto`` was understood; empty where a scorer was named.
        metrics: figures of the fit.
        classes: the classes and the tail it was fitted for.
        head: the detector's classes, in the order of its logits.
        columns: for each class those of the logits that stand for it.
        calibration: likelihoods are left as they are.
        own_head: always None: a detector's head is over the project's classes.
    """

    own_head: LabelHead | None = None

    def __init__(
        self,
        scorer: DetectionScorer | Diversity,
        *,
        kind: str,
        explanation: str,
        config: MinerConfig,
        classes: ClassSpace,
        head: tuple[str, ...],
        columns: Columns,
        patch_size: int,
        judge: DetectionScorer | None,
        metrics: dict[str, float],
        choice: str = "",
    ) -> None:
        self.kind, self.explanation, self.choice = kind, explanation, choice
        self.config, self.classes = config, classes
        self.head, self.columns = head, columns
        self.metrics = metrics
        self.calibration = Calibration()
        self.patch_size = patch_size
        self._scorer, self._judge = scorer, judge

    @property
    def scorer(self) -> DetectionScorer | Diversity:
        """What orders the queue."""
        return self._scorer

    @property
    def judge_of_boxes(self) -> RareFirstBoxes | None:
        """What says how likely a detection is rare; None where labels or tail did not allow it."""
        return self._judge if isinstance(self._judge, RareFirstBoxes) else None

    def judge(self, examples: Examples) -> Judgement:
        """Say of each picture how likely it holds something rare, and what was found in it.

        Raises: ShapeError: if the rows are not of the detector that the miner was fitted with.
        """
        return self._look(examples, wanted=False)[0]

    def queue(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """The first ``min(budget, N)`` of the pool in the order in which to label them."""
        return self._order(self._look(pool, wanted=True)[1], pool, budget=budget, seed=seed)

    def rescore(
        self, examples: Examples, pool: IntArray, *, budget: int, seed: int
    ) -> tuple[Judgement, RankedQueue]:
        """``judge`` all pictures and ``queue`` those at the rows ``pool``, reading them once."""
        judgement, scores = self._look(examples, wanted=True)
        rows = np.asarray(pool, dtype=np.int64)
        return judgement, self._order(
            None if scores is None else _taken(scores, rows),
            examples.take(rows),
            budget=budget,
            seed=seed,
        )

    def _look(self, examples: Examples, *, wanted: bool) -> tuple[Judgement, PictureScores | None]:
        """Judge in chunks; and the scores of the queue's scorer, where they are ``wanted``."""
        layout = Layout.of(examples, len(self.head))
        size, top = len(examples), layout.slots - 1
        boxes = np.zeros((size, top, 6), dtype=np.float32)
        rarity = np.zeros(size, dtype=np.float32)
        parts: list[PictureScores] = []
        scorer = None if isinstance(self._scorer, Diversity) else self._scorer
        for start in range(0, size, _CHUNK):
            some = examples.slice(start, min(start + _CHUNK, size))
            slots = over(layout.detections(some), self.columns)
            here = slice(start, start + len(some))
            boxes[here] = _boxes(slots, len(some), top)
            said = None
            if self._judge is not None:
                said = self._judge.scores(slots, len(some))
                if said.rarity is not None:
                    rarity[here] = np.clip(said.rarity, 0, 1)
            if wanted and scorer is not None:
                same = said is not None and scorer is self._judge
                parts.append(said if same and said else scorer.scores(slots, len(some)))
        first = boxes[:, 0] if top else np.zeros((size, 6), dtype=np.float32)
        judgement = Judgement(
            ids=examples.ids,
            rarity=rarity,
            predicted=first[:, 4].astype(np.int64),
            confidence=first[:, 5],
            boxes=boxes,
        )
        return judgement, _joined(parts) if parts else None

    def _order(
        self, scores: PictureScores | None, pool: Examples, *, budget: int, seed: int
    ) -> RankedQueue:
        size = min(max(budget, 0), len(pool))
        if not size:
            return RankedQueue(ids=pool.ids[:0])
        layout = Layout.of(pool, len(self.head))
        if isinstance(self._scorer, Diversity):
            whole = Examples(pool.ids, layout.pictures(pool)[:, self.patch_size :])
            return self._scorer.rank(whole, budget=size, seed=seed)
        if scores is None:
            raise RuntimeError("the pool was not scored")
        # Nothing was detected where no slot is sure enough to count.
        empty = layout.surest(pool) < LEAST_CONFIDENCE
        rows, reasons = _ranked(scores, pool.ids, size, self.config, empty)
        return RankedQueue(ids=pool.ids[rows], reasons=reasons)

    def save(self, folder: Path) -> None:
        """Write arrays and settings into a folder that exists or is made."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {f"scorer.{name}": value for name, value in self._scorer.state().items()}
        if self._judge is not None and self._judge is not self._scorer:
            arrays |= {f"judge.{name}": value for name, value in self._judge.state().items()}
        card = _MinerCard(
            kind=self.kind,
            explanation=self.explanation,
            choice=self.choice,
            metrics=self.metrics,
            config=self.config,
            names=self.classes.names,
            tail=self.classes.tail,
            class_priors=self.classes.class_priors,
            head=self.head,
            columns=self.columns,
            patch_size=self.patch_size,
            judges=self._judge is not None,
        )
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / _TENSORS)
        (folder / _CARD).write_text(json.dumps(card.model_dump(mode="json"), indent=2))

    @classmethod
    def load(cls, folder: Path) -> DetectionMiner:
        """Read what ``save`` wrote.

        Raises: CorruptVersion: if files are missing or damaged.
        """
        with refused_if_damaged(folder, *DAMAGE):
            card = _MinerCard.model_validate_json((folder / _CARD).read_bytes())
            arrays = load_file(folder / _TENSORS)
            classes = ClassSpace(card.names, card.tail, card.class_priors)
            scorer = _made(card.kind, card.config, card.patch_size)
            scorer.restore(part_of(arrays, "scorer."), classes=classes)
            judge: DetectionScorer | None = None
            if card.judges and card.kind == _DEFAULT and not isinstance(scorer, Diversity):
                judge = scorer
            elif card.judges:
                judge = DETECTION_SCORERS[_DEFAULT](card.config, patch_size=card.patch_size)
                judge.restore(part_of(arrays, "judge."), classes=classes)
        return cls(
            scorer,
            kind=card.kind,
            explanation=card.explanation,
            config=card.config,
            classes=classes,
            head=card.head,
            columns=card.columns,
            patch_size=card.patch_size,
            judge=judge,
            metrics=card.metrics,
            choice=card.choice,
        )


def fit_detection_miner(
    labeled: LabeledImages,
    pool: Examples,
    *,
    classes: ClassSpace,
    head: tuple[str, ...],
    config: MinerConfig,
    seed: int,
    stands_for: Mapping[str, Sequence[str]] | None = None,
    progress: Progress = no_progress,
) -> DetectionMiner:
    """Fit whatever the labels allow.

    Args:
        labeled: pictures with their boxes; may be empty.
        pool: unlabeled pictures.
        classes: names, tail and priors (of boxes).
        head: the detector's classes, in the order of its logits.
        config: which scorer, and its numbers; ``auto`` is the default scorer here.
        seed: of everything random; the same input and seed give the same miner.
        stands_for: by class further classes of the detector that stand for it.
        progress: told after each part.

    Raises:
        ShapeError: if rows are not those of a detector over ``head``.
        ConfigError: if the scorer is in no table.
    """
    if len(labeled.examples) != len(labeled.boxes):
        raise ShapeError(
            f"found {len(labeled.examples)} pictures and {len(labeled.boxes)} sets of boxes"
        )
    patch_size = max(Layout.of(some, len(head)).patch for some in (labeled.examples, pool))
    layout = Layout.of(pool, len(head))
    columns = columns_of(head, classes.names, stands_for or {})
    known = _labeled_slots(labeled, layout, columns, classes)
    choice = ""
    wanted = config.scorer
    if wanted == AUTO:
        wanted = _DEFAULT
        choice = f"auto compares scorers of single choices only; boxes are ordered by {_DEFAULT}"
    _made(wanted, config, patch_size)
    progress(1, 3, "detections of labeled pictures")
    some = _sample(pool, layout, columns, seed)
    lack = _lack(wanted, known, classes, config, len(labeled))
    judge: DetectionScorer | None = None
    if not _lack(_DEFAULT, known, classes, config, len(labeled)):
        judge = DETECTION_SCORERS[_DEFAULT](config, patch_size=patch_size)
        try:
            judge.fit(known, some, classes=classes, seed=seed)
        except NotEnoughLabels as error:
            judge, lack = None, lack or (str(error) if wanted == _DEFAULT else "")
    progress(2, 3, wanted)
    scorer: DetectionScorer | Diversity | None = None
    if not lack and wanted == _DEFAULT:
        scorer = judge
    elif not lack and wanted != DIVERSITY:
        try:
            scorer = DETECTION_SCORERS[wanted](config, patch_size=patch_size)
            scorer.fit(known, some, classes=classes, seed=seed)
        except NotEnoughLabels as error:
            scorer, lack = None, str(error)
    explanation = _blind(known, classes) if scorer is not None and wanted == _DEFAULT else ""
    if scorer is None:
        scorer = _diversity(labeled, head, classes, patch_size, config, seed)
        if lack:
            explanation = f"{lack} (until then the queue is a diversity order)"
    for words in (choice, explanation):
        if words:
            logger.info("%s", words)
    progress(3, 3, wanted)
    return DetectionMiner(
        scorer,
        kind=DIVERSITY if isinstance(scorer, Diversity) else wanted,
        explanation=explanation,
        config=config,
        classes=classes,
        head=head,
        columns=columns,
        patch_size=patch_size,
        judge=judge,
        metrics=_metrics(known, labeled, pool, judge),
        choice=choice,
    )


def columns_of(
    head: Sequence[str], names: Sequence[str], stands_for: Mapping[str, Sequence[str]]
) -> Columns:
    """For each of ``names`` the columns of the detector's logits that stand for it; maybe none.

    Args:
        head: the detector's classes.
        names: those of the label config. A class of the detector that is called so stands for it.
        stands_for: by name further classes of the detector (``predicted_values``).
    """
    return tuple(
        tuple(
            list(head).index(one)
            for one in dict.fromkeys((name, *stands_for.get(name, ())))
            if one in head
        )
        for name in names
    )


def over(slots: Slots, columns: Columns) -> Slots:
    """The same detections with logits over other classes: of several columns the largest.

    A class without a column is unlikely everywhere.
    """
    if columns == tuple((number,) for number in range(slots.logits.shape[1])):
        return slots
    logits = np.full((len(slots), len(columns)), _UNKNOWN_LOGIT, dtype=np.float32)
    for number, some in enumerate(columns):
        if some:
            logits[:, number] = slots.logits[:, list(some)].max(axis=1)
    sure = expit(logits).max(axis=1) if columns else np.zeros(len(slots))
    # What the detector holds for a class that is gone is no detection any more, only a place.
    kept = np.maximum(sure.astype(np.float32), np.float32(1e-9))
    return Slots(slots.picture, slots.features, slots.boxes, kept, slots.anchor, logits)


def _labeled_slots(
    labeled: LabeledImages, layout: Layout, columns: Columns, classes: ClassSpace
) -> LabeledSlots:
    slots = layout.detections(labeled.examples)
    return label(over(slots, columns), labeled.boxes, classes.names)


def _sample(pool: Examples, layout: Layout, columns: Columns, seed: int) -> Slots:
    """Detections of some of a large pool; by id, whatever order the pool comes in."""
    if len(pool) > _POOL:
        places = np.random.default_rng(seed).choice(len(pool), _POOL, replace=False)
        pool = pool.take(np.argsort(pool.ids, kind="stable")[np.sort(places)])
    return over(layout.detections(pool), columns)


def _lack(
    name: str, known: LabeledSlots, classes: ClassSpace, config: MinerConfig, labels: int
) -> str:
    """Why a scorer cannot be fitted, as a sentence with what to do; empty where it can."""
    if name == DIVERSITY:
        return ""
    kind = DETECTION_SCORERS[name]
    if kind.learns and labels < config.min_labels:
        return f"{labels} labels are too few to mine (at least {config.min_labels} are needed)"
    if kind.tail:
        lack = Needs(tail=True).lack_of_tail(classes)
        if lack:
            return lack
    if kind.objects and not (known.targets < classes.size).any():
        drawn = int(known.objects.sum())
        if not drawn:
            return "no box was drawn yet; label images that hold some"
        return f"the detector finds none of the {drawn} labeled boxes yet"
    return ""


def _blind(known: LabeledSlots, classes: ClassSpace) -> str:
    """What is said of tail classes without a box."""
    blind = [classes.names[k] for k in classes.tail if not known.objects[k]]
    if not blind:
        return ""
    return f"no box of {', '.join(blind)} yet: what looks like no labeled class stands in for it"


def _diversity(
    labeled: LabeledImages,
    head: Sequence[str],
    classes: ClassSpace,
    patch_size: int,
    config: MinerConfig,
    seed: int,
) -> Diversity:
    """Pictures that are far from each other, by what the trunk makes of all of each."""
    examples = labeled.examples
    whole = Layout.of(examples, len(head)).pictures(examples)[:, patch_size:]
    targets = np.zeros(len(labeled), dtype=np.int64)
    known = LabeledExamples(Examples(examples.ids, whole), targets)
    return Diversity(config).fit(known, known.examples, classes=classes, seed=seed)


def _metrics(
    known: LabeledSlots, labeled: LabeledImages, pool: Examples, judge: DetectionScorer | None
) -> dict[str, float]:
    found = {
        "labels": float(len(labeled)),
        "pool": float(len(pool)),
        "boxes": float(known.objects.sum()),
        "boxes_not_found": float(known.missed.sum()),
    }
    more = getattr(judge, "metrics", {})
    return found | {name: float(value) for name, value in more.items()}


def _boxes(slots: Slots, count: int, top: int) -> NDArray[np.float32]:
    """(N, top, 6) detections that are sure enough to be shown, surest first."""
    found = np.zeros((count, top, 6), dtype=np.float32)
    if not len(slots) or not slots.logits.shape[1]:
        return found
    sure = expit(slots.logits.max(axis=1))
    rows = np.flatnonzero(sure >= LEAST_CONFIDENCE)
    rows = rows[np.lexsort((-sure[rows], slots.picture[rows]))]
    picture = slots.picture[rows]
    starts = np.searchsorted(picture, np.arange(count))
    place = np.arange(len(rows)) - starts[picture]
    found[picture, place, :4] = slots.boxes[rows]
    found[picture, place, 4] = slots.logits[rows].argmax(axis=1)
    found[picture, place, 5] = sure[rows]
    return found


def _joined(parts: list[PictureScores]) -> PictureScores:
    first = parts[0]
    return PictureScores(
        together=np.concatenate([part.together for part in parts]),
        apart=np.concatenate([part.apart for part in parts]),
        names=first.names,
        share=first.share,
        reason=first.reason,
    )


def _taken(scores: PictureScores, rows: IntArray) -> PictureScores:
    return PictureScores(
        scores.together[rows], scores.apart[rows], scores.names, scores.share, scores.reason
    )


def _ranked(
    scores: PictureScores,
    ids: IntArray,
    size: int,
    config: MinerConfig,
    empty: NDArray[np.bool_],
) -> tuple[IntArray, tuple[str, ...]]:
    """Rows in order and why each stands there; pictures without a detection last or first."""
    last = config.empty_images == "last"
    together, apart = scores.together.round(9), scores.apart.round(9)
    if apart.shape[1]:
        # Scores of the default look at every place, sure or not: nothing is empty to it.
        if not last:
            together, apart = _lifted(together, empty), _lifted(apart, empty)
        rows, turns = take_turns(
            apart,
            together,
            ids,
            budget=size,
            share=scores.share,
            give_up_share=config.give_up_share,
        )
        names = [scores.names[turn] for turn in turns]
    else:
        away = together.min() - 1 if last else together.max() + 1
        rows = best_rows(np.where(empty, away, together), ids, size)
        names = [scores.reason] * len(rows)
    said = tuple(
        "nothing detected" if empty[row] and not last else name
        for row, name in zip(rows, names, strict=True)
    )
    return rows, said


def _lifted(values: NDArray[np.float64], empty: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Above everything else where there was nothing."""
    lifted = values.copy()
    lifted[empty] += 1e4
    return lifted


def _made(name: str, config: MinerConfig, patch_size: int) -> DetectionScorer | Diversity:
    if name == DIVERSITY:
        return Diversity(config)
    if name not in DETECTION_SCORERS:
        raise ConfigError(
            f"found scorer {name!r}; for boxes expected {AUTO}, {DIVERSITY} or one of "
            f"{', '.join(DETECTION_SCORERS)}"
        )
    return DETECTION_SCORERS[name](config, patch_size=patch_size)
