"""How the processes log: one line a record, to standard error."""

from __future__ import annotations

import logging
import logging.config

from backend.settings import Settings

_QUIET = ("huey", "urllib3", "httpx", "PIL", "prometheus_client")


def configure_logging(settings: Settings, process: str) -> None:
    """Send the log of this process to standard error.

    Args:
        settings: its ``log_level``.
        process: the name in front of each line, such as ``web``.
    """
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "line": {"format": f"%(asctime)s {process} %(levelname)s %(name)s: %(message)s"}
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"level": settings.log_level, "handlers": ["stderr"]},
            "loggers": {name: {"level": "WARNING"} for name in _QUIET},
        }
    )
