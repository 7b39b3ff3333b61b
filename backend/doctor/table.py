"""Every check, in the order in which they are made. A new one is a function and a line here.

`needs` names checks without whose success it could only repeat what they said: it is skipped then,
and the report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from backend.doctor import connection, images, label_studio, machine, processes, project
from backend.doctor.facts import ProjectFacts, ServiceFacts
from backend.doctor.finding import Finding

Facts = TypeVar("Facts")


@dataclass(frozen=True)
class Check(Generic[Facts]):
    """One check.

    Attributes:
        name: unique, for `needs` and the report.
        look: what it does.
        needs: checks that must not have found an error.
    """

    name: str
    look: Callable[[Facts], Iterable[Finding]]
    needs: tuple[str, ...] = ()


SERVICE: tuple[Check[ServiceFacts], ...] = (
    Check("settings", machine.settings),
    Check("password", machine.password),
    Check("data", machine.data_dir),
    Check("disk", machine.disk, ("data",)),
    Check("device", machine.device),
    Check("queue", processes.queue, ("data",)),
    Check("worker", processes.worker, ("data",)),
    Check("web", processes.web, ("data",)),
    Check("label studio", label_studio.address, ("settings",)),
    Check("token", label_studio.token, ("label studio",)),
    Check("version", label_studio.version, ("label studio",)),
    Check("clock", label_studio.clock, ("label studio",)),
)

PROJECT: tuple[Check[ProjectFacts], ...] = (
    Check("project", connection.exists, ("token", "data")),
    Check("connection", connection.connected, ("project",)),
    Check("reached", connection.reached, ("connection", "web")),
    Check("webhook", connection.webhook, ("connection", "reached")),
    Check("events", connection.events, ("webhook", "reached")),
    Check("sampling", project.sampling, ("connection",)),
    Check("predictions", project.predictions, ("connection",)),
    Check("overlap", project.overlap, ("connection",)),
    Check("label config", project.label_config, ("project",)),
    Check("model version", project.model_version, ("connection", "predictions", "label config")),
    Check("tab", project.tab, ("connection",)),
    Check("own settings", project.own_settings, ("connection",)),
    Check("labels", project.labels, ("connection", "label config")),
    Check("loop", project.loop, ("connection", "label config", "worker")),
    Check("images", images.sample, ("connection", "label config")),
    Check("failed images", images.failures, ("connection", "label config", "images")),
)
