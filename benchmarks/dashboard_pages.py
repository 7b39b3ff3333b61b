"""The half of `benchmarks.dashboard` that asks: it imports nothing that the web process does not.

.venv/bin/python -m benchmarks.dashboard_pages FOLDER REPEATS
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

from backend.app import create_app
from backend.jobs import Jobs
from backend.settings import Settings

URL = "http://label-studio.invalid"
PAGES = ("/", "/project/1", "/project/1/now", "/project/1/queue", "/project/1/review")


def settings_of(folder: Path) -> Settings:
    """Of a service with a login, over a data directory."""
    return Settings(
        data_dir=folder, label_studio_url=URL, basic_auth_user="label", basic_auth_pass="label"
    )


def measure(folder: Path, repeats: int) -> dict[str, object]:
    """Ask for every page, in this process, whose imports of the application do not count."""
    from backend.labelstudio.event_hook import authorization_header

    settings = settings_of(folder)
    client = create_app(settings, Jobs(settings)).test_client()
    headers = {"Authorization": authorization_header("label", "label"), "Accept": "text/html"}
    peaks = {"start": peak_mb()}
    pages = {}
    for path in PAGES:
        times = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            response = client.get(path, headers=headers)
            times.append(time.perf_counter() - began)
            assert response.status_code == 200, response.text
        pages[path] = {
            "first_s": round(times[0], 3),
            "median_s": round(statistics.median(times[1:]), 3),
            "kib": round(len(response.data) / 1024, 1),
        }
        peaks[path] = peak_mb()
    return {"pages": pages, "peak_mb": peaks}


def peak_mb() -> int:
    """The most memory that this process ever had, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1000
    return 0


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
