"""`rarefirst finetune --data`: fine-tune on labeled image files, without Label Studio."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from backend.errors import BackendError, MediaError
from backend.finetune_config import finetune_config
from backend.opened_images import OpenedImages
from backend.reconcile.held_out import finetune_device
from backend.settings import Settings
from backend.simulation.data import ExportOptions, class_names, opened, with_tail
from backend.simulation.images import LabeledImage
from models.backbones.images import open_image
from models.errors import ImageError
from models.types import Progress, no_progress

if TYPE_CHECKING:
    from models.backbones import Backbone
    from models.recipes.finetune_outcome import Outcome

logger = logging.getLogger(__name__)

_CARD = "card.json"


class FilesFinetune(BaseModel):
    """What is trained on which files.

    Attributes:
        tail: rare classes; empty: those of the settings, else those with few of all labels.
        strategy, epochs, backbone, weights: None: as the settings say. ``weights`` may be the
            folder ``candidate`` of an earlier fine-tune too.
    """

    model_config = ConfigDict(frozen=True)

    data: Path
    out: Path
    tail: tuple[str, ...] = ()
    strategy: str | None = None
    epochs: int | None = None
    backbone: str | None = None
    weights: str | None = None


def finetune_files(
    settings: Settings, wanted: FilesFinetune, *, progress: Progress = no_progress
) -> Outcome:
    """Train on a part of the files and judge by the rest; the same folder again goes on.

    What is held out is decided by each file's name below the folder.

    Raises:
        BackendError: where there is nothing to learn from.
        ModelError: as the training does.
    """
    import torch

    from backend.cores import usable_cores
    from models.held_out_split import held_out
    from models.recipes.finetune_backbone import finetune_backbone

    torch.set_num_threads(settings.torch_threads or usable_cores())
    with opened(wanted.data, settings, ExportOptions()) as found:
        names = class_names(wanted.data, found)
        max_pixels = settings.max_image_megapixels * 1_000_000
        readable = _readable(found.images, max_pixels, progress)
        data = with_tail(readable, names, wanted.tail, settings)
        ids = np.asarray([number_of(image.name) for image in data.images], dtype=np.int64)
        if len(np.unique(ids)) < len(ids):
            raise BackendError("two files have the same number; rename one of them")
        pictures = OpenedImages(
            lambda row: data.images[row].load(), len(data.images), max_pixels=max_pixels
        )
        given = wanted.weights or settings.weights
        outcome = finetune_backbone(
            _start(settings, wanted, given, classes=len(names)),
            pictures,
            data.targets,
            ids=ids,
            class_names=data.classes.names,
            tail=data.classes.tail,
            held_out=held_out(ids),
            seen=np.zeros(len(ids), dtype=bool),
            config=finetune_config(
                settings,
                from_scratch=given == "none",
                strategy=wanted.strategy,
                epochs=wanted.epochs,
            ),
            run_dir=wanted.out,
            seed=settings.seed,
            progress=progress,
        )
    return outcome


def number_of(name: str) -> int:
    """A number for a file, by its name below the folder, in place of a task's id."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def _start(settings: Settings, wanted: FilesFinetune, weights: str, *, classes: int) -> Backbone:
    from models.backbones import Backbone, BackboneSpec, load_backbone

    where = finetune_device(settings)
    if (Path(weights) / _CARD).is_file():
        return Backbone.load(Path(weights), device=where)
    return load_backbone(
        BackboneSpec(
            architecture=wanted.backbone or settings.backbone,
            weights=weights,
            feature_layer=settings.feature_layer or None,
            num_classes=classes,
            class_names=None,
            seed=settings.seed,
        ),
        device=where,
    )


def _readable(
    images: Sequence[LabeledImage], max_pixels: int, progress: Progress
) -> list[LabeledImage]:
    """Those that can be read; the others are logged and left out."""
    good = []
    for done, image in enumerate(images):
        progress(done, len(images), "looking at the images")
        try:
            open_image(image.load(), max_pixels=max_pixels).load()
        except (MediaError, ImageError) as error:
            logger.warning("%s is left out: %s", image.name, error)
            continue
        good.append(image)
    return good
