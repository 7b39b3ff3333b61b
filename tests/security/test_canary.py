"""The plugin that searches all output of the suite: what leaks is found, and named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.canary import VARIABLE
from tests.security.conftest import ROOT

PLANTED = "canary-planted-4f1d"
START = f"""
import logging, os, subprocess, sys, warnings
import pytest
from tests.canary import CANARIES, secret, watch_login
SECRET = CANARIES.watch({PLANTED!r}, "the token")
"""
#: Ways to let it out: each is a test of its own.
LEAKS = {
    "prints": "print('x', SECRET)",
    "complains": "print(SECRET, file=sys.stderr)",
    "logs": "logging.getLogger('x').warning('with %s', SECRET)",
    "raises": "raise ValueError(SECRET)",
    "child": "subprocess.run([sys.executable, '-c', f'print({SECRET!r})'], capture_output=True)",
    "inherits": "subprocess.run([sys.executable, '-c', f'print({SECRET!r})'])",
    "environment": "print(dict(os.environ))",
    "header": "watch_login('u', SECRET, 'a login'); print('dTpjYW5hcnktcGxhbnRlZC00ZjFk')",
}
FILES = """
def test_file(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "service.log").write_text("x" + SECRET)

@pytest.fixture(scope="session")
def service(tmp_path_factory):
    log = tmp_path_factory.mktemp("service") / "service.log"
    yield log
    log.write_text("last words: " + SECRET)

def test_service(service):
    assert service.name
"""


def run(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A session of pytest with the plugin and one file of tests."""
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = (
        "1"  # none but xdist is needed, and some are slow
    )
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.canary", "-p", "no:cacheprovider", "-q",
         "-rA", f"--basetemp={folder / 'temporary'}", *options, "test_it.py"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "two at a time"]
)
def test_every_way_to_let_a_secret_out_fails_by_name(
    tmp_path_factory: pytest.TempPathFactory, options: tuple[str, ...]
) -> None:
    folder = tmp_path_factory.mktemp("leaks")
    tests = "".join(f"\ndef test_{name}():\n    {code}\n" for name, code in LEAKS.items())
    done = run(folder, START + tests + FILES, *options)
    assert done.returncode == 1, done.stdout
    failed = {line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))}
    for name in (*LEAKS, "file"):
        assert any(f"::test_{name}" in line for line in failed), (name, done.stdout)
        assert f"test_{name} lets secrets out:" in done.stdout
    assert "secrets were left behind" in done.stdout
    assert "the token in Captured stdout call" in done.stdout
    assert "the token in Captured log call" in done.stdout
    assert "a secret of the environment in Captured stdout call" in done.stdout
    assert "a login in a header in" in done.stdout
    assert "service.log" in done.stdout
    assert PLANTED not in done.stdout + done.stderr  # what it says of it does not say it again
    for path in (folder / "temporary").rglob("*.log"):
        path.unlink()


def test_what_lets_nothing_out_passes(tmp_path: Path) -> None:
    quiet = """
def test_quiet(tmp_path):
    print("a word", SECRET[:10])
    (tmp_path / "settings.log").write_text("the token is set")
    assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True).stdout

def test_short():
    with pytest.raises(ValueError, match="expected 10 or more"):
        CANARIES.watch("short", "a word")
    assert secret("another") != secret("another")
"""
    done = run(tmp_path, START + quiet)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_the_plugin_searches_this_very_session(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.hasplugin("tests.canary")
    assert os.environ[VARIABLE].startswith("canary-")
