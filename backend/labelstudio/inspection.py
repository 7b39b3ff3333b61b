"""What `rarefirst doctor` asks Label Studio and nothing else does.

Nothing here changes anything in Label Studio.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urljoin, urlsplit

import requests
from pydantic import AwareDatetime, TypeAdapter, ValidationError

from backend.errors import AddressBlocked, LabelStudioRefused, LabelStudioUnavailable, ProjectGone
from backend.labelstudio.answers import id_of, rows_of
from backend.labelstudio.records import Object
from backend.labelstudio.transport import Transport, cause_of, object_of, origin_of

CallBack = Literal["connection", "webhook"]
SightKind = Literal["label_studio", "unreachable", "slow", "redirects", "other", "path"]

_CALL_BACKS: dict[CallBack, tuple[str, str]] = {
    # Field by field, an address is judged before the request is refused for the other field.
    "connection": ("/api/ml/", "timeout"),
    "webhook": ("/api/webhooks/", "send_payload"),
}


@dataclass(frozen=True)
class Sight:
    """What answers at Label Studio's address, asked without a token.

    Attributes:
        kind: whether it is Label Studio, and if not, what it is.
        detail: in words; for ``redirects`` and ``path`` the address to use instead.
        release: Label Studio's version, such as ``1.23.2``.
        ahead_s: its clock less ours, to a second or so; None where it does not tell the time.
        took_s: seconds that the answer took.
    """

    kind: SightKind
    detail: str = ""
    release: str = ""
    ahead_s: float | None = None
    took_s: float = 0.0


def look_at(base_url: str, *, timeout_s: float) -> Sight:
    """See what is at an address.

    Args:
        base_url: as the settings name it.
        timeout_s: seconds before it counts as not answering.
    """
    base = base_url.rstrip("/")
    began = time.time()
    try:
        answer = _get(base + "/api/version", timeout_s)
    except requests.Timeout:
        return Sight("slow", f"no answer within {timeout_s:g} s")
    except requests.RequestException as error:
        return Sight("unreachable", cause_of(error))
    took = time.time() - began
    if 300 <= answer.status_code < 400:
        target = urljoin(answer.url, answer.headers.get("Location", ""))
        return Sight("redirects", target.partition("?")[0].removesuffix("/api/version"))
    release = _release(answer)
    if not release:
        kind = answer.headers.get("Content-Type", "no content type").partition(";")[0]
        return Sight("other", f"{answer.status_code}, {kind}")
    if urlsplit(base).path and _is_missing(base, timeout_s):
        # Label Studio answers /api/version below any path, but nothing else.
        return Sight("path", origin_of(base), release)
    return Sight("label_studio", "", release, _ahead_s(answer, began, took), took)


def address_refusal(transport: Transport, project_id: int, url: str, of: CallBack) -> str:
    """Why Label Studio would not call an address; empty where it would.

    It judges an address when a connection or a webhook is saved. So one is sent whose other field
    is no valid one: it is refused in any case, and the refusal tells whether the address was the
    reason.

    Args:
        transport: to which Label Studio.
        project_id: any project that the token can see.
        url: the address.
        of: what would call it; Label Studio has a protection for each.
    """
    path, wrong = _CALL_BACKS[of]
    body = {"project": project_id, "url": url, wrong: "not valid on purpose"}
    try:
        made = transport.json("POST", path, body=body)
    except AddressBlocked as error:
        return error.detail
    except LabelStudioRefused:
        return ""
    except LabelStudioUnavailable as error:
        if "resolve hostname" in str(error):
            return "its name cannot be resolved there"
        raise
    # Taken all the same, against all that was seen: leave nothing behind.
    if isinstance(made, Mapping) and isinstance(made.get("id"), int):
        transport.json("DELETE", f"{path}{made['id']}" + ("/" if of == "webhook" else ""))
    return ""


def newest_label_at(transport: Transport, project_id: int) -> datetime | None:
    """When the newest annotation was made, by Label Studio's clock; None where there is none."""
    rows, _ = _tasks(
        transport, project_id, include="id,completed_at", ordering="-tasks:completed_at"
    )
    value = rows[0].get("completed_at") if rows else None
    if value is None:
        return None
    try:
        return TypeAdapter[AwareDatetime](AwareDatetime).validate_python(value)
    except ValidationError as error:
        raise LabelStudioUnavailable("found a completed_at that is not a time") from error


def some_tasks(transport: Transport, project_id: int, count: int) -> list[tuple[int, Object]]:
    """Id and data of up to ``count`` tasks: a third each from start, middle and end."""
    size = max(1, count // 3)
    rows, total = _tasks(transport, project_id, include="id,data", page_size=size)
    last = -(-total // size)
    for page in sorted({(last + 1) // 2, last} - {0, 1}):
        rows += _tasks(transport, project_id, include="id,data", page_size=size, page=page)[0]
    return [
        (id_of(row), data if isinstance(data := row.get("data"), Mapping) else {}) for row in rows
    ]


def _tasks(
    transport: Transport,
    project_id: int,
    *,
    include: str,
    page_size: int = 1,
    page: int = 1,
    ordering: str = "",
) -> tuple[list[Mapping[str, object]], int]:
    """A page of tasks, and how many there are in all."""
    params: dict[str, str | int] = {
        "project": project_id,
        "include": include,
        "page": page,
        "page_size": page_size,
        "resolve_uri": "false",
    }
    if ordering:
        params |= {"fields": "all", "query": json.dumps({"ordering": [ordering]})}
    try:
        answer = transport.json("GET", "/api/tasks", params=params)
    except LabelStudioRefused as error:
        if error.status == 404 and page == 1:
            raise ProjectGone(project_id) from error
        raise
    total = answer.get("total") if isinstance(answer, Mapping) else None
    rows = rows_of(answer.get("tasks")) if isinstance(answer, Mapping) else []
    return rows, total if isinstance(total, int) else len(rows)


def _get(url: str, timeout_s: float) -> requests.Response:
    return requests.get(
        url, timeout=timeout_s, allow_redirects=False, headers={"User-Agent": "rarefirst"}
    )


def _release(answer: requests.Response) -> str:
    release = object_of(answer).get("release")
    return release if isinstance(release, str) else ""


def _is_missing(base: str, timeout_s: float) -> bool:
    try:
        return _get(base + "/api/projects/", timeout_s).status_code == 404
    except requests.RequestException:
        return False


def _ahead_s(answer: requests.Response, began: float, took: float) -> float | None:
    try:
        theirs = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return None
    # Whole seconds, cut off: on average half a second is missing.
    return theirs + 0.5 - (began + took / 2)
