"""How the processes log: one line a record, to standard error.

Paths, host names, class names and what other servers say end up in records, and whoever writes
them must not be able to write a record of their own: a line break comes out as a backslash and an
n, other control characters likewise, and the lines of a traceback are set off by a bar.
"""

from __future__ import annotations

import logging
import logging.config
import re

from backend.settings import Settings

# Also the letters that end a line in Unicode, that turn the text around, and halves of pairs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BAR = "\n  | "
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
                "line": {
                    "()": LineFormatter,
                    "fmt": f"%(asctime)s {process} %(levelname)s %(name)s: %(message)s",
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"level": settings.log_level, "handlers": ["stderr"]},
            "loggers": {name: {"level": "WARNING"} for name in _QUIET},
        }
    )


class LineFormatter(logging.Formatter):
    """Formats each record as one line; a traceback follows it behind bars."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, and its traceback."""
        message, *traceback = self._parts(record)
        return _BAR.join([visible(message), *map(visible, traceback)])

    def _parts(self, record: logging.LogRecord) -> list[str]:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        parts = [self.formatMessage(record)]
        if record.exc_info:
            parts += self.formatException(record.exc_info).split("\n")
        if record.stack_info:
            parts += self.formatStack(record.stack_info).split("\n")
        return parts


def visible(text: str) -> str:
    """A text without control characters: each one as Python writes it."""
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)
