"""What ``make demo TASK=...`` can label. A new kind is one function and one line here."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from demo.box_data import read_boxes
from demo.box_job import boxes_job
from demo.box_set import choose_boxes
from demo.digits import choose_digits
from demo.job import Job, digits_job

MakeJob = Callable[[int], Job]

_POOL_SIZE: Final = 400


class DataWantedError(ValueError):
    """The data is missing; the message says what is needed."""


def _digits(options: argparse.Namespace) -> MakeJob:
    if options.data is not None:
        raise DataWantedError(f"found DATA={options.data}; data is for TASK=detection, name both")
    return lambda seed: digits_job(choose_digits(seed))


def _detection(options: argparse.Namespace) -> MakeJob:
    path: Path | None = options.data
    if path is None:
        raise DataWantedError(
            "TASK=detection needs DATA=..., a folder or zip of pictures with boxes: VOC (an XML "
            "file for each picture, beside it or in a folder such as annotations/) or COCO (a JSON "
            "file). Without data of your own: make demo"
        )
    data = read_boxes(path)
    tail = tuple(name.strip() for name in options.tail.split(",") if name.strip())

    def make(seed: int) -> Job:
        chosen = choose_boxes(
            data, seed, tail=tail, tile_px=options.tiles, pool_size=options.pictures or _POOL_SIZE
        )
        # Runs with a person go on where they were; those on other data are other runs.
        what = f"{path.resolve()}|{tail}|{options.tiles}|{options.pictures}|{seed}"
        home = "-detection-" + hashlib.sha256(what.encode()).hexdigest()[:8]
        return boxes_job(chosen, title=f"Boxes of {path.stem}", home=home, tail_named=bool(tail))

    return make


TASKS: Mapping[str, Callable[[argparse.Namespace], MakeJob]] = MappingProxyType(
    {"detection": _detection, "digits": _digits}
)
