"""`rarefirst status --watch`: the status again and again, and what was found as blocks."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from backend import cli_tables
from backend.dashboard.found import FoundPanel, found_panel
from backend.dashboard.words import amount
from backend.projects import ProjectStores
from backend.reconcile.state import SyncState
from backend.reports import ProjectReport, RoundEntry
from backend.settings import Settings
from backend.sparklines import sparkline
from backend.status import ServiceStatus, service_status
from models.tasks.base import DETECTION

EVERY_S = 2.0


def watch(
    settings: Settings,
    project_id: int | None,
    *,
    console: Console,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Show the status until Ctrl-C; ``wait`` is called with the seconds between two looks."""
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as shown:
        while True:
            shown.update(watched(settings, service_status(settings, project_id)), refresh=True)
            try:
                wait(EVERY_S)
            except KeyboardInterrupt:
                return


def watched(settings: Settings, status: ServiceStatus) -> RenderableType:
    """The status, and for each project what was found so far against random order."""
    stores = ProjectStores(settings.data_dir, settings.label_studio_url)
    lines = []
    for project in status.projects:
        store = stores.connected(project.project)
        report = store.read("report.json", ProjectReport)
        if report is None:
            continue
        boxes = (store.read("sync.json", SyncState) or SyncState()).task == DETECTION
        panel = found_panel(store.history(RoundEntry), report, boxes=boxes)
        lines += [Text(words) for words in found_lines(project.project, panel)]
    said = Text(f"as of {status.at.astimezone():%T}; Ctrl-C ends", "dim")
    return Group(cli_tables.status_table(status), *lines, said)


def found_lines(project_id: int, panel: FoundPanel) -> list[str]:
    """One line for all rare classes together, and one for each of several."""
    lines = []
    for curve in panel.curves:
        words = f"{sparkline(curve.found)} {curve.found[-1]} of {panel.total} labels"
        expected = curve.expected(panel.total)
        if expected is not None:
            words += f", random order {amount(expected[0])}"
        times = curve.times(panel.total)
        if times is not None:
            words += f", {amount(times)} times as many since label {curve.begun}"
        lines.append(f"project {project_id}, {curve.name or 'rare ones found'}: {words}")
    return lines
