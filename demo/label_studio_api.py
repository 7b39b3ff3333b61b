"""The few calls of Label Studio's API that the demo and the tests make, as a user's script would.

Plain ``requests``: the client of the service itself is under test and not used here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import requests

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

TIMEOUT_S: Final = 120


class LabelStudioError(RuntimeError):
    """Label Studio refused a request; the message holds what it said."""


class LabelStudioApi:
    """Label Studio as one user sees it.

    Args:
        url: its address.
        token: the user's (legacy) API token.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self.token = token
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Token {token}"

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str | int] | None = None,
        files: Sequence[tuple[str, bytes]] = (),
        expect: Sequence[int] = (200, 201, 204),
    ) -> requests.Response:
        """One request.

        Args:
            method: HTTP method.
            path: below the address, with a leading slash.
            body: sent as JSON unless None.
            query: query parameters.
            files: (name, content) sent as a multipart form.
            expect: statuses that are fine.

        Raises:
            LabelStudioError: any other status.
        """
        response = self._session.request(
            method,
            self.url + path,
            json=body,
            params=query,
            files=[(name, (name, content, "image/png")) for name, content in files] or None,
            timeout=TIMEOUT_S,
        )
        if response.status_code not in expect:
            raise LabelStudioError(
                f"{method} {path} was answered with {response.status_code}: {response.text[:500]}"
            )
        return response

    def create_project(self, title: str, label_config: str, *, description: str = "") -> int:
        """Create a project. Returns: its id."""
        answer = self.request(
            "POST",
            "/api/projects",
            body={"title": title, "label_config": label_config, "description": description},
        )
        project_id: int = answer.json()["id"]
        return project_id

    def project_exists(self, project_id: int) -> bool:
        """Whether the project is there."""
        answer = self.request("GET", f"/api/projects/{project_id}", expect=(200, 404))
        return answer.status_code == 200

    def projects_described(self, description: str) -> list[int]:
        """Ids of the projects with exactly this description."""
        listed = self.request("GET", "/api/projects", query={"page_size": 100}).json()["results"]
        return [int(item["id"]) for item in listed if item["description"] == description]

    def task_count(self, project_id: int) -> int:
        """How many tasks a project has."""
        count: int = self.request("GET", f"/api/projects/{project_id}").json()["task_number"]
        return count

    def delete_project(self, project_id: int) -> None:
        """Delete a project and everything in it."""
        self.request("DELETE", f"/api/projects/{project_id}")

    def model_version(self, project_id: int) -> str:
        """The version whose scores order the label stream; empty where there is none."""
        return self.request("GET", f"/api/projects/{project_id}").json()["model_version"] or ""

    def model_versions(self, project_id: int) -> dict[str, int]:
        """Stored versions and how many predictions each has."""
        versions: dict[str, int] = self.request(
            "GET", f"/api/projects/{project_id}/model-versions"
        ).json()
        return versions

    def queue(self, project_id: int, version: str) -> list[int]:
        """Ids of the tasks that ``version`` scores, in the order in which they would be served."""
        answer = self.request("GET", "/api/predictions", query={"task__project": project_id})
        scored = [
            (item["score"], item["task"])
            for item in answer.json()
            if item["model_version"] == version
        ]
        return [task for _, task in sorted(scored)]

    def tasks(self, project_id: int) -> Iterator[dict[str, Json]]:
        """All tasks with their annotations, page by page."""
        include = "id,data,annotations,result,was_cancelled,completed_by"
        page, seen, total = 1, 0, 1
        while seen < total:
            answer = self.request(
                "GET",
                "/api/tasks",
                query={
                    "project": project_id, "fields": "all", "include": include,
                    "page": page, "page_size": 500,
                },
            ).json()  # fmt: skip
            total = answer["total"]
            seen += len(answer["tasks"])
            page += 1
            yield from answer["tasks"]
            if not answer["tasks"]:
                return

    def upload(self, project_id: int, files: Sequence[tuple[str, bytes]]) -> dict[str, str]:
        """Upload files without making tasks of them, 100 a request (Label Studio's limit).

        Returns: from the name of each file to the path under which Label Studio serves it.
        """
        paths: dict[str, str] = {}
        for start in range(0, len(files), 100):
            batch = files[start : start + 100]
            answer = self.request(
                "POST",
                f"/api/projects/{project_id}/import",
                query={"commit_to_project": "false"},
                files=batch,
            )
            listed = self.request(
                "GET",
                f"/api/projects/{project_id}/file-uploads",
                query={"ids": json.dumps(answer.json()["file_upload_ids"])},
            )
            for stored in listed.json():
                # Stored as upload/<project>/<8 hex digits>-<name>.
                paths[stored["file"].rsplit("/", 1)[-1].split("-", 1)[1]] = (
                    "/data/" + stored["file"]
                )
        missing = [name for name, _ in files if name not in paths]
        if missing:
            raise LabelStudioError(f"{len(missing)} uploads were not stored, such as {missing[0]}")
        return paths

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, object]]) -> None:
        """Import tasks, with their annotations where they have some, in one request.

        On SQLite, Label Studio runs a request again when the database is locked, and then imports
        the tasks without their annotations and says nothing (seen while predictions were being
        deleted): so what is there is compared, and missing annotations are sent one by one.
        """
        answer = self.request("POST", f"/api/projects/{project_id}/import", body=list(tasks))
        if answer.json()["task_count"] != len(tasks):
            raise LabelStudioError(
                f"{len(tasks)} tasks were sent, stored were: {answer.text[:200]}"
            )
        wanted = {
            json.dumps(task["data"], sort_keys=True): task.get("annotations") for task in tasks
        }
        for task in list(self.tasks(project_id)):
            sent = wanted.get(json.dumps(task["data"], sort_keys=True))
            if isinstance(sent, list) and not task["annotations"]:
                for annotation in sent:
                    self.request("POST", f"/api/tasks/{task['id']}/annotations/", body=annotation)


def sign_up(url: str, *, email: str, password: str) -> LabelStudioApi:
    """Make a further user through the sign-up page, as a colleague would, and act as them.

    Raises:
        LabelStudioError: the page refused.
    """
    with _fill_form(url, "/user/signup/", email=email, password=password) as session:
        answer = session.get(f"{url}/api/current-user/token", timeout=TIMEOUT_S)
    if answer.status_code != 200:
        raise LabelStudioError(f"{email} could not sign up: {answer.status_code}")
    return LabelStudioApi(url, answer.json()["token"])


def log_in(url: str, email: str, password: str) -> requests.Session:
    """A user's own session, as a browser has it: works whatever becomes of API tokens.

    Raises:
        LabelStudioError: the page refused.
    """
    session = _fill_form(url, "/user/login/", email=email, password=password)
    answer = session.get(f"{url}/api/current-user/whoami", timeout=TIMEOUT_S)
    if answer.status_code != 200:
        raise LabelStudioError(f"{email} could not log in: {answer.status_code}")
    session.headers["X-CSRFToken"] = session.cookies.get("csrftoken") or ""
    session.headers["Referer"] = url
    return session


def _fill_form(url: str, path: str, **fields: str) -> requests.Session:
    """Open a page with a form, send it, and keep the session."""
    session = requests.Session()
    page = session.get(url + path, timeout=TIMEOUT_S)
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    if found is None:
        raise LabelStudioError(f"{path} answered {page.status_code} and has no form")
    session.post(
        url + path,
        data={**fields, "csrfmiddlewaretoken": found.group(1)},
        headers={"Referer": url + path},
        timeout=TIMEOUT_S,
    )
    return session
