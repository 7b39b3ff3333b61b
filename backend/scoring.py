"""/predict: one result for each task, in order, always.

What the publication says of a task is answered from memory. Other tasks are fetched, embedded and
judged now, within a time budget; what is not done by then, cannot be read or has no model gets
the last place, and the loop is told to look.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from backend.errors import (
    BackendError,
    LabelStudioUnavailable,
    MediaError,
    MissingConfiguration,
    Unauthorized,
)
from backend.events import marks, published_name
from backend.jobs import Jobs
from backend.judging import Judge, Judges, NothingToJudgeWith
from backend.labelstudio.client import LabelStudioClient
from backend.labelstudio.results import last_place, live_score, predict_answer
from backend.preannotation import shown
from backend.project_settings import effective
from backend.projects import ProjectStore, Publication, PublishedScores
from backend.schemas import PredictRequest, TaskBody
from backend.settings import Settings
from models.types import Judgement

if TYPE_CHECKING:
    from backend.labelstudio.interface import Interface
    from backend.labelstudio.media import MediaFetcher

logger = logging.getLogger(__name__)

# Small batches: the budget is looked at between them.
_BATCH = 16

Result = dict[str, object]


@dataclass
class _Answer:
    """The results of one request as they come in, by place.

    Attributes:
        tasks: the tasks asked about.
        version: the one name that every result carries.
        label_config: the request's.
        why: why a task gets the last place, by place.
    """

    tasks: Sequence[TaskBody]
    version: str
    label_config: str
    preannotate: bool
    results: dict[int, Result] = field(default_factory=dict)
    why: dict[int, str] = field(default_factory=dict)

    @cached_property
    def interface(self) -> Interface | None:
        """What the label config shows; None where that is nothing we serve."""
        return _interface(self.label_config)

    @property
    def open(self) -> list[int]:
        """Places without a result."""
        return [place for place in range(len(self.tasks)) if place not in self.results]

    def give(
        self, place: int, said: PublishedScores | Judgement, row: int, classes: Sequence[str]
    ) -> None:
        """Set the result of a place to what is said in a row."""
        regions: Sequence[Result] = ()
        if self.preannotate:
            regions = shown(self.interface, classes, said, row)
        self.results[place] = predict_answer(
            live_score(float(said.rarity[row])), model_version=self.version, result=regions
        )

    def refuse(self, reason: str) -> None:
        """Say why every place that is still open gets the last place."""
        for place in self.open:
            self.why.setdefault(place, reason)

    def complete(self) -> list[Result]:
        """A result for every place, in order."""
        return [
            self.results.get(place) or predict_answer(last_place(), model_version=self.version)
            for place in range(len(self.tasks))
        ]


class Scoring:
    """Answers /predict for every project.

    Args:
        settings: the service's settings.
        jobs: the project stores, and where hints go.
        judges: versions in memory.
    """

    def __init__(self, settings: Settings, jobs: Jobs, *, judges: Judges | None = None) -> None:
        self._settings = settings
        self._jobs = jobs
        self._judges = judges or Judges(load_judge)
        self._scores: dict[str, tuple[str, PublishedScores | None]] = {}
        # Judging is slow: it may hold some of the threads, never those that answer /health.
        self._live = threading.BoundedSemaphore(max(1, settings.threads // 2))
        self._media_lock = threading.Lock()
        self._media: MediaFetcher | None = None

    def predict(self, asked: PredictRequest) -> list[Result]:
        """A result for each task of the request, in its order."""
        project = asked.project
        store = self._jobs.store(project.id, project.created_s) if project is not None else None
        marks(self._jobs, store).leave("predict")
        answer = _Answer(
            tasks=asked.tasks,
            version=published_name(self._jobs, store),
            label_config=asked.label_config,
            preannotate=store is not None and effective(self._settings, store).preannotate,
        )
        if store is None:
            answer.refuse("of a project that is not known yet")
            if project is not None:
                self._jobs.register(project.id)
        else:
            published = store.publications().published
            if published is None:
                answer.refuse("before a first model is published")
            else:
                self._from_publication(store, published, answer)
                self._from_images(store, published, answer)
        if answer.open:
            self._report(store, answer)
        return answer.complete()

    # What is published ------------------------------------------------------------------------

    def _from_publication(
        self, store: ProjectStore, published: Publication, answer: _Answer
    ) -> None:
        scores = self._published_scores(store, published.name)
        if scores is None:
            return
        for place in answer.open:
            task_id = answer.tasks[place].id
            row = scores.row(task_id) if task_id is not None else None
            if row is not None:
                answer.give(place, scores, row, scores.classes)

    def _published_scores(self, store: ProjectStore, name: str) -> PublishedScores | None:
        """Read once a publication and process; two threads at once both read, with one outcome."""
        known = self._scores.get(store.key)
        if known is None or known[0] != name:
            known = (name, store.published_scores(name))
            self._scores[store.key] = known
        return known[1]

    # What is not ------------------------------------------------------------------------------

    def _from_images(self, store: ProjectStore, published: Publication, answer: _Answer) -> None:
        """Judge the images of open places now, as far as the budget reaches."""
        if not answer.open:
            return
        if answer.interface is None:
            answer.refuse("because the request's label config is not one that we serve")
            return
        if not self._live.acquire(blocking=False):
            answer.refuse("because other requests are being judged")
            return
        deadline = time.monotonic() + self._settings.predict_budget_s
        try:
            judge = self._judges.of(store, published.version)
            self._judge(store, judge, answer.interface, answer, deadline)
        except (NothingToJudgeWith, BackendError) as error:
            answer.refuse(f"because {error}")
        except Exception:
            # Label Studio drops a batch that lacks one result: a defect here costs the order of
            # these tasks, not the answer.
            logger.exception("project %s: judging failed", store.key)
            answer.refuse("because judging failed")
        finally:
            self._live.release()
        answer.refuse("because the time was up")

    def _judge(
        self,
        store: ProjectStore,
        judge: Judge,
        interface: Interface,
        answer: _Answer,
        deadline: float,
    ) -> None:
        settings, fetcher = self._settings, self._fetcher()
        trouble: list[str] = []

        def load(place: int) -> bytes:
            if trouble:
                raise MediaError(trouble[0], retryable=True)
            if time.monotonic() > deadline:
                raise MediaError("the time was up", retryable=True)
            task = answer.tasks[place]
            uri = task.data.get(interface.data_key)
            if not isinstance(uri, str) or not uri:
                raise MediaError(f"the task's data holds no address under {interface.data_key!r}")
            try:
                return fetcher.fetch(uri, task_id=task.id or 0, project_key=store.key)
            except (LabelStudioUnavailable, Unauthorized) as error:
                # No image will come now, but those that came already are still judged.
                trouble.append(str(error))
                raise MediaError(str(error), retryable=True) from error

        judged = judge.judge(
            answer.open,
            load,
            max_pixels=settings.max_image_megapixels * 1_000_000,
            batch=_BATCH,
            threads=settings.fetch_threads,
            should_stop=lambda: time.monotonic() > deadline,
        )
        for place, reason in judged.failures.items():
            answer.why[place] = f"because {reason}"
        found = judged.judgement
        if found is None:
            return
        for row, place in enumerate(found.ids.tolist()):
            answer.give(place, found, row, judge.classes)

    def _fetcher(self) -> MediaFetcher:
        """The image fetcher, made on first need."""
        with self._media_lock:
            if self._media is None:
                settings = self._settings
                if settings.missing:
                    raise MissingConfiguration(settings.missing)
                from backend.labelstudio.media import MediaFetcher

                client = LabelStudioClient(settings.label_studio_url, settings.label_studio_api_key)
                self._media = MediaFetcher.from_settings(client, settings)
            return self._media

    def _report(self, store: ProjectStore | None, answer: _Answer) -> None:
        """Log what got the last place and why, and have the loop look."""
        reasons = Counter(answer.why.get(place, "for no known reason") for place in answer.open)
        logger.warning(
            "project %s: %d of %d tasks get the last place: %s",
            store.key if store is not None else "unknown",
            len(answer.open),
            len(answer.tasks),
            "; ".join(f"{count} {reason}" for reason, count in reasons.most_common(5)),
        )
        if store is not None:
            self._jobs.look(store)


def load_judge(store: ProjectStore, version: str) -> Judge:
    """Load a judge for the web process: on the processor, with half of its cores.

    Requests that cost nothing must not wait for one that judges images.
    """
    from backend.cores import usable_cores, wait_without_spinning

    wait_without_spinning()
    import torch

    torch.set_num_threads(max(1, usable_cores() // 2))
    return Judge.load(store, version, device="cpu")


@lru_cache(maxsize=16)
def _interface(label_config: str) -> Interface | None:
    """What a label config shows, or None where that is nothing we serve."""
    # The SDK's parser takes a second to import, which /health must not wait for.
    from backend.labelstudio.interface import parse_label_config

    try:
        return parse_label_config(label_config)
    except BackendError as error:
        logger.info("the label config of a request is not served: %s", error)
        return None
