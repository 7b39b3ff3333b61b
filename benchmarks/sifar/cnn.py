"""The frozen model CNN: the released network, trained on the labels with crops and flips.

Source: the classifier of MMM22's released code: Adam 1e-3, batch 64, 20 epochs, cross-entropy
(docs/methods.md, section 15). Half precision (bfloat16) where the matrix products are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.sifar.pictures import CLASSES, Pictures, save_array
from benchmarks.sifar.split import make_split
from benchmarks.stage import say
from models.files import write_text
from models.networks.cnn4 import Cnn4

EPOCHS, BATCH, PAD, LEARNING_RATE = 20, 64, 4, 1e-3


@dataclass(frozen=True)
class CnnKey:
    """Which training of the network.

    Attributes:
        tail: the tail classes, the rarer first.
        seed: of the draw of its labels, its initialisation and its batches.
        blind: whether it never saw the tail classes: an output for each of the others.
    """

    tail: tuple[int, int]
    seed: int
    blind: bool = False

    @property
    def name(self) -> str:
        """Name of its folder."""
        classes = "-".join(CLASSES[k] for k in self.tail)
        return f"cnn-{classes}-{self.seed}{'-blind' if self.blind else ''}"

    @property
    def outputs(self) -> list[int]:
        """The class of each output."""
        return [k for k in range(len(CLASSES)) if not (self.blind and k in self.tail)]


@dataclass(frozen=True)
class CnnReport:
    """How well it was trained.

    Attributes:
        balanced_accuracy: mean recall of all ten classes on the balanced test.
        recall: of each class.
        train_accuracy: of the last epoch, on augmented pictures.
    """

    balanced_accuracy: float
    recall: list[float]
    train_accuracy: float


def frozen_cnn(
    pictures: Pictures, key: CnnKey, cache: Path
) -> tuple[NDArray[np.float16], NDArray[np.float32], CnnReport]:
    """Train, or read what an earlier run trained.

    Returns: (50,000, 256) features, (50,000, outputs) logits, and how well it does.
    """
    folder = cache / key.name
    report = folder / "report.json"
    if not report.exists():
        folder.mkdir(parents=True, exist_ok=True)
        network, accuracy = _train(pictures, key, folder)
        features, logits = _outputs(network, pictures)
        save_array(folder / "features.npy", features)
        save_array(folder / "logits.npy", logits)
        found = _report(logits, pictures, key, accuracy)
        write_text(report, json.dumps(asdict(found), indent=1) + "\n")
        say(f"{key.name}: balanced test accuracy {found.balanced_accuracy:.3f}")
    return (
        np.load(folder / "features.npy", mmap_mode="r"),
        np.load(folder / "logits.npy", mmap_mode="r"),
        CnnReport(**json.loads(report.read_text())),
    )


def _train(pictures: Pictures, key: CnnKey, folder: Path) -> tuple[Cnn4, float]:
    checkpoint = folder / "checkpoint.safetensors"
    torch.manual_seed(key.seed)
    network = Cnn4(len(key.outputs)).to(memory_format=torch.channels_last)
    if checkpoint.exists():
        state = load_file(checkpoint)
        accuracy = float(state.pop("accuracy"))
        network.load_state_dict(state)
        return network, accuracy
    rows = make_split(key.tail, seed=key.seed).labeled
    rows = rows[np.isin(pictures.targets[rows], key.outputs)]
    padded = F.pad(_tensor(pictures, rows), (PAD,) * 4)
    place = {k: i for i, k in enumerate(key.outputs)}
    targets = torch.tensor([place[int(k)] for k in pictures.targets[rows]])
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    draw = torch.Generator().manual_seed(key.seed)
    accuracy = 0.0
    network.train()
    for epoch in range(EPOCHS):
        right = 0
        order = torch.randperm(len(rows), generator=draw)
        for batch in torch.split(order, BATCH):
            images = _augment(padded[batch], draw).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = network(images).float()
            loss = F.cross_entropy(logits, targets[batch])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimiser.step()
            right += int((logits.argmax(1) == targets[batch]).sum())
        accuracy = right / len(rows)
        say(f"{key.name}: epoch {epoch + 1} of {EPOCHS}, training accuracy {accuracy:.3f}")
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_state(checkpoint, {**state, "accuracy": torch.tensor(accuracy)})
    return network, accuracy


def save_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors so that a kill leaves either nothing or all of them."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(dict(state), temporary)
    temporary.replace(path)


def _tensor(pictures: Pictures, rows: NDArray[np.int64]) -> Tensor:
    """(N, 3, 32, 32) in [-1, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(pictures.pixels[rows]))
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _augment(padded: Tensor, draw: torch.Generator) -> Tensor:
    """A random 32x32 of each padded picture, half of them mirrored."""
    count = len(padded)
    side = padded.shape[-1] - 2 * PAD
    top, left = (torch.randint(0, 2 * PAD + 1, (count, 1), generator=draw) for _ in range(2))
    flip = torch.rand((count, 1), generator=draw) < 0.5
    steps = torch.arange(side)
    down = top + steps
    across = left + torch.where(flip, steps.flip(0), steps)
    which = torch.arange(count)[:, None, None, None]
    channel = torch.arange(padded.shape[1])[None, :, None, None]
    return padded[which, channel, down[:, None, :, None], across[:, None, None, :]]


def _outputs(network: Cnn4, pictures: Pictures) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    network.eval()
    features, logits = [], []
    with torch.inference_mode():
        for rows in np.array_split(np.arange(len(pictures.targets)), 100):
            hidden = network.features(_tensor(pictures, rows))
            features.append(hidden.half().numpy())
            logits.append(network.classifier(hidden).numpy())
    return np.concatenate(features), np.concatenate(logits)


def _report(
    logits: NDArray[np.float32], pictures: Pictures, key: CnnKey, accuracy: float
) -> CnnReport:
    rows = make_split(key.tail, seed=key.seed).test
    predicted = np.asarray(key.outputs)[logits[rows].argmax(axis=1)]
    truth = pictures.targets[rows]
    recall = [float((predicted[truth == k] == k).mean()) for k in range(len(CLASSES))]
    return CnnReport(float(np.mean(recall)), recall, accuracy)
