"""Settings of the machine learning: frozen, described, contradictions refused on construction."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecalibrationConfig(_Config):
    """The fresh last layer (METHODS section 2 and section 19 item 2)."""

    form: Literal["regularised", "paper", "released"] = Field(
        default="regularised",
        description="regularised: full-batch L-BFGS on standardised features; paper: focal loss, "
        "early stopping; released: cross-entropy, 15 epochs, as in the released code.",
    )
    gamma: float = Field(default=2.0, ge=0, description="Focusing strength of the focal loss.")
    l2: float = Field(
        default=0.1, ge=0, description="Weight of 0.5 * l2 * |W|^2 (regularised form)."
    )
    iterations: int = Field(
        default=60, ge=1, description="Most optimiser iterations of the regularised form."
    )
    balanced: bool = Field(
        default=True,
        description="Weigh classes alike, however many labels they have (regularised form).",
    )
    alpha_cap: float = Field(
        default=100.0, ge=1, description="Largest ratio of two class weights (paper form)."
    )
    epochs: int = Field(default=15, ge=1, description="Most epochs (paper and released form).")
    min_steps: int = Field(
        default=600,
        ge=0,
        description="Fewest optimiser steps these epochs must come to; with few labels the "
        "published epochs train nothing.",
    )
    patience: int = Field(
        default=3, ge=1, description="Epochs without progress before stopping (paper)."
    )


class AutoencoderConfig(_Config):
    """The one-class model of logits (METHODS section 3)."""

    space: Literal["prob", "logit"] = Field(
        default="prob",
        description="prob: softmax in, as in the released code; logit: the paper's text.",
    )
    members: int = Field(default=5, ge=1, description="Seeded members whose errors are averaged.")
    epochs: int = Field(
        default=40, ge=1, description="Epochs, where they come to more than min_steps."
    )
    min_steps: int = Field(default=3000, ge=1, description="Fewest optimiser steps.")
    max_steps: int = Field(default=6000, ge=1, description="Most optimiser steps.")
    batch: int = Field(default=64, ge=1, description="Rows in one step.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's step size.")


class MinerConfig(_Config):
    """How the queue is made."""

    scorer: str = Field(
        default="rarefirst", description="A name of models.scorers.SCORERS, or auto."
    )
    recalibration: Literal["regularised", "paper", "released"] = Field(
        default="regularised",
        description="How the borders in the default's re-calibration layer are drawn.",
    )
    autoencoder_steps: int = Field(
        default=3000, ge=1, description="Fewest optimiser steps of the paper's autoencoder."
    )
    members: int = Field(
        default=5, ge=1, description="Members of the paper's autoencoder's ensemble."
    )
    give_up_share: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="A tail class gives up its turn while its best candidate's likelihood is "
        "below this share of the best candidate's of any class.",
    )
    class_lines: Literal["all", "tail"] = Field(
        default="all",
        description="galaxy and direct: search the lines of all classes, as published, or of the "
        "tail classes only.",
    )
    annotators: int = Field(
        default=20,
        ge=1,
        description="direct: labels that come together in a round of its search; 1 waits for each.",
    )
    balanced_threshold: bool = Field(
        default=False,
        description="direct: weigh a class and all others alike when its threshold is put.",
    )
    resemblance: float = Field(
        default=1.0,
        ge=0,
        description="flqmi: weight of being like one rare label; covering all of them has 1.",
    )
    min_labels: int = Field(
        default=20, ge=2, description="Fewer labels than this give a diversity order only."
    )
    empty_images: Literal["last", "first"] = Field(
        default="last", description="Boxes: where images stand in which nothing was detected."
    )


class BacktestConfig(_Config):
    """Hold-outs of the labels at hand, on which scorers are compared."""

    repeats: int = Field(default=20, ge=2, description="How often labels are hidden.")
    hidden_tail: float = Field(
        default=0.5, gt=0, lt=1, description="Share of each tail class's labels that is hidden."
    )
    hidden_head: float = Field(
        default=0.5, gt=0, lt=1, description="Share of the other classes' labels that is hidden."
    )
    max_labels: int = Field(
        default=4000,
        ge=100,
        description="Most labels that take part in one hold-out; the tail has precedence.",
    )
    least_tail: int = Field(
        default=6, ge=2, description="Fewest labels of tail classes that have two at least."
    )
    confidence: float = Field(default=0.95, gt=0, lt=1, description="Of every interval.")
    time_limit_s: float = Field(
        default=float("inf"),
        gt=0,
        description="No further fit is begun after so many seconds.",
    )


class BootstrapConfig(_Config):
    """Training of a first frozen model on the labels at hand."""

    steps: int = Field(default=1500, ge=1, description="Most optimiser steps.")
    batch: int = Field(default=32, ge=2, description="Images in one step.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's step size.")
    enough_loss: float = Field(
        default=0.15,
        ge=0,
        description="Running mean of the loss below which the step size starts to fall; "
        "0 uses all steps.",
    )
    least_steps: int = Field(
        default=60, ge=1, description="Steps before the loss may end the training."
    )
    cool_down: int = Field(
        default=40, ge=0, description="Last steps, over which the step size falls to 0."
    )
    device: str = Field(default="cpu", description="Where to train.")
    horizontal_flip: bool = Field(
        default=False, description="Mirror images at random; ruins digits and text."
    )
    checkpoint_every: int = Field(default=25, ge=1, description="Steps between checkpoints.")


class FinetuneConfig(_Config):
    """One fine-tune of a network (models/recipes/finetune.py)."""

    strategy: str = Field(
        default="balanced_softmax", description="A name of models.rebalancing.STRATEGIES."
    )
    options: dict[str, float | int | str | bool] = Field(
        default_factory=dict, description="Parameters of the strategy, by name."
    )
    layers: Literal["head", "last_block", "all"] = Field(
        default="all", description="What is trained; the rest stays bit-identical."
    )
    epochs: int = Field(default=20, ge=1, description="Passes over the examples.")
    min_steps: int = Field(
        default=400, ge=0, description="Fewest optimiser steps; epochs are added until then."
    )
    batch: int = Field(default=64, ge=2, description="Examples in one step.")
    optimiser: Literal["sgd", "adamw"] = Field(
        default="adamw", description="sgd has momentum .9, both decay weights."
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Largest step size.")
    weight_decay: float = Field(default=2e-4, ge=0, description="Of the optimiser.")
    schedule: Literal["step", "cosine", "constant"] = Field(
        default="cosine",
        description="step: a hundredth after 80 % of the epochs, again after 90 %.",
    )
    warm_up: float = Field(
        default=0.025, ge=0, lt=1, description="Share of the epochs in which the step size grows."
    )
    augmentation: Literal["none", "flip", "crop_flip", "crop", "affine"] = Field(
        default="affine",
        description="crop: shifted by up to an eighth; flip: mirrored; affine: shifted, turned, "
        "scaled and sheared a little. Boxes are only mirrored (flip) or not (none). Without effect "
        "where the head alone is trained: what comes before it is computed once.",
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        default="auto", description="auto: bfloat16 where a CUDA device has it, else 32 bits."
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="Epochs without a better balanced accuracy of the validation examples before "
        "stopping; 0: never, and the last weights are kept.",
    )
    checkpoint_every_s: float = Field(
        default=10.0, ge=0, description="Least seconds between checkpoints, in whole epochs."
    )
    clip: float = Field(
        default=0.0, ge=0, description="Largest norm of the gradient; 0: it is left as it is."
    )
    device: str = Field(default="cpu", description="Where to train.")


class DetectorTraining(_Config):
    """Training of a detector on the boxes at hand (models/recipes/train_detector.py)."""

    steps: int = Field(default=800, ge=1, description="Optimiser steps.")
    batch: int = Field(default=8, ge=1, description="Pictures in one step.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's largest step size.")
    warm_up: int = Field(default=40, ge=0, description="Steps in which the step size grows.")
    trunk: Literal["auto", "frozen", "trained"] = Field(
        default="auto",
        description="auto: frozen where its weights are published ones, which are then computed "
        "once for each picture; trained where they are random.",
    )
    flip: bool = Field(default=True, description="Mirror pictures at random, with their boxes.")
    clip: float = Field(default=5.0, gt=0, description="Largest norm of the gradient.")
    cache_mb: int = Field(
        default=1500, ge=0, description="Memory for a frozen trunk's maps; the rest is recomputed."
    )
    device: str = Field(default="cpu", description="Where to train.")
    checkpoint_every: int = Field(default=50, ge=1, description="Steps between checkpoints.")
