"""What a route reaches the rest of the service by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app

from backend.jobs import Jobs
from backend.metrics import Metrics
from backend.scoring import Scoring
from backend.settings import Settings

_EXTENSION = "rarefirst"


@dataclass(frozen=True)
class Services:
    """What routes work with."""

    settings: Settings
    jobs: Jobs
    scoring: Scoring
    metrics: Metrics


def install(app: Flask, made: Services) -> None:
    """Give an app its services."""
    app.extensions[_EXTENSION] = made


def services() -> Services:
    """The services of the app that answers the current request."""
    return cast(Services, current_app.extensions[_EXTENSION])
