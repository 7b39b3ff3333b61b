"""Deleting one prediction, which on SQLite gives way to what people write."""

from __future__ import annotations

import contextlib
import time

from backend.errors import LabelStudioUnavailable, NotFound
from backend.labelstudio.client import LabelStudioClient

_AGAIN_S = 2.0


def delete_prediction(client: LabelStudioClient, prediction_id: int) -> None:
    """Delete a prediction that may be gone already.

    A submit that comes in between makes Label Studio on SQLite answer 500 to the deletion
    ("database is locked"); one more try is made, so that this is not taken for an outage.

    Raises:
        LabelStudioUnavailable: it failed twice.
    """
    with contextlib.suppress(NotFound):
        try:
            client.delete_prediction(prediction_id)
        except LabelStudioUnavailable:
            time.sleep(_AGAIN_S)
            client.delete_prediction(prediction_id)
