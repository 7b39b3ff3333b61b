"""From labels and a frozen model to a judged candidate.

Train on what is not held out, compare with the incumbent on what is, and say whether the candidate
takes its place. What is made lies in the run directory: ``candidate`` (a frozen model),
``review.json``, ``outcome.json`` and, last of all, ``verdict.json``; beside them the training's own
files, and one folder a fold where the judgement is by cross-validation. A run killed at any point
resumes to the same candidate and the same verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.backbones import Backbone
from models.class_metrics import ClassMetrics
from models.config import FinetuneConfig
from models.errors import Diverged, NotEnoughLabels, ShapeError
from models.files import write_text
from models.recipes.cross_validate import FOLDS, OutOfFold, cross_validate, said_of, train
from models.recipes.evaluate import pictures_of
from models.recipes.finetune import Finetuned
from models.recipes.finetune_outcome import (
    REVIEW,
    Outcome,
    kept_candidate,
    outcome_of,
    validation_of,
    with_counts,
)
from models.recipes.incumbent import Incumbent
from models.recipes.judge_finetune import Compared, Verdict, judge_finetune, refuse, too_few
from models.recipes.labeled_pictures import BoolArray, LabeledPictures
from models.recipes.new_head import trained
from models.recipes.review_labels import review_labels
from models.types import IntArray, Progress, no_progress

_FROZEN = "frozen.safetensors"


def finetune_backbone(
    backbone: Backbone,
    images: Sequence[Image.Image],
    targets: Sequence[int] | IntArray,
    *,
    ids: Sequence[int] | IntArray,
    class_names: Sequence[str],
    tail: Sequence[int],
    held_out: BoolArray,
    seen: BoolArray,
    config: FinetuneConfig,
    run_dir: Path,
    seed: int,
    progress: Progress = no_progress,
) -> Outcome:
    """Train a candidate and judge it.

    A network whose head is over other classes, such as ImageNet's, first gets one over the
    project's. Where ``config.patience`` stops early, it looks at a part of what is not held out
    (``models.held_out_split.validation``). Where nothing can be compared, the candidate is trained
    all the same, and not promoted. From its promotion on, all that was not held out here is
    ``seen``.

    Args:
        backbone: the incumbent; left as it is.
        images: N pictures; each is asked for once, in order.
        targets: N indices into ``class_names``.
        ids: N task ids.
        class_names: K names of the label config, in its order.
        tail: indices of the rare classes.
        held_out: (N,) by ``models.held_out_split.held_out``; nothing is fitted on these.
        seen: (N,) examples that the incumbent's network was trained on; nothing is judged by them.
        config: budget, strategy, layers.
        run_dir: what lies there of the same run is resumed.
        seed: of everything random.
        progress: told of steps of all trainings.

    Raises:
        NotEnoughLabels: if fewer than two classes have labels that are not held out.
        ShapeError: if shapes do not fit, or a target or a tail class is out of range.
        ConfigError: if the network's head cannot be replaced, the strategy cannot be, or the
            folder holds another run.
        ImageError: if the pixels of a picture cannot be decoded.
    """
    numbers = np.asarray(ids, dtype=np.int64)
    if not len(images):
        raise ShapeError("found no picture; expected one for each label")
    labels = LabeledPictures(
        pictures=pictures_of(backbone, images),
        targets=np.asarray(targets, dtype=np.int64),
        ids=numbers,
        class_names=tuple(class_names),
        tail=tuple(sorted({int(k) for k in tail})),
        held_out=np.asarray(held_out, dtype=bool),
        seen=np.asarray(seen, dtype=bool),
        validation=validation_of(numbers, held_out, config),
    )
    return outcome_of(
        run_dir,
        lambda: _Run(backbone, labels, config, run_dir, seed, progress).outcome(),
        incumbent=backbone.fingerprint,
        labels=labels,
        config=config,
        seed=seed,
    )


class _Run:
    """One fine-tune from its first or its last finished stage on."""

    def __init__(
        self,
        backbone: Backbone,
        labels: LabeledPictures,
        config: FinetuneConfig,
        run_dir: Path,
        seed: int,
        progress: Progress,
    ) -> None:
        self.labels, self.config, self.run_dir, self.seed = labels, config, run_dir, seed
        self.progress = progress
        self.incumbent = Incumbent(backbone, labels, run_dir / _FROZEN)
        self.few, self.compared = _comparison(labels)
        self.trainings = 1 + (FOLDS if self.compared == "cross-validation" else 0)

    def outcome(self) -> Outcome:
        """Train, judge, and say which labels should be looked at again."""
        labels, known = self.labels, ~self.labels.held_out
        about = Outcome(
            verdict=refuse(("nothing was compared yet",)),
            strategy=self.config.strategy,
            examples=int((known & ~labels.validation).sum()),
        )
        try:
            start, tuned = train(
                self.incumbent,
                labels,
                known,
                config=self.config,
                run_dir=self.run_dir,
                seed=self.seed,
                progress=self._told(0),
            )
            candidate = self._kept(tuned, start)
            verdict, folded = self._judge(said_of(candidate, labels, labels.judged))
            self._review(candidate, tuned, folded)
        except Diverged as error:
            return about.model_copy(update={"verdict": with_counts(refuse((str(error),)), labels)})
        return about.model_copy(
            update={
                "verdict": with_counts(verdict, labels),
                "epochs": tuned.epochs,
                "seconds": tuned.seconds,
                "candidate": candidate.fingerprint,
            }
        )

    def _kept(self, tuned: Finetuned, start: Backbone) -> Backbone:
        """The candidate as it lies on the disk, which is what will be served."""
        device = self.config.device
        return kept_candidate(
            self.run_dir,
            lambda: trained(tuned.network, start, device=device),
            lambda folder: Backbone.load(folder, device=device),
        )

    def _judge(self, candidate: NDArray[np.float64]) -> tuple[Verdict, OutOfFold | None]:
        """Compare by held-out examples, and by others where these do not suffice.

        Args:
            candidate: (R, K) its softmax of the held-out examples that count.
        """
        labels, judged = self.labels, self.labels.judged
        incumbent = self.incumbent.shares(judged, fit_on=~labels.held_out)
        targets = labels.targets[judged]
        if self.compared == "held-out":
            before, after = self._figures(targets, incumbent, candidate)
            return judge_finetune(before, after, compared=self.compared), None
        if self.compared == "nothing":
            if not len(targets):
                return refuse(self.few), None
            before, after = self._figures(targets, incumbent, candidate)
            return refuse(self.few, before=before, after=after), None
        try:
            folded = cross_validate(
                self.incumbent,
                labels,
                config=self.config,
                run_dir=self.run_dir,
                seed=self.seed,
                progress=lambda fold: self._told(1 + fold),
            )
        except (Diverged, NotEnoughLabels) as error:
            return refuse((f"cross-validation failed: {error}", *self.few)), None
        fair = ~labels.seen[folded.rows]
        before, after = self._figures(
            np.concatenate([targets, labels.targets[folded.rows[fair]]]),
            np.concatenate([incumbent, folded.incumbent[fair]]),
            np.concatenate([candidate, folded.candidate[fair]]),
        )
        verdict = judge_finetune(before, after, compared=self.compared)
        why = f"judged by {FOLDS}-fold cross-validation too: of held-out examples, {self.few[0]}"
        return verdict.model_copy(update={"reasons": (*verdict.reasons, why)}), folded

    def _figures(
        self, targets: IntArray, *shares: NDArray[np.float64]
    ) -> tuple[ClassMetrics, ClassMetrics]:
        before, after = (
            ClassMetrics.from_probabilities(
                targets, said, class_names=self.labels.class_names, tail=self.labels.tail
            )
            for said in shares
        )
        return before, after

    def _review(self, candidate: Backbone, tuned: Finetuned, folded: OutOfFold | None) -> None:
        path = self.run_dir / REVIEW
        if path.exists():
            return
        learned = ~self.labels.held_out & ~self.labels.validation
        rows = np.flatnonzero(learned)
        if folded is None:
            shares = said_of(candidate, self.labels, learned)
        else:
            shares = folded.candidate[np.searchsorted(folded.rows, rows)]
        review = review_labels(
            self.labels,
            rows,
            shares,
            strategy=tuned.strategy,
            out_of_sample=folded is not None,
        )
        write_text(path, review.model_dump_json(indent=1))

    def _told(self, number: int) -> Progress:
        """Who is told of one training, as a part of all."""

        def progress(done: int, total: int, message: str = "") -> None:
            what = f"fold {number} of {FOLDS}: {message}" if number else message
            self.progress(number * total + done, self.trainings * total, what)

        return progress


def _comparison(labels: LabeledPictures) -> tuple[tuple[str, ...], Compared]:
    """Of which classes too little is held out or known, and what can be compared on."""

    def few(chosen: BoolArray) -> tuple[str, ...]:
        counts = labels.counts(chosen)
        return too_few(counts, class_names=labels.class_names, tail=labels.tail)

    by_held_out, by_all = few(labels.judged), few(~labels.seen)
    if not by_held_out:
        return (), "held-out"
    return (by_all, "nothing") if by_all else (by_held_out, "cross-validation")
