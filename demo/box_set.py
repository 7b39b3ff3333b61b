"""Pictures with boxes as a labeling project: which are labeled from the start, which are the pool.

What is rare is what has few boxes, or what somebody names. The pool holds at most one picture in
ten with something rare, so that finding those is worth something.
"""

from __future__ import annotations

import io
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from PIL import Image, ImageOps

from demo.box_data import BoxData, BoxDataError, BoxImage, tiles
from models.detection.boxes import Boxes, from_text, to_text

TAIL_THRESHOLD: Final = 0.3
TILE_PX: Final = 160
RARE_SHARE: Final = 0.1

# Pictures with something rare are more than a search finds, and large enough to be cut.
_NEARLY_ALL: Final = 0.5
_LARGE_PX: Final = 400
# An annotator draws what he recognises, and that takes less than half of a cut object.
_RECOGNISED: Final = 0.25
_SHOWN_AS_IT_IS: Final = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})


@dataclass(frozen=True)
class BoxPicture:
    """One picture to label.

    Attributes:
        name: file name; says nothing of what is in it.
        content: the encoded picture.
        width, height: in pixels, upright.
        boxes: the truth, known to the labeling client alone.
    """

    name: str
    content: bytes
    width: int
    height: int
    boxes: Boxes

    @property
    def classes(self) -> frozenset[str]:
        """What is in it."""
        return frozenset(box.label for box in self.boxes if box.label is not None)


@dataclass(frozen=True)
class BoxSet:
    """A project's worth of pictures.

    Attributes:
        seeds: labeled from the start.
        pool: to be labeled.
        classes: what the label config offers, most boxes first.
        rare: those of them that are to be found, rarest first.
        notes: what was done with the data, one sentence each.
    """

    seeds: tuple[BoxPicture, ...]
    pool: tuple[BoxPicture, ...]
    classes: tuple[str, ...]
    rare: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def rare_in_pool(self) -> int:
        """How many pictures of the pool hold something rare."""
        return sum(not picture.classes.isdisjoint(self.rare) for picture in self.pool)

    @cached_property
    def by_name(self) -> dict[str, BoxPicture]:
        """All pictures by their file name."""
        return {picture.name: picture for picture in self.seeds + self.pool}


@dataclass(frozen=True)
class _Example:
    """A picture or a tile of one, not encoded yet.

    Attributes:
        name: of the file that it comes from.
        encode: its bytes and what a file with them is called at the end.
        width, height: in pixels.
        boxes: as shares of it.
    """

    name: str
    encode: Callable[[], tuple[bytes, str]]
    width: int
    height: int
    boxes: Boxes

    def holds(self, classes: Sequence[str]) -> bool:
        return any(box.label in classes for box in self.boxes)


