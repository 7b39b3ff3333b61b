"""A pytest plugin: no output of the suite holds a secret that is in use.

Tests make their tokens and passwords here, or have them watched. After each phase of each test its
captured output, its traceback, what its subprocesses printed and, in the end, what lies in its
folder is searched for all of them; when the session ends, the folders of longer-lived services,
with their logs. What is found fails the test, by the name of the secret, never by its value.

One more secret stands in the environment, which every process inherits: who prints or keeps the
whole of it is found, too.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

VARIABLE: Final = "CANARY_IN_THE_ENVIRONMENT"
_SHORTEST: Final = 10  # a shorter one would be found in what has nothing to do with it
_LARGEST: Final = 8 << 20
_SUFFIXES: Final = frozenset(
    {"", ".log", ".txt", ".json", ".jsonl", ".out", ".err", ".html", ".csv", ".pid"}
)
# Label Studio keeps its users' tokens where it keeps everything else; a folder of secrets is one.
_NOT_OURS: Final = frozenset({"label_studio.sqlite3", "media", ".venv", "export", "secrets"})


class Canaries:
    """Secrets by value, each with a name that may be said aloud."""

    def __init__(self) -> None:
        self._names: dict[bytes, str] = {}
        self._pattern: re.Pattern[bytes] | None = None

    def watch(self, value: str, name: str) -> str:
        """Search for a secret from now on. Returns: it."""
        if len(value) < _SHORTEST:
            raise ValueError(f"{name} has {len(value)} letters, expected {_SHORTEST} or more")
        self._names[value.encode()] = name
        self._pattern = re.compile(b"|".join(map(re.escape, self._names)))
        return value

    def found(self, output: str | bytes) -> list[str]:
        """Names of the secrets that stand in an output."""
        if self._pattern is None or not output:
            return []
        raw = output.encode(errors="replace") if isinstance(output, str) else output
        return sorted({self._names[one] for one in self._pattern.findall(raw)})

    def hidden(self, output: str) -> str:
        """An output with the secrets' names in their place."""
        if not self.found(output) or self._pattern is None:
            return output
        raw = output.encode(errors="replace")
        return self._pattern.sub(lambda one: f"[{self._names[one[0]]}]".encode(), raw).decode()


CANARIES: Final = Canaries()
_printed: Final[list[str]] = []
_searched: Final[set[Path]] = set()


def secret(name: str, *, like: str = "canary") -> str:
    """A new secret, watched; another one in each process."""
    return CANARIES.watch(f"{like}-{secrets.token_hex(12)}", name)


def watch_login(user: str, password: str, name: str) -> None:
    """Watch a password, also as it stands in a header."""
    CANARIES.watch(password, name)
    CANARIES.watch(base64.b64encode(f"{user}:{password}".encode()).decode(), f"{name} in a header")


def found_below(folder: Path) -> list[str]:
    """Secrets in the files below a folder, with the files' names."""
    leaks = []
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        folders[:] = [
            one for one in folders if one not in _NOT_OURS and here / one not in _searched
        ]
        for name in files:
            path = here / name
            if path.suffix not in _SUFFIXES or name in _NOT_OURS or path.is_symlink():
                continue
            try:
                if path.stat().st_size <= _LARGEST and path.is_file():
                    leaks += [f"{one} in {path}" for one in CANARIES.found(path.read_bytes())]
            except OSError:
                continue  # gone, or of a test that takes its rights away
    return leaks


def pytest_configure(config: pytest.Config) -> None:
    """Put a secret into the environment; look at what subprocesses print."""
    os.environ.setdefault(VARIABLE, f"canary-{secrets.token_hex(12)}")
    CANARIES.watch(os.environ[VARIABLE], "a secret of the environment")
    communicate = subprocess.Popen.communicate

    def noting(self, *arguments, **named):  # type: ignore[no-untyped-def]  # as the one it stands for
        output = communicate(self, *arguments, **named)
        program = self.args if isinstance(self.args, str) else self.args[0]
        for one in output:
            _printed.extend(f"{name} in what {program} printed" for name in CANARIES.found(one))
        return output

    subprocess.Popen.communicate = noting  # type: ignore[method-assign]
    config.add_cleanup(lambda: setattr(subprocess.Popen, "communicate", communicate))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what leaked, and say what and where in place of what was said."""
    report = yield
    leaks = [*_printed]
    _printed.clear()
    for name, text in report.sections:
        leaks += [f"{one} in {name}" for one in CANARIES.found(text)]
    if report.longrepr is not None:
        leaks += [f"{one} in the report" for one in CANARIES.found(str(report.longrepr))]
    if report.when == "teardown":
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        if isinstance(folder, Path):
            leaks += found_below(folder)
            _searched.add(folder)
    if leaks:
        report.sections = [(name, CANARIES.hidden(text)) for name, text in report.sections]
        was = CANARIES.hidden(str(report.longrepr)) if report.longrepr is not None else ""
        report.outcome = "failed"
        lines = "\n".join(f"  {leak}" for leak in dict.fromkeys(leaks))
        report.longrepr = f"{item.nodeid} lets secrets out:\n{lines}\n{was}"
        item._report_sections = []  # type: ignore[attr-defined]  # else later phases say it again
    return report


@pytest.fixture(scope="session", autouse=True)
def _no_secret_stays_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Made before, and so ended after, every service that outlives a test: its logs are whole."""
    yield
    leaks = found_below(tmp_path_factory.getbasetemp())
    if leaks:
        pytest.fail("secrets were left behind:\n" + "\n".join(f"  {one}" for one in leaks))
