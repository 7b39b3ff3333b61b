"""Detection: refit and rescore of 300 images from cached detections, and one image judged live.

    .venv/bin/python -m benchmarks.detection_speed

Limits: 2 s for fit and order of 300 images; 1.5 s for what /predict does with one new image of 320
px: fetched bytes to rarity and boxes, on two cores.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from backend.judging import Judge
from benchmarks.stage import conclude, say
from demo.shapes import CLASSES, RARE, draw_shapes
from models.backbones.detector import DetectorSpec, load_detector
from models.config import DetectorTraining, MinerConfig
from models.recipes.box_set import BoxSet
from models.recipes.fit_detection_miner import LabeledImages, fit_detection_miner
from models.recipes.train_detector import fit_detector
from models.tasks.base import DETECTION, task_of
from models.types import ClassSpace, Examples

IMAGES, LABELED, SIDE = 300, 100, 320
LIMITS_S = {"refit_and_order": 2.0, "one_image": 1.5}
ROUNDS = 7


def main() -> None:
    """Measure."""
    torch.set_num_threads(2)
    shapes = draw_shapes(0, seed_pictures=LABELED, pool_size=IMAGES - LABELED, rare_in_pool=20)
    drawn = (*shapes.seeds, *shapes.pool)
    spec = DetectorSpec(
        architecture="efficientnet_lite0", weights="DEFAULT", class_names=CLASSES, input_size=SIDE
    )
    detector = load_detector(spec)
    pixels = torch.stack([detector.pixels(Image.open(io.BytesIO(p.content))) for p in drawn])
    boxes = tuple(picture.boxes for picture in drawn)
    with tempfile.TemporaryDirectory() as name:
        say("a short training, so that there is something to detect")
        fit_detector(
            detector,
            BoxSet(pixels[:LABELED], boxes[:LABELED], CLASSES),
            config=DetectorTraining(steps=60),
            run_dir=Path(name),
            seed=0,
        )
    say("embedding")
    features, said = [], []
    for start in range(0, IMAGES, 16):
        found = detector.embed(detector.scaled(pixels[start : start + 16]))
        features.append(found[0].astype(np.float16))
        said.append(found[1])
    rows = Examples(np.arange(IMAGES), np.concatenate(features), np.concatenate(said))
    labeled = LabeledImages(rows.take(np.arange(LABELED)), boxes[:LABELED])
    pool = np.arange(LABELED, IMAGES)
    tail = tuple(CLASSES.index(name) for name in RARE)
    refits, judged = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        miner = fit_detection_miner(
            labeled,
            rows.take(pool),
            classes=ClassSpace(CLASSES, tail),
            head=CLASSES,
            config=MinerConfig(),
            seed=0,
        )
        miner.rescore(rows, pool, budget=len(pool), seed=0)
        refits.append(time.perf_counter() - began)
    judge = Judge(
        version="v0001",
        classes=CLASSES,
        tail=RARE,
        backbone=detector,
        miner=miner,
        task=task_of(DETECTION),
    )
    for number in range(ROUNDS):
        began = time.perf_counter()
        one = judge.judge(
            [number],
            lambda row: drawn[LABELED + row].content,
            max_pixels=10**8,
            batch=16,
            threads=2,
        )
        judged.append(time.perf_counter() - began)
        if one.judgement is None or one.judgement.boxes is None:
            raise RuntimeError(f"nothing was judged: {one.failures}")
    found_s = {
        "refit_and_order": statistics.median(refits),
        "one_image": statistics.median(judged),
    }
    conclude(
        {
            "benchmark": "detection_speed",
            "images": IMAGES,
            "labeled": LABELED,
            "input_px": SIDE,
            "trunk": spec.trunk,
            "scorer": miner.kind,
            "median_s": {name: round(value, 3) for name, value in found_s.items()},
            "largest_s": {
                "refit_and_order": round(max(refits), 3),
                "one_image": round(max(judged), 3),
            },
            "limits_s": LIMITS_S,
        },
        met=all(found_s[name] < limit for name, limit in LIMITS_S.items()),
    )


if __name__ == "__main__":
    main()