def choose_boxes(
    data: BoxData,
    seed: int,
    *,
    tail: Sequence[str] = (),
    tile_px: int | None = None,
    seed_pictures: int = 80,
    rare_seed_pictures: int = 4,
    pool_size: int = 400,
) -> BoxSet:
    """Share pictures with boxes between labels and pool.

    Args:
        data: the pictures.
        seed: chooses the pictures, their order and their names.
        tail: what is rare; none: the classes with a skewness ratio below 0.3, by boxes.
        tile_px: cut the pictures into tiles of about this size; 0: never; None: of 160 px where
            pictures are larger than 400 px and most of them hold something rare.
        seed_pictures: labeled from the start, the rare ones included.
        rare_seed_pictures: of these, for each rare class.
        pool_size: pictures in the pool at most.

    Raises:
        BoxDataError: no class is rare, or there are too few pictures with or without one; says
            what was found and what to change.
    """
    rng = np.random.default_rng(seed)
    examples = [_whole(image) for image in data.images]
    counts = _counts(examples)
    rare = _rare(counts, tail)
    notes: list[str] = []
    if tile_px is None:
        tile_px, why = _tiles_wanted(examples, rare)
        notes += why
    if tile_px:
        examples = [tile for image in data.images for tile in _tiles_of(image, tile_px)]
        notes.append(f"{len(data.images)} pictures are cut into {len(examples)} tiles")
        counts = _counts(examples)
        rare = _rare(counts, tail or rare)
    with_rare = [n for n in rng.permutation(len(examples)) if examples[n].holds(rare)]
    without = [n for n in rng.permutation(len(examples)) if not examples[n].holds(rare)]
    # At most half of what is rare is given away.
    given: list[int] = []
    for name in rare:
        own = [n for n in with_rare if examples[n].holds([name]) and n not in given]
        given += own[: max(1, min(rare_seed_pictures, len(own) // 2))]
    common = max(seed_pictures - len(given), 0)
    seeds, left = [*given, *without[:common]], without[common:]
    hidden = [n for n in with_rare if n not in given]
    hidden = hidden[: max(1, round(RARE_SHARE * min(pool_size, len(left) / (1 - RARE_SHARE))))]
    pool = [*hidden, *left[: pool_size - len(hidden)]]
    if len(hidden) < 2 or len(pool) < 5 * len(hidden):
        raise BoxDataError(
            f"found {len(with_rare)} pictures with {_listed(rare)} and {len(without)} without, "
            f"expected at least 4 and {seed_pictures + 20}: name what is rare with TAIL=..., or "
            "cut large pictures with TILES=160"
        )
    notes.append(
        f"{len(seeds)} pictures are labeled from the start, {len(given)} of them with "
        f"{_listed(rare)}; the pool has {len(pool)}, {len(hidden)} of them with something rare"
    )

    def pictures(chosen: Sequence[int]) -> tuple[BoxPicture, ...]:
        return tuple(
            _encoded(examples[n], rng.bytes(6).hex()) for n in rng.permutation(np.asarray(chosen))
        )

    return BoxSet(pictures(seeds), pictures(pool), tuple(counts), rare, tuple(notes))


def _counts(examples: Sequence[_Example]) -> dict[str, int]:
    """Boxes by class, most first."""
    found = Counter(box.label for example in examples for box in example.boxes if box.label)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _rare(counts: dict[str, int], tail: Sequence[str]) -> tuple[str, ...]:
    """What is rare, rarest first."""
    boxes = ", ".join(f"{name} {count}" for name, count in counts.items())
    if unknown := [name for name in tail if name not in counts]:
        raise BoxDataError(f"TAIL={_listed(unknown)}: there is no such class; found boxes: {boxes}")
    mean = sum(counts.values()) / len(counts)
    found = [n for n in counts if (n in tail if tail else counts[n] / mean < TAIL_THRESHOLD)]
    if not found:
        raise BoxDataError(
            f"no class has less than {TAIL_THRESHOLD} of the mean number of boxes ({boxes}); "
            "name what is rare with TAIL=..., classes separated by commas"
        )
    if len(found) == len(counts):
        raise BoxDataError(f"TAIL={_listed(tail)}: that is every class; found boxes: {boxes}")
    return tuple(sorted(found, key=lambda name: counts[name]))


def _tiles_wanted(examples: Sequence[_Example], rare: Sequence[str]) -> tuple[int, list[str]]:
    """The size of tiles that these pictures need, 0 for none, and why."""
    share = sum(example.holds(rare) for example in examples) / len(examples)
    side = statistics.median(max(example.width, example.height) for example in examples)
    if share <= _NEARLY_ALL or side <= _LARGE_PX:
        return 0, []
    return TILE_PX, [
        f"{share:.0%} of the pictures hold {_listed(rare)}, so there is nothing to search for in "
        f"whole ones: they are cut into tiles of about {TILE_PX} px (TILES=n chooses another size)"
    ]


def _whole(image: BoxImage) -> _Example:
    def encode() -> tuple[bytes, str]:
        ending = PurePosixPath(image.name).suffix.lower()
        if ending in _SHOWN_AS_IT_IS:
            return image.load(), ending
        return _png(_opened(image)), ".png"

    return _Example(image.name, encode, image.width, image.height, image.boxes)


def _tiles_of(image: BoxImage, tile_px: int) -> Iterator[_Example]:
    # Only the boxes are kept: the pixels of all tiles together may be more than the memory.
    blank = Image.new("1", (image.width, image.height))
    for number, tile in enumerate(tiles(blank, image.boxes, tile_px, _RECOGNISED)):

        def encode(number: int = number) -> tuple[bytes, str]:
            return _png(tiles(_opened(image), (), tile_px)[number].image), ".png"

        yield _Example(image.name, encode, tile.image.width, tile.image.height, tile.boxes)


def _opened(image: BoxImage) -> Image.Image:
    """The picture, upright."""
    try:
        with Image.open(io.BytesIO(image.load())) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise BoxDataError(f"{image.name} is damaged: {error}; leave it out") from error


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _encoded(example: _Example, name: str) -> BoxPicture:
    content, ending = example.encode()
    # Rounded as labels are kept, so that what comes back from Label Studio is the same.
    boxes = from_text(to_text([box for box in example.boxes if box.label is not None]))
    return BoxPicture(f"picture-{name}{ending}", content, example.width, example.height, boxes)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
