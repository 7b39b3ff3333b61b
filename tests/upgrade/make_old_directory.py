"""Makes `old_directory.tar.gz`: a data directory as an earlier commit of this repository left it.

Run in a checkout of that commit, beside which the small network of today's tests was copied:

    git worktree add /tmp/old cb2e667
    cp tests/unit/backend/reconcile/tiny_network.py /tmp/old/tests/unit/backend/reconcile/
    cp tests/upgrade/make_old_directory.py /tmp/old/
    cd /tmp/old && PYTHONPATH=. .venv/bin/python make_old_directory.py old_directory.tar.gz

Kept: cb2e667 of 2026-11-21, before there were fine-tunes, boxes, a dashboard, or a number in the
directory. It holds what a later version must not lose: labels (one task skipped, one label taken
back), four versions, one of them activated by hand, a control slice, a history, a pause. Beside it
lies Label Studio's side of the project.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
from datetime import timedelta
from pathlib import Path

from backend.mirror import Mirror
from backend.pausing import pause_project
from backend.versions import activate_version
from tests.unit.backend.reconcile.squares import Service, begin_squares

ADDRESS = "tests.unit.backend.reconcile.tiny_network:tiny"


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        service = begin_squares(root / "data", control_share=0.2, backbone=ADDRESS)
        for _ in range(3):
            service.next_version()
        studio = service.label_studio
        studio.skip(studio.stream()[0])
        studio.delete_annotations(service.label(1)[0])
        service.store.hint("changed")
        service.round()
        activate_version(service.settings, 1, "v0002")
        service.round()
        Mirror(service.store.path("mirror"), keep_old=timedelta(0)).compact()
        pause_project(service.settings, 1)
        (root / "label_studio.json").write_text(json.dumps(label_studio_of(service), indent=1))
        with tarfile.open(target, "w:gz") as archive:
            for path in sorted(root.iterdir()):
                archive.add(path, path.name)


def label_studio_of(service: Service) -> dict[str, object]:
    """What the Label Studio in memory holds."""
    fake = service.label_studio
    return {
        "now": fake.now.isoformat(),
        "truth": fake.truth,
        "tasks": [row.model_dump(mode="json") for row in fake.task_rows.values()],
        "predictions": [[key, *row] for key, row in fake.predictions.items()],
        "connections": [row.model_dump(mode="json") for row in fake.connection_rows],
        "webhooks": [row.model_dump(mode="json") for row in fake.webhook_rows],
        "views": [row.model_dump(mode="json") for row in fake.view_rows],
        "settings": {**fake.settings, "created_at": str(fake.settings["created_at"])},
        "next": fake._next,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
