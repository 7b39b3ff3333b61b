"""The tab that shows labels which a fine-tuned network doubts, in Label Studio's Data Manager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backend.labelstudio.client import LabelStudioClient
from backend.labelstudio.records import View

REVIEW_TITLE = "Check these labels"

_ID = "filter:tasks:id"
# Else label and image lie off screen.
_HIDDEN = (
    *("inner_id", "completed_at", "annotators", "annotations_ids", "cancelled_annotations"),
    *("total_predictions", "predictions_results", "predictions_score", "file_upload"),
    "predictions_model_versions",
    *("storage_filename", "created_at", "updated_at", "updated_by", "avg_lead_time"),
    "draft_exists",
)


def make_review_tab(client: LabelStudioClient, project_id: int, tasks: Sequence[int]) -> View:
    """Make the tab anew with these tasks; one that was made before goes."""
    before = review_tabs(client.views(project_id))
    made = client.create_view(project_id, review_tab(tasks))
    for view in before:
        client.delete_view(view.id)
    return made


def review_tab(tasks: Sequence[int]) -> Mapping[str, object]:
    """What the tab is for Label Studio.

    One line a task, any of which may hold: the filter that its own page can show and change
    (measured with 1.23.2 and 50 lines). Its API takes ``in_list`` with a list of ids too, but the
    page then fails, and with it every other tab of the project.
    """
    lines = [
        {"filter": _ID, "operator": "equal", "type": "Number", "value": task} for task in tasks
    ]
    return {
        "title": REVIEW_TITLE,
        "type": "list",
        "target": "tasks",
        "ordering": ["tasks:id"],
        "filters": {"conjunction": "or", "items": lines},
        "hiddenColumns": {"explore": [f"tasks:{name}" for name in _HIDDEN], "labeling": []},
    }


def review_tabs(views: Sequence[View]) -> list[View]:
    """Those of some tabs that are ours: with the title, and nothing but tasks in the filter."""
    return [view for view in views if view.title == REVIEW_TITLE and _names_tasks(view)]


def _names_tasks(view: View) -> bool:
    filters = view.data.get("filters")
    lines = filters.get("items") if isinstance(filters, Mapping) else None
    return isinstance(lines, list) and all(
        isinstance(line, Mapping) and line.get("filter") == _ID for line in lines
    )
