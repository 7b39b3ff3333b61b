"""Reading tasks page by page, with the Data Manager's filters.

A page is filtered, sorted and counted by Label Studio each time, so what changes between two
pages can move tasks over the edge between them.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator, Mapping

from backend.errors import LabelStudioUnavailable, NotFound, ProjectGone
from backend.labelstudio.answers import id_of, rows_of
from backend.labelstudio.transport import Transport

logger = logging.getLogger(__name__)

PAGE_SIZE = 500  # from 1,000 on, Label Studio on SQLite was seen to fail

_PAGE_S = 120.0  # a page takes about 4 s; a busy SQLite makes that many times more
_RESTARTS = 3


def task_pages(
    transport: Transport,
    project_id: int,
    *,
    include: str,
    whole: bool = False,
    query: str | None = None,
    page_size: int = PAGE_SIZE,
) -> Iterator[tuple[list[Mapping[str, object]], int]]:
    """Pages of tasks, each with the total; a task may come twice.

    Begins again where the total shrinks between two pages: a deleted task moves those after it
    one place forward, and the first of the next page would be skipped.

    Args:
        transport: to which Label Studio.
        project_id: of which project.
        include: names of the fields wanted, those of nested objects too, comma-separated.
        whole: with annotations and predictions.
        query: see ``task_filter``.
        page_size: tasks in a request.

    Raises:
        ProjectGone: there is no such project.
    """
    params: dict[str, str | int] = {
        "project": project_id,
        "page_size": page_size,
        "include": include,
        "resolve_uri": "false",  # as stored, not rewritten into links to a storage proxy
    }
    if whole:
        params["fields"] = "all"
    if query is not None:
        params["query"] = query
    page, seen, total, restarts = 1, 0, 0, 0
    while True:
        rows, now = _page(transport, params, page)
        if rows is None and page == 1:
            raise ProjectGone(project_id)
        if page > 1 and (rows is None or now < total) and restarts < _RESTARTS:
            logger.info("project %s: tasks were deleted while reading, again", project_id)
            page, seen, total, restarts = 1, 0, 0, restarts + 1
            continue
        if not rows:
            return
        seen, total = seen + len(rows), now
        yield rows, total
        if seen >= total:
            return
        page += 1


def predictions(
    transport: Transport, project_id: int, model_version: str, *, at_most: int | None = None
) -> dict[int, int]:
    """Prediction id -> task id, of one model version.

    Args:
        transport: to which Label Studio.
        project_id: of which project.
        model_version: the version.
        at_most: those of so many tasks only, which is a short request.
    """
    # "contains" takes a list, and also finds versions whose name merely contains this one.
    query = task_filter("predictions_model_versions", "contains", "List", [model_version])
    pages = task_pages(
        transport,
        project_id,
        include="id,predictions",
        whole=True,
        query=query,
        page_size=at_most or PAGE_SIZE,
    )
    return {
        id_of(prediction): id_of(row)
        for rows, _ in itertools.islice(pages, 1 if at_most else None)
        for row in rows
        for prediction in rows_of(row.get("predictions"))
        if prediction.get("model_version") == model_version
    }


def task_filter(column: str, operator: str, kind: str, value: object) -> str:
    """The ``query`` that keeps tasks whose column fits, in the Data Manager's own language."""
    item = {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": kind,
        "value": value,
    }
    return json.dumps({"filters": {"conjunction": "and", "items": [item]}})


def _page(
    transport: Transport, params: Mapping[str, str | int], page: int
) -> tuple[list[Mapping[str, object]] | None, int]:
    """Rows of a page and the total; None past the end."""
    try:
        answer = transport.json(
            "GET", "/api/tasks", params={**params, "page": page}, timeout_s=_PAGE_S
        )
    except NotFound:
        return None, 0
    total = answer.get("total") if isinstance(answer, Mapping) else None
    if not isinstance(answer, Mapping) or not isinstance(total, int):
        raise LabelStudioUnavailable("GET /api/tasks: found no total in Label Studio's answer")
    return rows_of(answer.get("tasks")), total
