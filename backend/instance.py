"""Which rarefirst this is: every name that it gives in Label Studio carries its mark.

Two services on one Label Studio (say, staging and production) must not take each other's
connections or scores for their own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from backend.serializer import queue_key


def version_prefix(data_dir: Path) -> str:
    """What every model version of this data directory begins with, ``rarefirst-3fa9c1-``."""
    mark = hashlib.sha256(b"instance" + queue_key(data_dir)).hexdigest()[:6]
    return f"rarefirst-{mark}-"


def unpublished_name(data_dir: Path) -> str:
    """What /setup answers before anything was published."""
    return version_prefix(data_dir) + "0"
