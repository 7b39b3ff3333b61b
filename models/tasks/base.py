"""What differs between kinds of labels, on the side of frozen models and miners.

Each kind is one class with the methods of ``Task``, found by its name; the side of votes and
regions is in ``models.tasks.TASKS``, by control tag. Nothing here loads torch: an implementation
does, and ``task_of`` imports it when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field

from models.errors import ConfigError
from models.holdouts import UNKNOWN, Provenance
from models.types import (
    ClassSpace,
    Examples,
    IntArray,
    Judgement,
    Progress,
    RankedQueue,
    no_progress,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from models.calibration import Calibration
    from models.config import MinerConfig
    from models.label_head import LabelHead

CLASSIFICATION = "classification"
DETECTION = "detection"


class Wanted(BaseModel):
    """Which frozen model a project asks for; what a kind has no use for is left alone.

    Attributes:
        classes: the label config's, in its order.
    """

    model_config = ConfigDict(frozen=True)

    architecture: str
    weights: str = Field("none", description="DEFAULT, none, or a file or folder.")
    feature_layer: str = Field("", description="Penultimate layer; empty: found.")
    classes: tuple[str, ...]
    input_size: int = Field(320, description="Of a detector: side of its input, in pixels.")
    detections: int = Field(10, description="Of a detector: kept of each image.")
    seed: int


class FrozenModel(Protocol):
    """Pictures to features, never trained: ``Backbone`` and its counterparts."""

    @property
    def fingerprint(self) -> str:
        """Of everything that decides the features."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What its outputs tell apart; None where that is not the project's classes."""

    @property
    def feature_size(self) -> int:
        """D."""

    def preprocess(self, image: Image.Image) -> Tensor:
        """A picture as the network is fed.

        Raises: ImageError: if its pixels cannot be decoded.
        """

    def embed(self, batch: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Features (N, D) of N inputs, and what else it says of each, (N, W), or None."""

    def save(self, folder: Path) -> None:
        """Write it into a new folder, which appears whole or not at all."""


class FittedMiner(Protocol):
    """A fitted miner: judges examples and orders a pool (``Miner`` and its counterparts)."""

    @property
    def kind(self) -> str:
        """Name of the scorer that orders the queue."""

    @property
    def explanation(self) -> str:
        """Why the order is not what was asked for; empty where it is."""

    @property
    def choice(self) -> str:
        """How ``scorer: auto`` chose; empty where a scorer was named."""

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of the fit."""

    @property
    def classes(self) -> ClassSpace:
        """The classes and the tail that it was fitted for."""

    @property
    def calibration(self) -> Calibration:
        """How likelihoods become rarity."""

    def judge(self, examples: Examples) -> Judgement:
        """What it says of each example."""

    def queue(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """The first ``min(budget, N)`` of the pool in the order in which to label them."""

    def rescore(
        self, examples: Examples, pool: IntArray, *, budget: int, seed: int
    ) -> tuple[Judgement, RankedQueue]:
        """``judge`` all examples and ``queue`` those at the rows ``pool``."""

    def save(self, folder: Path) -> None:
        """Write it into a folder that exists or is made."""


@dataclass(frozen=True)
class Made:
    """A frozen model that was made, not trained here.

    Attributes:
        how: ``untrained``, ``pretrained`` (published weights) or ``given`` (a person's own).
        classes: what its outputs tell apart, where the miner may go by that; else empty.
    """

    model: FrozenModel
    how: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class LabeledTexts:
    """Examples and their labels as the mirror keeps them: one text for each."""

    examples: Examples
    labels: tuple[str, ...]


class Task(Protocol):
    """One kind of labels.

    Attributes:
        name: by which it is found, and remembered beside a frozen model.
        least_kinds: classes that must have labels before a frozen model is trained on them.
        too_alike: what is said until then.
        at_once: most images in one forward pass, for the memory it takes.
        steps_setting: which setting holds the optimiser steps of that training.
        fit_settings: settings that a fit depends on besides those of every kind.
        no_own_head: why ``predicted_values`` of a label config mean nothing; empty where they do.
    """

    name: str
    least_kinds: int
    too_alike: str
    at_once: int
    steps_setting: str
    fit_settings: tuple[str, ...]
    no_own_head: str

    def source(self, wanted: Wanted) -> str:
        """What tells one wish from another: ``architecture|weights|more``."""

    def trainable(self, wanted: Wanted) -> bool:
        """Whether the model that is wished for is trained on the project's labels."""

    def make(self, wanted: Wanted, *, device: str = "cpu") -> Made:
        """The model as it is before any training here.

        Raises: ConfigError, WeightsError: if it cannot be had.
        """

    def load(self, folder: Path, *, device: str = "cpu") -> FrozenModel:
        """Read what ``FrozenModel.save`` wrote.

        Raises: CorruptVersion: if files are missing or damaged.
        """

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
    ) -> FrozenModel:
        """Train the model on labeled pictures; what lies in ``run_dir`` is resumed.

        Raises: ModelError: if the labels are not enough, or the training diverged.
        """

    def shown(
        self, examples: Examples, *, head: tuple[str, ...], classes: tuple[str, ...]
    ) -> Examples:
        """Stored examples as a miner over ``classes`` is to see them.

        Args:
            examples: with ``logits`` as ``FrozenModel.embed`` gave them.
            head: what these tell apart; empty where nobody may go by them.
            classes: the label config's, in its order.
        """

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
    ) -> FittedMiner:
        """Fit whatever the labels allow.

        Args:
            labeled: labels at hand; may be empty.
            pool: unlabeled examples.
            classes: names, tail and priors.
            head: what the frozen model's outputs tell apart.
            own_head: its own head over other classes that stand for these; None where it has none.
            stands_for: by class the classes of the frozen model that the label config names.
            config: which scorer, and its numbers.
            seed: of everything random.
            provenance: how the labels came to be.
            progress: told after each part.
        """


_TASKS: Mapping[str, str] = MappingProxyType(
    {
        CLASSIFICATION: "models.tasks.classification_models:ClassificationModels",
        DETECTION: "models.tasks.detection_models:DetectionModels",
    }
)


def task_of(name: str) -> Task:
    """The kind of labels that is called so.

    Raises: ConfigError: if none is.
    """
    if name not in _TASKS:
        raise ConfigError(f"found task {name!r}, expected one of {', '.join(_TASKS)}")
    module, _, made = _TASKS[name].partition(":")
    return cast(Task, getattr(import_module(module), made)())
