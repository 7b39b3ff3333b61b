""".ci/find-browser: a fitting pair is found, fetched where that is allowed, or asked for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "find-browser"
TOOLS = ["bash", "cat", "chmod", "cut", "env", "grep", "head", "mktemp", "rm", "sleep", "tail"]


class Machine:
    """A search path of its own, with programs that only say what the test wants."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.calls = folder / "calls"
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.bin / tool).symlink_to(found)

    def add(self, name: str, *lines: str) -> Path:
        path = self.bin / name
        path.write_text("\n".join(["#!/usr/bin/env bash", *lines, ""]))
        path.chmod(0o755)
        return path

    def add_apt(self, *, works: bool, user: int = 0) -> None:
        """An apt-get that notes how it is called and, where it works, leaves both programs."""
        self.add("id", f"echo {user}")
        made = [
            f"echo 'echo \"{says}\"' > {self.bin}/{name}; chmod 755 {self.bin}/{name}"
            for name, says in (("chromium", "Chromium 150.0.1"), ("chromedriver", "CD 150.0.1"))
        ]
        self.add(
            "apt-get",
            f'echo "$@" >> {self.calls}',
            'case "$*" in *update*) exit 0 ;; esac',
            *(
                made
                if works
                else ['echo "E: Unable to locate package chromium-driver"', "exit 100"]
            ),
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / "bash", SCRIPT, *arguments],
            env={"PATH": str(self.bin), "RETRY_PAUSE_S": "0"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("chromium", "Chromium 150.0.7871.100 built on Debian GNU/Linux 12 (bookworm)"),
        ("chromium-browser", "Chromium 150.0.7871.100 snap"),
        ("google-chrome", "Google Chrome 150.0.7871.100 "),
    ],
)
def test_a_fitting_pair_is_printed(machine: Machine, name: str, says: str) -> None:
    browser = machine.add(name, f"echo '{says}'")
    driver = machine.add("chromedriver", "echo 'ChromeDriver 150.0.7871.46 (0123abc)'")
    done = machine.run("--install")
    assert (done.returncode, done.stdout) == (0, f"{browser}\n{driver}\n")


def test_a_script_that_only_names_another_package_is_no_browser(machine: Machine) -> None:
    machine.add("chromium-browser", "echo 'requires the chromium snap' >&2", "exit 1")
    browser = machine.add("google-chrome", "echo 'Google Chrome 149.0.1'")
    machine.add("chromedriver", "echo 'ChromeDriver 149.0.2'")
    assert machine.run().stdout.startswith(f"{browser}\n")


def test_what_is_missing_is_said_with_the_way_out(machine: Machine) -> None:
    done = machine.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt install chromium chromium-driver" in done.stderr
    assert "make test BROWSER=none" in done.stderr


def test_another_version_of_the_driver_is_refused(machine: Machine) -> None:
    machine.add("chromium", "echo 'Chromium 150.0.1'")
    machine.add("chromedriver", "echo 'ChromeDriver 149.0.1'")
    done = machine.run()
    assert done.returncode == 1
    assert "of version 149" in done.stderr
    assert "of version 150" in done.stderr


def test_both_are_installed_by_root(machine: Machine) -> None:
    machine.add_apt(works=True)
    done = machine.run("--install")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{machine.bin}/chromium\n{machine.bin}/chromedriver\n"
    update, install = machine.calls.read_text().splitlines()
    assert update.endswith(" update")
    assert install.endswith("install --yes --no-install-recommends chromium chromium-driver")


def test_nothing_is_installed_without_being_asked(machine: Machine) -> None:
    machine.add_apt(works=True)
    assert machine.run().returncode == 1
    assert not machine.calls.exists()


def test_apt_is_tried_three_times_and_its_words_are_shown(machine: Machine) -> None:
    machine.add_apt(works=False)
    done = machine.run("--install")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("E: Unable to locate package") == 3
    assert "make test BROWSER=none" in done.stderr
    assert machine.calls.read_text().count("install --yes") == 3


def test_a_user_who_may_not_install_is_told_so(machine: Machine) -> None:
    machine.add_apt(works=True, user=1000)
    machine.add("sudo", "exit 1")
    done = machine.run("--install")
    assert done.returncode == 1
    assert "needs root" in done.stderr
    assert not machine.calls.exists()


def test_sudo_without_a_password_is_used(machine: Machine) -> None:
    machine.add_apt(works=True, user=1000)
    machine.add("sudo", 'shift; exec "$@"')
    machine.add("true", "exit 0")
    done = machine.run("--install")
    assert done.returncode == 0, done.stderr
    assert machine.calls.exists()
