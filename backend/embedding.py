"""Images to features: fetching and decoding in threads while the frozen model runs.

One bad image never fails its batch: it is reported with its reason.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from backend.errors import LabelStudioUnavailable, MediaError, Unauthorized
from models.backbones.images import open_image
from models.errors import DamagedImage, ImageError
from models.tasks.base import FrozenModel
from models.types import Progress, no_progress

logger = logging.getLogger(__name__)

_LOOK_S = 0.5
_AHEAD = 2  # batches that may be decoded before the model needs them


@dataclass(frozen=True)
class Embedded:
    """Features of the images that could be read.

    Attributes:
        ids: (N,) int64 in the order asked for.
        features: (N, D) float32.
        logits: (N, W) float32, what else the frozen model says, or None where it says nothing.
        failures: id -> the reason, for images that could not be read.
        retryable: ids of those failures that another try may mend.
        damaged: ids of those whose file came and could not be decoded.
    """

    ids: NDArray[np.int64]
    features: NDArray[np.float32]
    logits: NDArray[np.float32] | None
    failures: dict[int, str] = field(default_factory=dict)
    retryable: frozenset[int] = frozenset()
    damaged: frozenset[int] = frozenset()


def embed(
    backbone: FrozenModel,
    ids: Sequence[int],
    load: Callable[[int], bytes],
    *,
    max_pixels: int,
    batch: int = 64,
    threads: int = 4,
    progress: Progress = no_progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Embedded:
    """Embed images, in order, decoding ahead of the model.

    Args:
        backbone: the frozen model.
        ids: which images.
        load: bytes of one image by its id; may raise MediaError.
        max_pixels: larger images are refused.
        batch: images in one forward pass.
        threads: images fetched and decoded at the same time.
        progress: told after each batch.
        should_stop: asked after each batch, and twice a second where one takes longer, so that a
            host that hangs keeps nothing waiting; what is done by then is returned.

    Raises:
        LabelStudioUnavailable, Unauthorized: where that, not the image, is the trouble.
    """
    failures = _Failures()
    done_ids: list[int] = []
    features: list[NDArray[np.float32]] = []
    logits: list[NDArray[np.float32]] = []

    def prepare(image_id: int) -> torch.Tensor:
        return backbone.preprocess(open_image(load(image_id), max_pixels=max_pixels))

    seen = 0
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for chunk in _batches(pool, ids, prepare, batch):
            stopped = _wait([future for _, future in chunk], should_stop)
            ready: list[tuple[int, torch.Tensor]] = []
            for image_id, future in chunk:
                if stopped and not future.done():
                    continue
                try:
                    ready.append((image_id, future.result()))
                except (LabelStudioUnavailable, Unauthorized):
                    raise
                except Exception as error:
                    # Whatever one image meets, a defect of ours included, the others go on.
                    failures.add(image_id, error)
                seen += 1
            if ready:
                vectors, head = backbone.embed(torch.stack([image for _, image in ready]))
                done_ids += [image_id for image_id, _ in ready]
                features.append(vectors)
                if head is not None:
                    logits.append(head)
            progress(seen, len(ids), "images")
            if stopped or should_stop():
                break
    finally:
        # One that hangs ends by its own deadline; nobody waits for it.
        pool.shutdown(wait=False, cancel_futures=True)
    width = backbone.feature_size
    return Embedded(
        ids=np.asarray(done_ids, dtype=np.int64),
        features=np.concatenate(features) if features else np.empty((0, width), np.float32),
        logits=np.concatenate(logits) if logits else None,
        failures=failures.reasons,
        retryable=frozenset(failures.retryable),
        damaged=frozenset(failures.damaged),
    )


class _Failures:
    """Images that could not be read, by what it was that failed."""

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}
        self.retryable: set[int] = set()
        self.damaged: set[int] = set()
        self._defect_logged = False

    def add(self, image_id: int, error: Exception) -> None:
        self.reasons[image_id] = str(error)
        if isinstance(error, DamagedImage):
            self.damaged.add(image_id)
            self.retryable.add(image_id)
        elif isinstance(error, MediaError):
            if error.retryable:
                self.retryable.add(image_id)
        elif not isinstance(error, ImageError):
            # A defect of ours shows in one image; it must not stop the others for ever.
            if not self._defect_logged:  # once a chunk: it may show in every image
                self._defect_logged = True
                logger.error("reading image %s failed", image_id, exc_info=error)
            self.reasons[image_id] = f"reading it failed ({type(error).__name__}); the log says how"
            self.retryable.add(image_id)


def _wait(futures: Sequence[Future[torch.Tensor]], should_stop: Callable[[], bool]) -> bool:
    """Wait for all of them; True where ``should_stop`` said so before."""
    while wait(futures, timeout=_LOOK_S).not_done:
        if should_stop():
            return True
    return False


def _batches(
    pool: ThreadPoolExecutor,
    ids: Sequence[int],
    prepare: Callable[[int], torch.Tensor],
    size: int,
) -> Iterator[list[tuple[int, Future[torch.Tensor]]]]:
    """Submit a bounded number of images ahead, and hand them on batch by batch."""
    pending: deque[tuple[int, Future[torch.Tensor]]] = deque()
    waiting = iter(ids)
    exhausted = False
    while True:
        while not exhausted and len(pending) < size * (1 + _AHEAD):
            image_id = next(waiting, None)
            if image_id is None:
                exhausted = True
            else:
                pending.append((image_id, pool.submit(prepare, image_id)))
        if not pending:
            return
        yield [pending.popleft() for _ in range(min(size, len(pending)))]
