"""docker/install-packages: what it asks pip for, and what it leaves."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.containers.compose_file import ROOT

LOCK = ROOT / "requirements.lock"
# Makes an environment whose pip notes what it is asked for, and that has things to leave out.
PYTHON = """#!/bin/sh
mkdir -p "$3/bin" && cp "$(dirname "$0")/pip" "$3/bin/pip"
mkdir -p "$3/lib/python3.12/site-packages" && cd "$3/lib/python3.12/site-packages"
for kept in torch/lib pandas/core nvidia/cudnn/lib numpy/_core/tests; do
  mkdir -p "$kept" && touch "$kept/a.so"
done
for gone in torch/include torch/share pandas/tests/io nvidia/cudnn/include; do
  mkdir -p "$gone" && touch "$gone/a.h"
done
touch torch/lib/big.a
"""
KEPT = ("torch/lib", "pandas/core", "nvidia/cudnn/lib", "numpy/_core/tests")
PIP = """#!/bin/sh
echo "$@" >>"$NOTES/said"
for file in "$@"; do case $file in *packages.txt) cp "$file" "$NOTES/packages.txt" ;; esac; done
case "$*" in *+cpu*) exit "${CPU_BUILDS:-0}" ;; esac
"""


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    for name, text in (("python3", PYTHON), ("pip", PIP)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def install(notes: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{notes}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", str(ROOT / "docker" / "install-packages"), str(LOCK), str(notes / "made"),
         *arguments],
        env={"PATH": path, "NOTES": str(notes), **environment},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


def entries(text: str) -> dict[str, str]:
    """Name -> everything of it, hashes included."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    return {re.split(r"[\[=]", block)[0]: block for block in blocks}


def test_cuda_takes_the_lock_but_triton(notes: Path) -> None:
    assert install(notes, "cuda").returncode == 0
    (said,) = (notes / "said").read_text().splitlines()
    assert "--no-deps --require-hashes -r " in said
    locked = entries(LOCK.read_text())
    assert "triton" in locked
    assert entries((notes / "packages.txt").read_text()) == {
        name: block for name, block in locked.items() if name != "triton"
    }


def test_cpu_takes_the_same_versions_of_cpu_builds(notes: Path) -> None:
    assert install(notes, "cpu", "https://builds.test/cpu").returncode == 0
    asked = entries((notes / "packages.txt").read_text())
    locked = entries(LOCK.read_text())
    gone = {"torch", "torchvision", "triton"}
    gone |= {name for name in locked if name.startswith(("nvidia-", "cuda-"))}
    assert len(gone) > 15
    assert asked == {name: block for name, block in locked.items() if name not in gone}
    second = (notes / "said").read_text().splitlines()[1]
    versions = {name: locked[name].split("==")[1].split()[0] for name in ("torch", "torchvision")}
    assert second.endswith(
        f"--no-deps --index-url https://builds.test/cpu torch=={versions['torch']}+cpu "
        f"torchvision=={versions['torchvision']}+cpu"
    )


def test_without_cpu_builds_it_says_what_to_do(notes: Path) -> None:
    done = install(notes, "cpu", CPU_BUILDS="1")
    assert done.returncode == 1
    assert "--build-arg TORCH_INDEX=" in done.stderr
    assert "--index-url" not in (notes / "said").read_text()
    done = install(notes, "rocm")
    assert done.returncode == 2
    assert "found VARIANT=rocm, expected cuda or cpu" in done.stderr


def test_what_never_runs_is_left_out(notes: Path) -> None:
    install(notes, "cuda")
    made = notes / "made"
    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    packages = "lib/python3.12/site-packages"
    assert files == {
        "bin/pip",
        *(f"{packages}/{kept}/a.so" for kept in KEPT),
    }
