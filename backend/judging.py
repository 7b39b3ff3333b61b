"""A published version in memory: its frozen model and its miner, judging images that come in.

Loading takes seconds, so a judge is made once a process and version and then shared. This module
imports torch only when a judge is loaded.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from backend.projects import ProjectStore
from models.types import Examples, Judgement

if TYPE_CHECKING:
    from backend.embedding import Embedded
    from models.tasks.base import FrozenModel, Task

logger = logging.getLogger(__name__)

_KEPT = 4


class Mines(Protocol):
    """The part of a fitted miner that judging needs."""

    def judge(self, examples: Examples) -> Judgement:
        """What it says of examples, row by row."""


class NothingToJudgeWith(Exception):  # noqa: N818  (says what is the matter)
    """There is no such version, or its frozen model is gone."""


@dataclass(frozen=True)
class Judged:
    """What could be said of the images asked about.

    Attributes:
        judgement: of the images that could be read, in the order asked for; None if none could.
        failures: id -> the reason why an image could not be read.
        examples: what was judged, as the frozen model sees it.
    """

    judgement: Judgement | None
    failures: dict[int, str] = field(default_factory=dict)
    examples: Examples | None = None


class Judge:
    """One version of one project, ready to judge.

    Args:
        version: its name in the registry.
        classes: the class names that ``Judgement.predicted`` counts in.
        tail: its tail classes.
        backbone: the frozen model that its features come from.
        miner: what was fitted on them.
        task: the kind of labels that both are for.
    """

    def __init__(
        self,
        *,
        version: str,
        classes: tuple[str, ...],
        tail: tuple[str, ...],
        backbone: FrozenModel,
        miner: Mines,
        task: Task,
    ) -> None:
        self.version = version
        self.classes = classes
        self.tail = tail
        self._backbone = backbone
        self._miner = miner
        self._task = task
        # The frozen model hands its features out through a hook: one forward pass at a time.
        self._lock = threading.Lock()

    @classmethod
    def load(cls, store: ProjectStore, version: str | None, *, device: str = "cpu") -> Judge:
        """Load a version of a project, or its active one (None).

        Raises:
            NothingToJudgeWith: saying what is missing.
        """
        from backend.reconcile.frozen_models import folder_of, task_of_model
        from models.errors import ModelError
        from models.recipes.load_miner import load_miner
        from models.registry import VersionRegistry

        registry = VersionRegistry(store.path("versions"))
        try:
            found = registry.load(version) if version is not None else registry.active()
            if found is None:
                raise NothingToJudgeWith(
                    "no version was fitted yet; `rarefirst status` says what it waits for"
                )
            card = found.card
            task = task_of_model(store, card.backbone_fingerprint)
            return cls(
                version=found.name,
                classes=tuple(card.classes),
                tail=tuple(card.tail),
                backbone=task.load(folder_of(store, card.backbone_fingerprint), device=device),
                miner=load_miner(found.path),
                task=task,
            )
        except (ModelError, OSError) as error:
            name = version or "the active version"
            raise NothingToJudgeWith(f"{name} cannot be loaded: {error}") from error

    def judge(
        self,
        ids: Sequence[int],
        load: Callable[[int], bytes],
        *,
        max_pixels: int,
        batch: int,
        threads: int,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Judged:
        """Judge images, in order.

        Args:
            ids: which images, each once.
            load: bytes of one image by its id; may raise MediaError.
            max_pixels: larger images are refused.
            batch: images in one forward pass.
            threads: images fetched and decoded at the same time.
            should_stop: asked after each batch; images that were not reached are left out.
        """
        from backend.embedding import embed

        with self._lock:
            embedded = embed(
                self._backbone,
                ids,
                load,
                max_pixels=max_pixels,
                batch=min(batch, self._task.at_once),
                threads=threads,
                should_stop=should_stop,
            )
            examples = self._examples(embedded) if len(embedded.ids) else None
            judgement = self._miner.judge(examples) if examples is not None else None
        return Judged(judgement, embedded.failures, examples)

    def _examples(self, embedded: Embedded) -> Examples:
        return self._task.shown(
            Examples(embedded.ids, embedded.features, embedded.logits),
            head=self._backbone.class_names or (),
            classes=self.classes,
        )


class Judges:
    """The judges of a process: loaded on first need, a few kept."""

    def __init__(self, load: Callable[[ProjectStore, str], Judge]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._judges: OrderedDict[tuple[str, str], Judge] = OrderedDict()

    def of(self, store: ProjectStore, version: str) -> Judge:
        """The judge of one version.

        Raises:
            NothingToJudgeWith: saying what is missing.
        """
        with self._lock:
            key = (store.key, version)
            judge = self._judges.get(key)
            if judge is None:
                judge = self._load(store, version)
                logger.info("project %s: version %s loaded", store.key, version)
                self._judges[key] = judge
                while len(self._judges) > _KEPT:
                    self._judges.popitem(last=False)
            self._judges.move_to_end(key)
            return judge
