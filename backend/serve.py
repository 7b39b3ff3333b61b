"""`rarefirst serve`: web and worker with one command."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping

from backend.data_format import open_data
from backend.files import write_atomically
from backend.settings import Settings
from backend.supervisor import Supervisor

logger = logging.getLogger(__name__)

# A server that was just killed holds its port for a moment.
_PORT_PATIENCE_S = 3.0

WEB = (
    sys.executable,
    "-m",
    "gunicorn",
    "-c",
    "python:backend.gunicorn_conf",
    "backend.wsgi:app",
)
WORKER = (sys.executable, "-m", "backend.cli", "worker")


class PortTaken(Exception):  # noqa: N818  (says what happened)
    """Another program listens on our port."""


def check_port(host: str, port: int, *, patience_s: float = _PORT_PATIENCE_S) -> None:
    """Find out now, with a clear sentence, whether the port is free.

    Raises:
        PortTaken: saying how to choose another.
    """
    deadline = time.monotonic() + patience_s
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise PortTaken(
                        f"cannot listen on {host}:{port}: {error.strerror}; "
                        "set RAREFIRST_HOST and PORT"
                    ) from error
                if time.monotonic() >= deadline:
                    raise PortTaken(
                        f"port {port} is taken by another program; stop it or choose another "
                        "port with PORT=..."
                    ) from error
        time.sleep(0.2)


def serve(settings: Settings) -> None:
    """Run web and worker until SIGTERM or SIGINT.

    Raises:
        PortTaken, DataFormatRefused: before anything is started.
    """
    check_port(settings.host, settings.port)
    open_data(settings.data_dir, create=True)
    if settings.missing:
        logger.warning(
            "%s is not set: the web part answers, nothing is read or published",
            " and ".join(settings.missing),
        )
    pids_path = settings.data_dir / "serve.json"

    def note(pids: Mapping[str, int | None]) -> None:
        try:
            write_atomically(pids_path, json.dumps(pids))
        except OSError as error:
            # A disk that is full must not end those who look after the processes.
            logger.error("%s cannot be written: %s", pids_path, error.strerror)

    logger.info("serving on http://%s:%d, pid %d", settings.host, settings.port, os.getpid())
    try:
        Supervisor({"web": WEB, "worker": WORKER}, on_change=note).run()
    finally:
        with contextlib.suppress(OSError):  # of a disk that may only be read
            pids_path.unlink(missing_ok=True)
