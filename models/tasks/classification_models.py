"""Frozen models and miners where one class is chosen for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from models.backbones import Backbone, BackboneSpec, load_backbone
from models.config import BootstrapConfig, MinerConfig
from models.holdouts import UNKNOWN, Provenance
from models.label_head import LabelHead
from models.recipes.fit_miner import Miner, fit_miner
from models.recipes.train_backbone import train_backbone
from models.tasks.base import CLASSIFICATION, LabeledTexts, Made, Wanted
from models.tasks.classification import Classification
from models.tasks.scorer_names import OF_CLASSES, served
from models.types import ClassSpace, Examples, LabeledExamples, Progress, no_progress


class ClassificationModels:
    """``Task`` of ``Choices``: a classifier's penultimate features and its own logits."""

    name = CLASSIFICATION
    least_kinds = 2
    too_alike = "a first model needs labels of two classes, all are of one"
    at_once = 1024
    steps_setting = "bootstrap_steps"
    fit_settings: tuple[str, ...] = ()
    no_own_head = ""

    def source(self, wanted: Wanted) -> str:
        """Architecture, weights and feature layer: other classes make no other model."""
        return f"{wanted.architecture}|{wanted.weights}|{wanted.feature_layer}"

    def trainable(self, wanted: Wanted) -> bool:
        """Where no trained model was given."""
        return wanted.weights == "none" and ":" not in wanted.architecture

    def make(self, wanted: Wanted, *, device: str = "cpu") -> Made:
        """Load the given weights, or draw some."""
        model = load_backbone(_spec(wanted, None), device=device)
        if self.trainable(wanted):
            # Random weights have a head over the project's classes that says nothing.
            return Made(model, "untrained", ())
        how = "pretrained" if wanted.weights == "DEFAULT" else "given"
        return Made(model, how, model.class_names or ())

    def load(self, folder: Path, *, device: str = "cpu") -> Backbone:
        """Read a stored one."""
        return Backbone.load(folder, device=device)

    def train(
        self,
        images: Sequence[Image.Image],
        labels: Sequence[str],
        *,
        wanted: Wanted,
        steps: int,
        device: str,
        run_dir: Path,
        progress: Progress = no_progress,
    ) -> Backbone:
        """Train all of it from scratch."""
        return train_backbone(
            images,
            Classification.targets(labels, wanted.classes).tolist(),
            class_names=wanted.classes,
            spec=_spec(wanted.model_copy(update={"weights": "none"}), wanted.classes),
            config=BootstrapConfig(steps=steps, device=device),
            run_dir=run_dir,
            seed=wanted.seed,
            progress=progress,
        )

    def shown(
        self, examples: Examples, *, head: tuple[str, ...], classes: tuple[str, ...]
    ) -> Examples:
        """With original logits in the order of ``classes``, where the head tells them all apart."""
        logits = None
        if examples.logits is not None and head and set(classes) <= set(head):
            columns = [head.index(name) for name in classes]
            logits = examples.logits if head == classes else examples.logits[:, columns]
        return replace(examples, logits=logits)

    def fit(
        self,
        labeled: LabeledTexts,
        pool: Examples,
        *,
        classes: ClassSpace,
        head: tuple[str, ...],
        own_head: LabelHead | None,
        stands_for: Mapping[str, Sequence[str]],
        config: MinerConfig,
        seed: int,
        provenance: Provenance = UNKNOWN,
        progress: Progress = no_progress,
    ) -> Miner:
        """Fit on the features of labeled images; ``shown`` has looked at ``head``."""
        targets = Classification.targets(labeled.labels, classes.names)
        config, said = served(config, OF_CLASSES)
        miner = fit_miner(
            LabeledExamples(labeled.examples, targets, own_head),
            pool,
            classes=classes,
            config=config,
            seed=seed,
            provenance=provenance,
            progress=progress,
        )
        miner.explanation = "; ".join(filter(None, (said, miner.explanation)))
        return miner


def _spec(wanted: Wanted, class_names: tuple[str, ...] | None) -> BackboneSpec:
    return BackboneSpec(
        architecture=wanted.architecture,
        weights=wanted.weights,
        feature_layer=wanted.feature_layer or None,
        num_classes=len(wanted.classes),
        class_names=class_names,
        seed=wanted.seed,
    )
