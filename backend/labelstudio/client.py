"""Label Studio's API as far as rarefirst uses it: typed in, typed out.

Written on `requests`: the SDK's own list calls took 23 s where these take 14 s (2,000 tasks), and
its raw request interface is private. What each call costs is in the protocol notes; the ones that
recount a whole project or call the backend back say so.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import requests

from backend.errors import LabelStudioRefused, NotFound, ProjectGone
from backend.labelstudio.answers import id_of, parse_record, rows_of
from backend.labelstudio.inspection import CallBack, address_refusal, newest_label_at, some_tasks
from backend.labelstudio.records import (
    AnnotationRecord,
    Connection,
    Object,
    PredictionItem,
    ProjectInfo,
    TaskRecord,
    UserInfo,
    View,
    Webhook,
    utc_text,
)
from backend.labelstudio.task_pages import PAGE_SIZE, predictions, task_filter, task_pages
from backend.labelstudio.transport import Method, Params, Transport
from models.types import Progress, no_progress

__all__ = [
    "AnnotationRecord",
    "Connection",
    "LabelStudioClient",
    "PredictionItem",
    "ProjectInfo",
    "TaskRecord",
    "UserInfo",
    "View",
    "Webhook",
]

_PAGE_S = (
    120.0  # one page of 500 tasks takes about 4 s; a busy SQLite can make that many times more
)
_WRITE_S = 120.0  # SQLite makes writers wait for each other: 22 s observed
_IMPORT_S = 600.0
_NESTED = "annotations,result,was_cancelled,ground_truth,completed_by"
_TASK_FIELDS = f"id,data,created_at,updated_at,{_NESTED}"


class LabelStudioClient:
    """A Label Studio and a token for it; safe to share between threads.

    Every method raises LabelStudioUnavailable (try later) or LabelStudioRefused (do not), and
    calls with a project id raise ProjectGone where the project is gone.

    Args:
        base_url: Label Studio's address.
        api_key: personal access token or legacy token.
        timeout_s: seconds without a byte before an ordinary request is given up.
        session: used for all requests instead of one session for each thread.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout_s: float = 30.0,
        session: requests.Session | None = None,
    ) -> None:
        self._transport = Transport(base_url, api_key, timeout_s=timeout_s, session=session)

    @property
    def base_url(self) -> str:
        """Label Studio's address, without a slash at its end."""
        return self._transport.base_url

    @property
    def origin(self) -> str:
        """Scheme, host and port of that address."""
        return self._transport.origin

    # Who and what ------------------------------------------------------------------------------

    def version(self) -> str:
        """Label Studio's version, such as ``1.23.2``."""
        answer = self._mapping("GET", "/api/version")
        release = answer.get("release")
        return release if isinstance(release, str) else ""

    def whoami(self) -> UserInfo:
        """Whose token this is."""
        return parse_record(UserInfo, self._mapping("GET", "/api/current-user/whoami"))

    # Projects ----------------------------------------------------------------------------------

    def project(self, project_id: int) -> ProjectInfo:
        """Settings and counts of a project."""
        path = f"/api/projects/{project_id}/"
        return parse_record(ProjectInfo, self._of_project(project_id, "GET", path))

    def projects(self) -> list[ProjectInfo]:
        """All projects that the token can see."""
        found: list[ProjectInfo] = []
        page = 1
        while True:
            try:
                answer = self._mapping(
                    "GET", "/api/projects/", params={"page": page, "page_size": 100}
                )
            except NotFound:
                return found  # projects were deleted while we read: the page is past the end
            found += [parse_record(ProjectInfo, item) for item in rows_of(answer.get("results"))]
            if not answer.get("next"):
                return found
            page += 1

    def update_project(self, project_id: int, **fields: str | int | bool) -> ProjectInfo:
        """Change settings; Label Studio refuses a ``model_version`` that has no predictions."""
        path = f"/api/projects/{project_id}/"
        answer = self._of_project(project_id, "PATCH", path, body=fields, timeout_s=_WRITE_S)
        return parse_record(ProjectInfo, answer)

    # Tasks -------------------------------------------------------------------------------------

    def tasks(
        self,
        project_id: int,
        *,
        updated_after: datetime | None = None,
        page_size: int = PAGE_SIZE,
        progress: Progress | None = None,
    ) -> Iterator[TaskRecord]:
        """Tasks with their annotations, page by page; a task may come twice.

        Args:
            project_id: of which project.
            updated_after: only tasks whose ``updated_at`` is later, by Label Studio's clock.
            page_size: tasks in a request. More than 500 made Label Studio on SQLite fail.
            progress: told after each page.
        """
        query = None
        if updated_after is not None:
            query = task_filter("updated_at", "greater", "Datetime", utc_text(updated_after))
        seen = 0
        tell = progress or no_progress
        for rows, total in task_pages(
            self._transport,
            project_id,
            include=_TASK_FIELDS,
            whole=True,
            query=query,
            page_size=page_size,
        ):
            for row in rows:
                yield parse_record(TaskRecord, row)
            seen += len(rows)
            tell(min(seen, total), total, "tasks read")

    def task_ids(self, project_id: int) -> set[int]:
        """Ids of all tasks: those not in here were deleted."""
        return {
            id_of(row)
            for rows, _ in task_pages(self._transport, project_id, include="id")
            for row in rows
        }

    # Predictions -------------------------------------------------------------------------------

    def import_predictions(self, project_id: int, items: Sequence[PredictionItem]) -> int:
        """Store scores in one request; returns how many Label Studio says it created.

        Label Studio drops what it dislikes and still answers 201: compare. It recounts the whole
        project for each request, so send all items at once. Emits no webhook.
        """
        if not items:
            return 0
        answer = self._of_project(
            project_id,
            "POST",
            f"/api/projects/{project_id}/import/predictions",
            body=[item.payload() for item in items],
            timeout_s=_IMPORT_S,
        )
        created = answer.get("created")
        return created if isinstance(created, int) else 0

    def model_versions(self, project_id: int) -> dict[str, int]:
        """Stored predictions by model version."""
        answer = self._of_project(
            project_id,
            "GET",
            f"/api/projects/{project_id}/model-versions/",
            params={"extended": "true"},
        )
        return {
            str(row.get("model_version") or ""): count
            for row in rows_of(answer.get("static"))
            if isinstance(count := row.get("count"), int)
        }

    def predicted_tasks(self, project_id: int, model_version: str) -> list[int]:
        """Ids of the tasks that hold a prediction of this version, ascending."""
        return sorted(set(predictions(self._transport, project_id, model_version).values()))

    def prediction_ids(
        self, project_id: int, model_version: str, *, at_most: int | None = None
    ) -> list[int]:
        """Ids of the predictions of this version, ascending; of ``at_most`` tasks where given."""
        return sorted(predictions(self._transport, project_id, model_version, at_most=at_most))

    def delete_prediction(self, prediction_id: int) -> None:
        """Delete one prediction (0.2 s, a short transaction)."""
        self._call("DELETE", f"/api/predictions/{prediction_id}/", timeout_s=_WRITE_S)

    # Connections -------------------------------------------------------------------------------

    def connections(self, project_id: int) -> list[Connection]:
        """ML backends of a project, oldest first.

        Label Studio asks each for /health and /setup meanwhile, and writes it: on PostgreSQL the
        list then comes in another order each time.
        """
        answer = self._list_of_project(project_id, "/api/ml/")
        found = [parse_record(Connection, row) for row in answer]
        return sorted(found, key=lambda connection: connection.id)

    def create_connection(
        self, project_id: int, url: str, *, title: str, basic_auth: tuple[str, str] | None = None
    ) -> Connection:
        """Connect an ML backend. After a 403 it may exist all the same: look."""
        body = {"project": project_id, "url": url, "title": title, **_login(basic_auth)}
        answer = self._of_project(project_id, "POST", "/api/ml/", body=body, timeout_s=_WRITE_S)
        return parse_record(Connection, answer)

    def update_connection(
        self,
        connection_id: int,
        *,
        project_id: int,
        url: str,
        title: str | None = None,
        basic_auth: tuple[str, str] | None = None,
    ) -> Connection:
        """Change a connection; without ``url`` and ``project`` Label Studio answers 500."""
        body: dict[str, object] = {"project": project_id, "url": url, **_login(basic_auth)}
        if title is not None:
            body["title"] = title
        answer = self._mapping("PATCH", f"/api/ml/{connection_id}", body=body, timeout_s=_WRITE_S)
        return parse_record(Connection, answer)

    def delete_connection(self, connection_id: int) -> None:
        """Delete a connection; its webhook and its predictions stay."""
        self._call("DELETE", f"/api/ml/{connection_id}", timeout_s=_WRITE_S)

    # Webhooks ----------------------------------------------------------------------------------

    def webhooks(self, project_id: int) -> list[Webhook]:
        """Webhooks of a project, oldest first."""
        rows = self._list_of_project(project_id, "/api/webhooks/")
        return sorted((parse_record(Webhook, row) for row in rows), key=lambda hook: hook.id)

    def create_webhook(
        self, project_id: int, url: str, *, headers: Mapping[str, str], actions: Sequence[str]
    ) -> Webhook:
        """Make Label Studio report these actions to ``url``."""
        body = {"project": project_id, "url": url, **_events(headers, actions)}
        return parse_record(Webhook, self._mapping("POST", "/api/webhooks/", body=body))

    def update_webhook(
        self, webhook: Webhook, *, headers: Mapping[str, str], actions: Sequence[str]
    ) -> Webhook:
        """Change headers and actions; both are always sent, or Label Studio empties them."""
        body = {"url": webhook.url, **_events(headers, actions)}
        path = f"/api/webhooks/{webhook.id}/"
        return parse_record(Webhook, self._mapping("PATCH", path, body=body))

    def delete_webhook(self, webhook_id: int) -> None:
        """Delete a webhook."""
        self._call("DELETE", f"/api/webhooks/{webhook_id}/")

    # Tabs --------------------------------------------------------------------------------------

    def views(self, project_id: int) -> list[View]:
        """Tabs of a project's Data Manager."""
        rows = self._list_of_project(project_id, "/api/dm/views/")
        return [parse_record(View, row) for row in rows]

    def create_view(self, project_id: int, data: Mapping[str, object]) -> View:
        """Make a tab; making it twice makes two."""
        body = {"project": project_id, "data": dict(data)}
        return parse_record(View, self._mapping("POST", "/api/dm/views/", body=body))

    def delete_view(self, view_id: int) -> None:
        """Delete a tab."""
        self._call("DELETE", f"/api/dm/views/{view_id}/")

    # Files -------------------------------------------------------------------------------------

    def resolve_uri(self, task_id: int, uri: str) -> str:
        """Where Label Studio serves a cloud URI (``s3://...``) of a task."""
        encoded = base64.urlsafe_b64encode(uri.encode()).decode()
        return self.absolute(f"/tasks/{task_id}/resolve/?fileuri={encoded}")

    def absolute(self, path: str) -> str:
        """The URL of a path of Label Studio."""
        return self._transport.absolute(path)

    def download(
        self, url: str, *, timeout_s: float = 10.0, connect_s: float = 5.0
    ) -> requests.Response:
        """Open a file of Label Studio with the token, streaming; redirects are not followed.

        Args:
            url: a path, or an absolute URL on Label Studio's own origin.
            timeout_s: seconds without a byte.
            connect_s: seconds to connect.

        Returns:
            The response, whatever its status but 401; close it.
        """
        absolute = self.absolute(url) if url.startswith("/") else url
        return self._transport.stream(absolute, timeout_s=timeout_s, connect_s=connect_s)

    # For the doctor ----------------------------------------------------------------------------

    def address_refusal(self, project_id: int, url: str, *, of: CallBack) -> str:
        """Why Label Studio would not call an address, empty where it would; changes nothing."""
        return address_refusal(self._transport, project_id, url, of)

    def newest_label_at(self, project_id: int) -> datetime | None:
        """When the newest annotation was made, by Label Studio's clock."""
        return newest_label_at(self._transport, project_id)

    def some_tasks(self, project_id: int, count: int) -> list[tuple[int, Object]]:
        """Id and data of up to ``count`` tasks from start, middle and end of the project."""
        return some_tasks(self._transport, project_id, count)

    # Requests ----------------------------------------------------------------------------------

    def _call(
        self,
        method: Method,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        timeout_s: float | None = None,
    ) -> object:
        return self._transport.json(method, path, params=params, body=body, timeout_s=timeout_s)

    def _mapping(
        self,
        method: Method,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        timeout_s: float | None = None,
    ) -> Mapping[str, object]:
        answer = self._call(method, path, params=params, body=body, timeout_s=timeout_s)
        return answer if isinstance(answer, Mapping) else {}

    def _of_project(
        self,
        project_id: int,
        method: Method,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        timeout_s: float | None = None,
    ) -> Mapping[str, object]:
        try:
            return self._mapping(method, path, params=params, body=body, timeout_s=timeout_s)
        except NotFound as error:
            raise ProjectGone(project_id) from error

    def _list_of_project(self, project_id: int, path: str) -> list[Mapping[str, object]]:
        try:
            return rows_of(self._call("GET", path, params={"project": project_id}))
        except LabelStudioRefused as error:
            # Webhooks and tabs answer 400 to a project that is gone, connections 404.
            if error.status == 404 or "available choices" in error.detail:
                raise ProjectGone(project_id) from error
            raise


def _login(basic_auth: tuple[str, str] | None) -> dict[str, str]:
    if basic_auth is None:
        return {}
    user, password = basic_auth
    return {"auth_method": "BASIC_AUTH", "basic_auth_user": user, "basic_auth_pass": password}


def _events(headers: Mapping[str, str], actions: Sequence[str]) -> dict[str, object]:
    return {
        "headers": dict(headers),
        "actions": list(actions),
        "send_for_all_actions": False,
        "send_payload": True,
        "is_active": True,
    }
