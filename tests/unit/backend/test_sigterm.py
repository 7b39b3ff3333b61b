"""SIGTERM on a real worker: it is gone within ten seconds, with code 0, and all is whole.

The moments are those of `benchmarks.sigterm`, which is where more of them are sent.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

import pytest

from benchmarks import sigterm
from benchmarks.load import stand_in_server
from benchmarks.stage import stage

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def this_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes run the sources that are tested, wherever they were installed from."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.slow
def test_a_worker_in_the_middle_of_something(tmp_path: Path) -> None:
    extra = {**sigterm.EXTRA, "RAREFIRST_BOOTSTRAP_MIN_LABELS": "100000"}
    with stage(extra, make_server=partial(stand_in_server, tasks=600)) as on:
        on.backend.connect(1)
        on.backend.stop()
        drawn = sigterm.Moment(process="worker", aimed="sync")
        sigterm.moment_of(on.backend, on.data_dir, tmp_path / "log", drawn, 0.2)
    assert (drawn.code, drawn.faults) == (0, []), (tmp_path / "log").read_text()
    assert drawn.seconds < sigterm.LIMIT_S


@pytest.mark.slow
def test_at_random_moments_of_every_action() -> None:
    result, met = sigterm.measure(argparse.Namespace(moments=14, seed=3))
    assert met, result
