"""What the repository itself promises: pinned packages, no registry addresses, safe ignores."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-label-studio.lock")
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]+\])?==(?P<version>[^ ;]+)")
# Written in pieces, so that this file is not its own first finding.
REGISTRY = re.compile(
    r"(py" + r"pi\.org|python" + r"hosted\.|/sim" + r"ple/|download\.py" + r"torch)"
)
INDEX_OPTION = re.compile(r"^\s*(--(extra-)?index-url|--find-links|-f|-i|--trusted-host)\b", re.M)
NAMED_BY_IGNORED_TEMPLATES = ("models", "data", "lib", "build", "env")


def _blocks(lock: str) -> list[str]:
    """The lock's entries, each with its hash lines."""
    text = (ROOT / lock).read_text()
    return [block for block in re.split(r"\n(?=[A-Za-z0-9])", text) if PIN.match(block)]


def _pins(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for block in _blocks(lock):
        match = PIN.match(block)
        assert match is not None
        found.setdefault(match["name"], set()).add(match["version"])
    return found


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout: nothing is tracked here")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_pinned_with_a_hash(lock: str) -> None:
    blocks = _blocks(lock)
    assert len(blocks) > 50
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
    # Nothing stands between the entries but hashes and comments.
    lines = (ROOT / lock).read_text().splitlines()
    strange = [
        line
        for line in lines
        if not PIN.match(line) and not line.startswith(("    #", "    --hash="))
    ]
    assert strange == []


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_name_no_place_to_fetch_from(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not INDEX_OPTION.search(text)


def test_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime, everything = _pins("requirements.lock"), _pins("requirements-dev.lock")
    for requirement in project["project"]["dependencies"]:
        assert re.split(r"[^A-Za-z0-9-]", requirement)[0] in runtime
    for group in project["dependency-groups"].values():
        for requirement in group:
            if isinstance(requirement, str):
                assert re.split(r"[^A-Za-z0-9-]", requirement)[0] in everything
    # What is tested is what is shipped.
    assert {name: everything.get(name) for name in runtime} == runtime
    assert {"hatchling"} <= runtime.keys()
    assert {"hatchling", "editables", "uv"} <= everything.keys()


def test_label_studio_is_the_version_the_protocol_was_read_from() -> None:
    assert _pins("requirements-label-studio.lock")["label-studio"] == {"1.23.2"}


def test_no_registry_address_in_any_tracked_file() -> None:
    found: list[str] = []
    for path in _tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found.extend(
            f"{path.relative_to(ROOT)}: {match.group()}" for match in REGISTRY.finditer(text)
        )
    assert found == []


def test_ignore_patterns_cannot_swallow_a_package() -> None:
    lines = (ROOT / ".gitignore").read_text().split()
    for line in lines:
        pattern = line.strip("/")
        if pattern in NAMED_BY_IGNORED_TEMPLATES:
            assert line.startswith("/"), f"{line!r} would ignore such a folder anywhere"
    assert _tracked()
    # And asked of git itself: every module of both packages can be added.
    modules = [
        str(p.relative_to(ROOT))
        for name in ("backend", "models", "demo")
        for p in (ROOT / name).rglob("*.py")
    ]
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ignored.returncode == 1, ignored.stdout or ignored.stderr


def test_the_image_gets_only_what_it_needs() -> None:
    patterns = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in patterns
    wanted = {line[2:] for line in patterns if line.startswith("!/")}
    copied = {
        word
        for line in (ROOT / "docker" / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert copied == wanted
    assert all((ROOT / name).exists() for name in copied)
