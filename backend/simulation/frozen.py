"""The frozen model of a simulation: the one that the settings give, or one trained as they say.

Without weights the service trains a first model on the labels at hand. So does a simulation, on
the labels that a repeat starts from: any other would have seen labels of the pool. Trained models
are kept beside the cached features.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.cores import usable_cores
from backend.errors import BackendError
from backend.reconcile.actions.bootstrap import trainable
from backend.reconcile.context import device
from backend.settings import Settings
from backend.simulation.features import FeatureCache, Features
from backend.simulation.images import LabeledImage, key_of
from models.backbones import Backbone, BackboneSpec, load_backbone
from models.backbones.images import open_image
from models.config import BootstrapConfig
from models.errors import CorruptVersion
from models.label_head import LabelHead, find_columns, label_head
from models.recipes.train_backbone import train_backbone
from models.types import Examples, IntArray, Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frozen:
    """What a frozen model makes of the images.

    Attributes:
        examples: all of them, ids 0 to N - 1.
        head: its own head over the classes, where the examples do not carry its logits.
        fingerprint: of the model.
    """

    examples: Examples
    head: LabelHead | None
    fingerprint: str


class SimulatedModel:
    """Makes features by the service's settings, cached under its data directory.

    Args:
        settings: the service's.
        classes: K names.
    """

    def __init__(self, settings: Settings, classes: Sequence[str]) -> None:
        self._settings = settings
        self._classes = tuple(classes)
        self._folder = settings.data_dir / "simulate"
        self._device = device(settings.device)
        self._spec = BackboneSpec(
            architecture=settings.backbone,
            weights=settings.weights,
            feature_layer=settings.feature_layer or None,
            num_classes=len(classes),
            seed=settings.seed,
        )
        self.trains = trainable(settings)
        self._given = load_backbone(self._spec, device=self._device)

    @property
    def words(self) -> str:
        """What it is, for people."""
        name = self._settings.backbone
        if self.trains:
            return f"{name}, trained on the labels that each repeat starts from"
        if self._settings.weights == "none":
            return name
        return f"{name}, weights {self._settings.weights}"

    def read(self, images: Sequence[LabeledImage], progress: Progress) -> Features:
        """Features of the images that can be read, by the model before any training."""
        return self._features(self._given, images, progress)

    def given(self, features: Features) -> Frozen:
        """The model that the settings give; ``features`` are what ``read`` made of the images."""
        backbone = self._given
        examples = self._examples(backbone, features)
        own, head = backbone.own_classes, None
        if examples.logits is None and own is not None:
            columns = find_columns(self._classes, {}, own)
            linear = backbone.linear_head() if all(columns.of_label) else None
            head = label_head(*linear, columns) if linear is not None else None
        return Frozen(examples, head, backbone.fingerprint)

    def trained(
        self,
        images: Sequence[LabeledImage],
        targets: IntArray,
        start: IntArray,
        *,
        training: Progress,
        embedding: Progress,
    ) -> Frozen:
        """The model that is trained on the images at the rows ``start``.

        Raises:
            BackendError: if an image that could be read before cannot be read any more.
            ModelError: if it cannot be trained on them.
        """
        backbone = self._train(images, targets, start, training)
        features = self._features(backbone, images, embedding)
        if features.failures:
            row, reason = next(iter(features.failures.items()))
            raise BackendError(
                f"{images[row].name} could be read before and cannot now: {reason}; start again"
            )
        return Frozen(self._examples(backbone, features), None, backbone.fingerprint)

    def _train(
        self,
        images: Sequence[LabeledImage],
        targets: IntArray,
        start: IntArray,
        progress: Progress,
    ) -> Backbone:
        settings = self._settings
        labels = [(images[row].key, int(targets[row])) for row in start.tolist()]
        about = self._spec.model_dump_json(), self._classes, labels, settings.bootstrap_steps
        run_dir = self._folder / "models" / key_of(*about)
        folder = run_dir / "backbone"
        if folder.exists():
            try:
                return Backbone.load(folder, device=self._device)
            except CorruptVersion as error:
                logger.warning("%s", error)
                shutil.rmtree(folder)
        largest = settings.max_image_megapixels * 1_000_000
        backbone = train_backbone(
            [open_image(images[row].load(), max_pixels=largest) for row in start.tolist()],
            targets[start].tolist(),
            class_names=self._classes,
            spec=self._spec,
            config=BootstrapConfig(steps=settings.bootstrap_steps, device=self._device),
            run_dir=run_dir,
            seed=settings.seed,
            progress=progress,
        )
        backbone.save(folder)
        return backbone

    def _features(
        self, backbone: Backbone, images: Sequence[LabeledImage], progress: Progress
    ) -> Features:
        settings = self._settings
        return FeatureCache(self._folder / "features", backbone).features(
            images,
            max_pixels=settings.max_image_megapixels * 1_000_000,
            batch=settings.embed_batch,
            chunk=settings.embed_chunk,
            threads=usable_cores(),
            progress=progress,
        )

    def _examples(self, backbone: Backbone, features: Features) -> Examples:
        """With original logits in the order of the classes, where each has one."""
        ids = np.arange(len(features.rows), dtype=np.int64)
        names = backbone.class_names
        if features.logits is None or names is None or not set(self._classes) <= set(names):
            return Examples(ids, features.features)
        columns = [names.index(name) for name in self._classes]
        return Examples(ids, features.features, features.logits[:, columns])
