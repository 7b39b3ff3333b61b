"""The part of `benchmarks.dashboard` that looks: first paint in headless Chromium.

The web process is the real one (`rarefirst web`), started anew; the first page that it serves
counts as the first, a few more as warm. What is behind the page (queue, pictures) comes later.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path

from benchmarks.dashboard_pages import URL
from demo.backend_process import COMMAND
from demo.ports import free_port
from demo.service import Service
from tests.e2e.browser.chromium import Browser

_PAINT = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
_FULL = "return document.querySelectorAll('#queue .card').length"


def first_paints(folder: Path, repeats: int) -> dict[str, object]:
    """Milliseconds from asking for a project's page until something of it is seen."""
    with tempfile.TemporaryDirectory() as name:
        root, port = Path(name), free_port()
        environment = {
            **os.environ,
            "RAREFIRST_DATA_DIR": str(folder),
            "LABEL_STUDIO_URL": URL,
            "PORT": str(port),
            "BASIC_AUTH_USER": "label",
            "BASIC_AUTH_PASS": "label",
        }
        web = Service(
            "rarefirst web",
            [str(COMMAND), "web"],
            env=environment,
            log_path=root / "web.log",
            pid_path=root / "web.pid",
        )
        web.start()
        browser = Browser(root)
        try:
            web.wait_until_up(f"http://127.0.0.1:{port}/health", timeout_s=60)
            address = f"http://label:label@127.0.0.1:{port}/project/1"
            paints = []
            for _ in range(repeats + 1):
                browser.open(address)
                paints.append(browser.until(lambda: browser.run(_PAINT), "something is painted"))
                browser.until(lambda: browser.run(_FULL), "the queue is there")
        finally:
            browser.close()
            web.stop()
    return {
        "first_ms": round(paints[0]),
        "warm_median_ms": round(statistics.median(paints[1:])),
        "warm_most_ms": round(max(paints[1:])),
        "load": [round(one, 1) for one in os.getloadavg()],
    }
