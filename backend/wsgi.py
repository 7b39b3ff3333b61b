"""What gunicorn serves: one application a process, made after the fork."""

from __future__ import annotations

from backend.app import create_app
from backend.heap import share_heaps
from backend.jobs import Jobs
from backend.logs import configure_logging
from backend.settings import Settings

share_heaps()
settings = Settings()
configure_logging(settings, "web")
app = create_app(settings, Jobs(settings))
