"""Frozen models and miners where boxes are drawn on each image.

An image stays one example: its features are those of its surest detections in a row, and its
``logits`` the packed boxes, confidences, anchors and class logits of them, which only the miner
takes apart. So nothing here picks columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from models.backbones.detector import Detector, DetectorSpec, load_detector
from models.config import DetectorTraining, MinerConfig
from models.detection.boxes import from_text
from models.holdouts import UNKNOWN, Provenance
from models.label_head import LabelHead
from models.recipes.fit_detection_miner import (
    DetectionMiner,
    LabeledImages,
    fit_detection_miner,
)
from models.recipes.train_detector import train_detector
from models.tasks.base import DETECTION, LabeledTexts, Made, Wanted
from models.tasks.scorer_names import OF_BOXES, served
from models.types import ClassSpace, Examples, Progress, no_progress


class DetectionModels:
    """``Task`` of ``RectangleLabels``: a detector's surest detections."""

    name = DETECTION
    least_kinds = 1
    too_alike = "a first model needs a labeled box, no labeled image has one"
    at_once = 16
    steps_setting = "detector_steps"
    fit_settings: tuple[str, ...] = ("empty_images",)
    no_own_head = "a detector is trained on the classes of the project itself"

    def source(self, wanted: Wanted) -> str:
        """Trunk, weights, size and number of detections: other classes make no other model."""
        more = f"{wanted.input_size} px, {wanted.detections} boxes"
        return f"{wanted.architecture}|{wanted.weights}|{more}"

    def trainable(self, wanted: Wanted) -> bool:
        """Always, but where a person gives a whole detector: weights are those of a trunk."""
        return not _is_detector(wanted.weights)

    def make(self, wanted: Wanted, *, device: str = "cpu") -> Made:
        """Load a given detector, or put a head that says nothing yet on a trunk."""
        if _is_detector(wanted.weights):
            given = Detector.load(Path(wanted.weights), device=device)
            return Made(given, "given", given.class_names)
        model = load_detector(_spec(wanted), device=device)
        how = "untrained" if wanted.weights == "none" else "pretrained"
        return Made(model, how, model.class_names)

    def load(self, folder: Path, *, device: str = "cpu") -> Detector:
        """Read a stored one."""
        return Detector.load(folder, device=device)

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
    ) -> Detector:
        """Train head and trunk on the boxes of labeled pictures."""
        return train_detector(
            images,
            [from_text(label) for label in labels],
            class_names=wanted.classes,
            spec=_spec(wanted),
            config=DetectorTraining(steps=steps, device=device),
            run_dir=run_dir,
            seed=wanted.seed,
            progress=progress,
        )

    def shown(
        self, examples: Examples, *, head: tuple[str, ...], classes: tuple[str, ...]
    ) -> Examples:
        """As they are: the miner knows which columns are whose."""
        return examples

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
    ) -> DetectionMiner:
        """Fit on the detections of labeled images."""
        boxes = tuple(from_text(label) for label in labeled.labels)
        config, said = served(config, OF_BOXES)
        miner = fit_detection_miner(
            LabeledImages(labeled.examples, boxes),
            pool,
            classes=classes,
            head=head,
            stands_for=stands_for,
            config=config,
            seed=seed,
            progress=progress,
        )
        miner.explanation = "; ".join(filter(None, (said, miner.explanation)))
        return miner


def _is_detector(weights: str) -> bool:
    """Whether weights name the folder of a whole detector, and not a trunk's."""
    return weights not in {"none", "DEFAULT"} and Path(weights).is_dir()


def _spec(wanted: Wanted) -> DetectorSpec:
    return DetectorSpec(
        architecture=wanted.architecture,
        weights=wanted.weights,
        class_names=wanted.classes,
        input_size=wanted.input_size,
        top=wanted.detections,
        seed=wanted.seed,
    )
