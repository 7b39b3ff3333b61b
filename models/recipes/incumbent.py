"""What the incumbent says of labeled pictures: what a candidate is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.backbones import Backbone
from models.recipes.evaluate import embed_pictures, shares_of
from models.recipes.labeled_pictures import BoolArray, LabeledPictures
from models.recipes.new_head import with_new_head
from models.recipes.stage_files import Arrays, stage
from models.scorers.base import OriginalHead
from models.types import LabeledExamples, numbered

_FEATURES, _LOGITS = "features", "logits"


class Incumbent:
    """The frozen model with its own head over the classes, or with a plain one in its place.

    The plain head is the one that the service predicts by where there is no other: cross-entropy,
    hardly shrunk, on frozen features.

    Args:
        backbone: the frozen model.
        labels: what it is asked about.
        path: the file in which what it makes of the pictures is kept.
    """

    def __init__(self, backbone: Backbone, labels: LabeledPictures, path: Path) -> None:
        self.backbone, self.labels = backbone, labels
        self.has_head = backbone.class_names == labels.class_names
        self._said = stage(path, self._embed)

    def shares(self, rows: BoolArray, *, fit_on: BoolArray) -> NDArray[np.float64]:
        """(R, K) softmax of some examples.

        Args:
            rows: (N,) which, R of them.
            fit_on: (N,) what a plain head is fitted on; its own head is as it is.
        Raises: NotEnoughLabels: if a plain head must be fitted on labels of one class.
        """
        if self.has_head:
            return shares_of(self._said[_LOGITS][rows].astype(np.float32))
        features = self._features
        known = LabeledExamples(numbered(features[fit_on]), self.labels.targets[fit_on])
        head = OriginalHead.fit(known, num_classes=self.labels.classes)
        asked = numbered(features[rows])
        shares: NDArray[np.float64] = np.empty((len(asked), self.labels.classes))
        for at, logs in head.log_batches(asked):
            shares[at : at + logs.shape[1]] = logs.T.exp().numpy()
        return shares

    def start(self, fit_on: BoolArray) -> Backbone:
        """What a training starts from: the incumbent, given a head over the classes if need be.

        Args:
            fit_on: (N,) what a new head is fitted on.

        Raises:
            ConfigError: if a head is needed and the network's cannot be replaced.
            NotEnoughLabels: if one is needed and fewer than two classes have labels.
        """
        if self.has_head:
            return self.backbone
        chosen = np.flatnonzero(fit_on)
        return with_new_head(
            self.backbone,
            self.labels.pictures[chosen],
            self.labels.targets[fit_on],
            class_names=self.labels.class_names,
            features=self._features[fit_on],
        )

    @property
    def _features(self) -> NDArray[np.float32]:
        return self._said[_FEATURES].astype(np.float32, copy=False)

    def _embed(self) -> Arrays:
        features, logits = embed_pictures(self.backbone, self.labels.pictures)
        return {_LOGITS: logits} if self.has_head and logits is not None else {_FEATURES: features}
