"""From boxes and a frozen detector to a judged candidate.

The counterpart of ``finetune_backbone``, which leaves the same files in the run directory. Judged
is by held-out pictures alone: where these say nothing of a rare class, nothing is promoted.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from models.backbones.detector import Detector
from models.config import FinetuneConfig
from models.detection.boxes import Boxes
from models.detection.coco import BoxMetrics, box_metrics
from models.errors import Diverged, ShapeError
from models.files import write_text
from models.recipes.box_set import BoxSet
from models.recipes.boxed_pictures import BoolArray, BoxedPictures
from models.recipes.detector_classes import with_classes
from models.recipes.find_boxes import find_boxes
from models.recipes.finetune import Finetuned
from models.recipes.finetune_boxes import finetune_boxes
from models.recipes.finetune_outcome import (
    REVIEW,
    Outcome,
    kept_candidate,
    outcome_of,
    validation_of,
    with_counts,
)
from models.recipes.judge_boxes import judge_boxes, too_few_boxes
from models.recipes.judge_finetune import Verdict, refuse
from models.recipes.review_boxes import review_boxes
from models.types import IntArray, Progress, no_progress


def finetune_detector(
    detector: Detector,
    images: Sequence[Image.Image],
    boxes: Sequence[Boxes],
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

    A detector over other classes first gets a last convolution over the project's: what it knows of
    those that stay is kept.

    Args:
        detector: the incumbent; left as it is.
        images: N pictures; each is asked for once, in order.
        boxes: what each holds; none is a picture of background. Boxes without a class, or of
            another one, teach nothing and are not judged by.
        ids: N task ids.
        class_names: K names of the label config, in its order.
        tail: indices of the rare classes.
        held_out: (N,) by ``models.held_out_split.held_out``; nothing is fitted on these.
        seen: (N,) pictures that the incumbent was trained on; nothing is judged by them.
        config: budget, strategy, layers.
        run_dir: what lies there of the same run is resumed.
        seed: of everything random.
        progress: told of steps.

    Raises:
        NotEnoughLabels: if fewer than two pictures are not held out, or none of them has a box.
        ShapeError: if shapes do not fit, or a tail class is out of range.
        ConfigError: if the strategy cannot be, or the folder holds another run.
        ImageError: if the pixels of a picture cannot be decoded.
    """
    if not len(images):
        raise ShapeError("found no picture; expected one for each label")
    numbers = np.asarray(ids, dtype=np.int64)
    labels = BoxedPictures(
        pictures=torch.stack([detector.pixels(images[row]) for row in range(len(images))]),
        boxes=tuple(boxes),
        ids=numbers,
        class_names=tuple(class_names),
        tail=tuple(sorted({int(k) for k in tail})),
        held_out=np.asarray(held_out, dtype=bool),
        seen=np.asarray(seen, dtype=bool),
        validation=validation_of(numbers, held_out, config),
    )
    return outcome_of(
        run_dir,
        lambda: _Run(detector, labels, config, run_dir, seed, progress).outcome(),
        incumbent=detector.fingerprint,
        labels=labels,
        config=config,
        seed=seed,
    )


def boxes_found(
    detector: Detector, labels: BoxedPictures, rows: BoolArray, *, seed: int = 0
) -> BoxMetrics:
    """COCO's figures of a detector on some pictures.

    Args:
        detector: over any classes; boxes of those that the labels lack are left out.
        labels: pictures and boxes.
        rows: (N,) which pictures, one at least.
        seed: of the intervals.
    """
    chosen = np.flatnonzero(rows)
    found = find_boxes(
        detector.network,
        labels.pictures[torch.from_numpy(chosen)],
        detector.scaled,
        device=detector.device,
    )
    place = {name: k for k, name in enumerate(labels.class_names)}
    index = np.array([place.get(name, -1) for name in detector.class_names])
    for one in found:
        one[:, 4] = index[one[:, 4].astype(np.int64)]
    return box_metrics(
        [one[one[:, 4] >= 0] for one in found],
        [labels.boxes[n] for n in chosen.tolist()],
        class_names=labels.class_names,
        tail=labels.tail,
        seed=seed,
    )


class _Run:
    """One fine-tune from its first or its last finished stage on."""

    def __init__(
        self,
        detector: Detector,
        labels: BoxedPictures,
        config: FinetuneConfig,
        run_dir: Path,
        seed: int,
        progress: Progress,
    ) -> None:
        self.incumbent, self.labels, self.config = detector, labels, config
        self.run_dir, self.seed, self.progress = run_dir, seed, progress

    def outcome(self) -> Outcome:
        """Train, judge, and say which labels should be looked at again."""
        labels = self.labels
        learned = ~labels.held_out & ~labels.validation
        about = Outcome(
            verdict=refuse(("nothing was compared yet",)),
            strategy=self.config.strategy,
            examples=int(learned.sum()),
        )
        known, stops = self._part(learned), self._part(labels.validation)
        start = self._start()
        try:
            tuned = finetune_boxes(
                start,
                known,
                config=self.config,
                run_dir=self.run_dir,
                seed=self.seed,
                validation=stops if len(stops) else None,
                progress=self.progress,
            )
        except Diverged as error:
            return about.model_copy(update={"verdict": with_counts(refuse((str(error),)), labels)})
        candidate = self._kept(tuned, start)
        verdict = self._judge(candidate)
        if not (self.run_dir / REVIEW).exists():
            ids = labels.ids[learned]
            review = review_boxes(candidate, known, ids, strategy=tuned.strategy)
            write_text(self.run_dir / REVIEW, review.model_dump_json(indent=1))
        return about.model_copy(
            update={
                "verdict": with_counts(verdict, labels),
                "epochs": tuned.epochs,
                "seconds": tuned.seconds,
                "candidate": candidate.fingerprint,
            }
        )

    def _start(self) -> Detector:
        """A copy of the incumbent over the project's classes, to be trained in place."""
        given = self.incumbent
        if given.class_names != self.labels.class_names:
            return with_classes(given, self.labels.class_names)
        return Detector(
            copy.deepcopy(given.network),
            spec=given.spec.model_copy(update={"weights": "none"}),
            recipe=given.recipe,
            device=str(given.device),
        )

    def _part(self, rows: BoolArray) -> BoxSet:
        chosen = np.flatnonzero(rows)
        return BoxSet(
            self.labels.pictures[torch.from_numpy(chosen)],
            tuple(self.labels.boxes[n] for n in chosen.tolist()),
            self.labels.class_names,
        )

    def _kept(self, tuned: Finetuned, start: Detector) -> Detector:
        """The candidate as it lies on the disk, which is what will be served."""
        device, network = self.config.device, start.network  # trained in place
        assert tuned.network is network
        return kept_candidate(
            self.run_dir,
            lambda: Detector(network, spec=start.spec, recipe=start.recipe, device=device),
            lambda folder: Detector.load(folder, device=device),
        )

    def _judge(self, candidate: Detector) -> Verdict:
        labels, judged = self.labels, self.labels.judged
        few = too_few_boxes(
            labels.counts(judged),
            labels.images(judged),
            class_names=labels.class_names,
            tail=labels.tail,
        )
        if not judged.any():
            return refuse(few)
        before, after = (
            boxes_found(one, labels, judged, seed=self.seed) for one in (self.incumbent, candidate)
        )
        if few:
            return refuse(few, before=before, after=after)
        return judge_boxes(before, after)
