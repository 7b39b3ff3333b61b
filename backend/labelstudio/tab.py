"""The tab that shows a project rarest first in Label Studio's Data Manager."""

from __future__ import annotations

from collections.abc import Mapping

TAB_TITLE = "Rarest first"

# Else score and image lie off screen: Label Studio shows some twenty columns.
_HIDDEN = [
    "inner_id",
    "completed_at",
    "annotators",
    "annotations_results",
    "annotations_ids",
    "cancelled_annotations",
    "total_predictions",
    "predictions_results",
    "file_upload",
    "storage_filename",
    "created_at",
    "updated_at",
    "updated_by",
    "avg_lead_time",
    "draft_exists",
]
TAB: Mapping[str, object] = {
    "title": TAB_TITLE,
    "type": "list",
    "target": "tasks",
    "ordering": ["tasks:predictions_score"],
    "filters": {
        "conjunction": "and",
        "items": [
            {
                "filter": "filter:tasks:total_annotations",
                "operator": "equal",
                "type": "Number",
                "value": 0,
            }
        ],
    },
    "hiddenColumns": {"explore": [f"tasks:{name}" for name in _HIDDEN], "labeling": []},
}
