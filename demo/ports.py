"""Ports: find a free one, or say in one sentence that the wanted one is taken."""

from __future__ import annotations

import socket


class PortTakenError(RuntimeError):
    """Another program listens where we were told to."""


def free_port() -> int:
    """A TCP port of this machine that nobody listens on right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def require_free_port(port: int, *, purpose: str, variable: str) -> int:
    """The port itself if nobody listens there; 0 asks for any free one.

    Args:
        port: 0 to 65535.
        purpose: who wants it, for the message.
        variable: the make variable that chooses another one, for the message.

    Raises:
        PortTakenError: somebody listens on it already.
    """
    if port == 0:
        return free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            raise PortTakenError(
                f"port {port}, wanted for {purpose}, is occupied ({error.strerror}). Stop the "
                f"program that listens there or choose another: make demo {variable}={port + 1}"
            ) from error
    return port
