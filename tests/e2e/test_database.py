"""Order, switch and deletion of versions, which Label Studio leaves to its database.

They hold on SQLite and on PostgreSQL (RAREFIRST_TEST_DATABASE=postgres), where a score of NULL
stands elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.e2e.databases import on_postgres
from tests.e2e.harness import NewProject, Project

TASKS = 6


def _publish(project: Project, version: str, scores: Mapping[int, float | None]) -> None:
    """Import scores, one request each (the bulk import takes no NULL), then switch to them."""
    owner = project.studio.owner
    for task, score in scores.items():
        owner.request(
            "POST",
            "/api/predictions/",
            body={"task": task, "score": score, "result": [], "model_version": version},
        )
    owner.request(
        "PATCH",
        f"/api/projects/{project.id}/",
        body={"sampling": "Uncertainty sampling", "model_version": version},
    )


def _unlabeled(project: Project) -> list[int]:
    tasks = project.studio.owner.tasks(project.id)
    return [int(str(task["id"])) for task in tasks if not task["annotations"]]


def test_order_switch_and_deletion(new_project: NewProject) -> None:
    project = new_project(seed_labels=20, rare_seed_labels=2, pool_size=TASKS, rare_in_pool=2)
    owner, pool = project.studio.owner, _unlabeled(project)
    assert len(pool) == TASKS
    # One task has no score of the version at all.
    first = dict(zip(pool, (0.9, 0.1, None, 0.5, 0.3), strict=False))
    _publish(project, "first", first)

    def stands(score: float | None) -> tuple[bool, float]:
        return (score is None) is on_postgres(), score or 0.0

    order = [task.task for task in project.label(2)]
    expected = sorted(first, key=lambda task: stands(first[task]))
    assert order == expected[:2]

    # A switch counts from the next task on.
    left = [task for task in pool if task not in order]
    second = {task: 0.8 - place / 10 for place, task in enumerate(left)}
    _publish(project, "second", second)
    assert [task.task for task in project.label(1)] == left[-1:]

    # Back, and deleting the other one changes neither order nor version.
    owner.request("PATCH", f"/api/projects/{project.id}/", body={"model_version": "first"})
    delete = f"/api/projects/{project.id}/model-versions"
    owner.request("DELETE", delete, body={"model_version": "second"})
    assert owner.model_version(project.id) == "first"
    assert set(owner.model_versions(project.id)) == {"first"}
    scored = [task for task in expected if task in left[:-1]]
    rest = [task.task for task in project.label(TASKS)]
    assert rest == [*scored, *(task for task in left[:-1] if task not in first)]

    # Deleting the current one leaves none.
    owner.request("DELETE", delete, body={"model_version": "first"})
    assert owner.model_version(project.id) == ""
    assert owner.model_versions(project.id) == {}
