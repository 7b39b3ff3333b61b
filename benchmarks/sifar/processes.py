"""Worker processes with one thread each, which end when the run is killed."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait

import torch


def single_thread_variables() -> None:
    """Numerical libraries read these when they are loaded, so before a worker starts."""
    os.environ["OMP_NUM_THREADS"] = "1"


def start_worker() -> None:
    """The first thing that a worker does."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed run leaves no process behind that computes on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
