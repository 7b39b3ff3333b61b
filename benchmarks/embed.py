"""How close embedding comes to its limit: decoding and the model, nothing lost between them.

Embeds 640x480 JPEG files with ResNet-18 at 224 px. On the same cores and in the same run it
measures decoding alone (d images/s) and the model alone (f images/s); a pipeline that loses
nothing between the two runs at 1 / (1/d + 1/f). Prints JSON; `ratio` is ours over that limit.
`met` says whether it is enough, and the exit status is 1 if not.

    .venv/bin/python -m benchmarks.embed [--images 512] [--repeats 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from backend.embedding import embed
from benchmarks.stage import conclude
from models.backbones import BackboneSpec, load_backbone
from models.backbones.images import open_image

BATCH = 64
MAX_PIXELS = 100_000_000
MUST_REACH = 0.85


def write_images(folder: Path, count: int) -> list[Path]:
    """JPEG files of smooth colour fields with texture, about as large as photographs."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        field = np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC))
        noisy = field.astype(np.int16) + rng.integers(-12, 13, field.shape, dtype=np.int16)
        path = folder / f"{i}.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    backbone = load_backbone(
        BackboneSpec(architecture="resnet18", weights="none"), device=arguments.device
    )
    with tempfile.TemporaryDirectory() as name:
        paths = write_images(Path(name), arguments.images)

        def prepare(i: int) -> torch.Tensor:
            image = open_image(paths[i].read_bytes(), max_pixels=MAX_PIXELS)
            return backbone.preprocess(image)

        def decode_only() -> None:
            with ThreadPoolExecutor(arguments.threads) as pool:
                for _ in pool.map(prepare, range(len(paths)), chunksize=1):
                    pass

        batch = torch.stack([prepare(i) for i in range(BATCH)])

        def forward_only() -> None:
            for _ in range(0, len(paths), BATCH):
                backbone.embed(batch)

        def pipeline() -> None:
            result = embed(
                backbone,
                range(len(paths)),
                lambda i: paths[i].read_bytes(),
                max_pixels=MAX_PIXELS,
                batch=BATCH,
                threads=arguments.threads,
            )
            assert len(result.ids) == len(paths)

        rounds = []
        forward_only()
        for _ in range(arguments.repeats):
            seconds = {}
            for label, run in (
                ("decode", decode_only),
                ("forward", forward_only),
                ("embed", pipeline),
            ):
                began = time.perf_counter()
                run()
                seconds[label] = time.perf_counter() - began
            rounds.append(seconds)
    rates = {
        label: [len(paths) / seconds[label] for seconds in rounds]
        for label in ("decode", "forward", "embed")
    }
    limits = [1 / (1 / d + 1 / f) for d, f in zip(rates["decode"], rates["forward"], strict=True)]
    ratios = [ours / limit for ours, limit in zip(rates["embed"], limits, strict=True)]
    ratio = statistics.median(ratios)
    conclude(
        {
            "benchmark": "embed",
            "images": len(paths),
            "device": arguments.device,
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "images_per_s": {k: round(statistics.median(v), 1) for k, v in rates.items()},
            "limit_images_per_s": round(statistics.median(limits), 1),
            "ratio": round(ratio, 3),
            "ratios": [round(one, 3) for one in ratios],
            "must_reach": MUST_REACH,
        },
        met=ratio >= MUST_REACH,
    )


if __name__ == "__main__":
    main()
