"""What a fine-tune leaves in its run directory, whatever kind of label it learned from."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from models.config import FinetuneConfig
from models.errors import CorruptVersion
from models.files import write_text
from models.held_out_split import validation
from models.recipes.judge_finetune import Verdict
from models.recipes.labeled_set import BoolArray, LabeledSet
from models.recipes.stage_files import claim
from models.types import IntArray

logger = logging.getLogger(__name__)

CANDIDATE, VERDICT, OUTCOME, REVIEW = "candidate", "verdict.json", "outcome.json", "review.json"
# What decides where and how often, not what comes out.
_NO_MATTER = {"device", "checkpoint_every_s"}


class _Saved(Protocol):
    """A network that can be written into a folder."""

    def save(self, folder: Path) -> None:
        """Write it into a new folder, which appears whole or not at all."""


_Model = TypeVar("_Model", bound=_Saved)


class Outcome(BaseModel):
    """What came of a fine-tune (``outcome.json``).

    Attributes:
        verdict: whether the candidate takes the incumbent's place.
        strategy: a name of ``models.rebalancing.STRATEGIES``.
        examples: labels that the candidate learned from.
        epochs: that its training took; 0 where it diverged.
        seconds: of its training, over all tries; 0 where it diverged.
        candidate: its fingerprint; None where the training diverged and there is none.
    """

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    strategy: str
    examples: int
    epochs: int = 0
    seconds: float = 0.0
    candidate: str | None = None


def outcome_of(
    run_dir: Path,
    make: Callable[[], Outcome],
    *,
    incumbent: str,
    labels: LabeledSet,
    config: FinetuneConfig,
    seed: int,
) -> Outcome:
    """The outcome that the folder holds of this very run, or the one that is made now.

    Args:
        run_dir: claimed for this run.
        make: trains and judges; whatever it finished before is found again.
        incumbent: fingerprint of the network that it begins from.
        labels: all that it learns from and is judged by.
        config: budget, strategy, layers.
        seed: of everything random.

    Raises: ConfigError: if the folder holds another run; and what ``make`` raises.
    """
    about = config.model_dump(mode="json", exclude=_NO_MATTER)
    words = [incumbent, labels.digest(), seed, about]
    claim(run_dir, hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest())
    before = _finished(run_dir)
    if before is not None:
        return before
    outcome = make()
    write_text(run_dir / OUTCOME, outcome.model_dump_json(indent=1))
    write_text(run_dir / VERDICT, outcome.verdict.model_dump_json(indent=1))
    logger.info("fine-tune in %s: %s", run_dir, "; ".join(outcome.verdict.reasons))
    return outcome


def kept_candidate(
    run_dir: Path, make: Callable[[], _Model], load: Callable[[Path], _Model]
) -> _Model:
    """The candidate as it lies on the disk, which is what will be served.

    Args:
        run_dir: where it lies, or will.
        make: gives it, where it does not lie there or is damaged.
        load: reads what its ``save`` wrote.
    """
    folder = run_dir / CANDIDATE
    if folder.exists():
        try:
            return load(folder)
        except CorruptVersion as error:
            logger.warning("%s; it is made again", error)
            shutil.rmtree(folder)
    make().save(folder)
    return load(folder)


def with_counts(verdict: Verdict, labels: LabeledSet) -> Verdict:
    """A verdict that says how many held-out labels there were, of each class too."""
    counts = labels.counts(labels.judged)
    return verdict.model_copy(
        update={
            "held_out": int(counts.sum()),
            "held_out_by_class": dict(zip(labels.class_names, counts.tolist(), strict=True)),
        }
    )


def validation_of(ids: IntArray, held_out: BoolArray, config: FinetuneConfig) -> BoolArray:
    """(N,) which examples stop the training early; none where it is not stopped."""
    if not config.patience or len(ids) != len(held_out):  # what does not fit is refused later
        return np.zeros(len(ids), dtype=bool)
    return validation(ids) & ~held_out


def _finished(run_dir: Path) -> Outcome | None:
    """The outcome of a run that came to its end, and whose candidate is still there."""
    if not (run_dir / VERDICT).exists():
        return None
    try:
        outcome = Outcome.model_validate_json((run_dir / OUTCOME).read_bytes())
    except (OSError, ValidationError) as error:
        logger.warning("the outcome in %s is of no use, it is judged again: %s", run_dir, error)
        return None
    there = outcome.candidate is None or (run_dir / CANDIDATE).exists()
    return outcome if there else None
