"""Wait, as Label Studio shows it, until a new order of the queue is served."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from demo.label_studio_api import LabelStudioApi

POLL_S = 0.25


class NoNewOrderError(RuntimeError):
    """The time is over and Label Studio still serves the order that it had."""


@dataclass(frozen=True)
class ServedQueue:
    """The order that Label Studio serves.

    Attributes:
        version: the predictions' version that the project names.
        tasks: ids of the scored tasks, first served first; labeled ones may be among them.
    """

    version: str
    tasks: tuple[int, ...]


def served_queue(api: LabelStudioApi, project_id: int) -> ServedQueue | None:
    """The order served right now; None where the project's version has no scores yet."""
    version = api.model_version(project_id)
    if not version or api.model_versions(project_id).get(version, 0) == 0:
        return None
    return ServedQueue(version, tuple(api.queue(project_id, version)))


def wait_for_queue(
    api: LabelStudioApi,
    project_id: int,
    *,
    other_than: str = "",
    timeout_s: float,
    waiting: Callable[[float], None] | None = None,
) -> tuple[ServedQueue, float]:
    """Wait until the project serves a version other than the one named.

    Only Label Studio is asked; nothing here nudges our service.

    Args:
        api: Label Studio.
        project_id: the project.
        other_than: the version before; empty waits for the first one.
        timeout_s: how long, in seconds.
        waiting: told the seconds waited, now and then.

    Returns: the new order, and the seconds until it was served.

    Raises:
        NoNewOrderError: the time is over.
    """
    started = time.monotonic()
    while True:
        version = api.model_version(project_id)
        waited = time.monotonic() - started
        if version and version != other_than:
            queue = served_queue(api, project_id)
            # A connection's title is put there before anything has scores under it.
            if queue is not None:
                return queue, waited
        if waited > timeout_s:
            raise NoNewOrderError(
                f"no new order within {timeout_s:.0f} s; Label Studio still serves "
                f"{version or 'no version'!r}"
            )
        if waiting is not None:
            waiting(waited)
        time.sleep(POLL_S)


def reordered(before: ServedQueue, after: ServedQueue, labeled: set[int], *, head: int) -> bool:
    """Whether the next ``head`` tasks come in another order than they would have before."""
    old = [task for task in before.tasks if task not in labeled][:head]
    new = [task for task in after.tasks if task not in labeled][:head]
    return old != new
