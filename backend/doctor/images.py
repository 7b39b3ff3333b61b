"""Checks of a project's images: a sample is fetched and decoded now, as the worker does."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from backend.doctor.facts import ProjectFacts
from backend.doctor.finding import Finding, error, note, ok, warning
from backend.errors import LabelStudioUnavailable, MediaError
from models.errors import ModelError

SAMPLE = 9
_THREADS = 4
_PATIENCE_S = 4.0
_SHOWN = 3


def sample(facts: ProjectFacts) -> Iterator[Finding]:
    """Some images from start, middle and end of the project can be had and read."""
    tasks = facts.client.some_tasks(facts.id, SAMPLE)
    if not tasks:
        yield note(
            "images.none",
            "the project has no tasks",
            why="there is nothing to order",
            mend="import images",
        )
        return
    read = _Reader(facts)
    with ThreadPoolExecutor(_THREADS) as pool:
        said = list(pool.map(lambda task: read(*task), tasks))
    tasks_by_reason: dict[str, list[int]] = defaultdict(list)
    for (task_id, _), reason in zip(tasks, said, strict=True):
        if reason:
            tasks_by_reason[reason].append(task_id)
    failed = sum(len(ids) for ids in tasks_by_reason.values())
    if not failed:
        yield ok("images", f"{len(tasks)} images of a sample were fetched and decoded")
        return
    for reason, ids in sorted(tasks_by_reason.items(), key=lambda pair: -len(pair[1])):
        yield _finding(reason, ids, failed == len(tasks), len(tasks))


def _finding(reason: str, ids: list[int], all_failed: bool, looked_at: int) -> Finding:
    named = ", ".join(str(number) for number in sorted(ids)[:_SHOWN])
    what = f"{len(ids)} of {looked_at} images of a sample: {reason} (task {named})"
    code = "images.host" if "RAREFIRST_ALLOWED_HOSTS" in reason else "images.unreadable"
    why = "such tasks get the last place, and nothing is learned from their labels"
    mend = (
        "name the host in RAREFIRST_ALLOWED_HOSTS and restart `rarefirst serve`"
        if code == "images.host"
        else "put the image right, or delete the task; the loop tries again by itself"
    )
    said = error if all_failed else warning
    return said(code, what, why=why, mend=mend)


class _Reader:
    """Fetches and decodes one image at a time; safe to share between threads."""

    def __init__(self, facts: ProjectFacts) -> None:
        # Both take a second or two to import: not before there is something to look at.
        from backend.labelstudio.interface import parse_label_config
        from backend.labelstudio.media import MediaFetcher
        from models.backbones.images import as_rgb, open_image

        settings = facts.settings
        self._open, self._decode = open_image, as_rgb
        self._key = parse_label_config(facts.info.label_config).data_key
        self._project_key = facts.store.key
        self._max_pixels = settings.max_image_megapixels * 1_000_000
        # No cache: what was there once may be gone.
        self._fetcher = MediaFetcher.from_settings(
            facts.client,
            settings.model_copy(
                update={
                    "image_cache_mb": 0,
                    "fetch_timeout_s": min(settings.fetch_timeout_s, _PATIENCE_S),
                }
            ),
        )

    def __call__(self, task_id: int, data: object) -> str:
        """Why the image of a task cannot be had; empty where it can."""
        uri = data.get(self._key) if isinstance(data, dict) else None
        if not isinstance(uri, str) or not uri:
            return f"the task's data holds no address under {self._key!r}"
        try:
            found = self._fetcher.fetch(uri, task_id=task_id, project_key=self._project_key)
            self._decode(self._open(found, max_pixels=self._max_pixels))
        except MediaError as failure:
            return failure.reason
        except (ModelError, LabelStudioUnavailable) as failure:
            return str(failure)
        return ""


def failures(facts: ProjectFacts) -> Iterator[Finding]:
    """The worker could read every image that it tried."""
    from backend.reconcile.state import Failures

    kept = facts.store.read("failures.json", Failures) or Failures()
    by_reason = Counter(failure.reason for failure in kept.by_task.values())
    if not by_reason:
        yield ok("images.failed", "the worker could read every image that it tried")
        return
    total = sum(by_reason.values())
    named = "; ".join(f"{count}: {reason}" for reason, count in by_reason.most_common(_SHOWN))
    yield warning(
        "images.failed",
        f"{total} images could not be read: {named}",
        why="such tasks get the last place, and nothing is learned from their labels",
        mend="put the images right, or delete the tasks; the loop tries them again by itself, "
        "later each time (`rarefirst status` counts them)",
    )
