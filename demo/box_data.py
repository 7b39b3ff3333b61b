"""Pictures with boxes from any folder or zip, annotated as VOC or COCO.

    data = read_boxes(Path("bccd-trainval.zip"))
    data.images[0].boxes        # as shares of the upright picture

VOC: one XML a picture, beside it or in a folder of its own (``annotations/``), found by its own
name or by its ``<filename>``. COCO: one JSON, or one for each part of the data.
"""

from __future__ import annotations

import io
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from PIL import Image, UnidentifiedImageError

from demo.box_tiles import Tile, tiles
from demo.coco import read_coco
from demo.file_tree import MIB, BoxDataError, FileTree, open_tree
from demo.raw_boxes import RawPicture, WrongSizeError, as_shares
from demo.voc import read_voc
from models.detection.boxes import Boxes

__all__ = ["BoxData", "BoxDataError", "BoxImage", "Tile", "read_boxes", "tiles"]

PICTURES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
MOST_PICTURE_BYTES: Final = 64 * MIB
MOST_XML_BYTES: Final = 16 * MIB
MOST_JSON_BYTES: Final = 1024 * MIB

_ORIENTATION: Final = 0x0112
_ON_ITS_SIDE: Final = frozenset({5, 6, 7, 8})
_EXPECTED: Final = (
    "expected pictures with VOC boxes (an XML file for each, beside it or in a folder such as "
    "annotations/) or COCO boxes (a JSON file with images, annotations and categories)"
)


@dataclass(frozen=True)
class BoxImage:
    """One picture whose boxes are known.

    Attributes:
        name: the file within the folder or zip.
        width, height: in pixels, upright.
        load: reads the file's bytes; raises BoxDataError where that is no longer possible.
        boxes: as shares of the upright picture; none means that nothing is in it.
        notes: what was clipped or left out, one sentence each.
    """

    name: str
    width: int
    height: int
    load: Callable[[], bytes] = field(compare=False, repr=False)
    boxes: Boxes
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoxData:
    """All pictures of a folder or zip whose boxes are known.

    Attributes:
        where: the folder or zip.
        images: sorted by name.
        notes: what was left out, one sentence each; those of single pictures are not among them.
    """

    where: Path
    images: tuple[BoxImage, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Boxes by class, most first."""
        found = Counter(box.label for image in self.images for box in image.boxes if box.label)
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def read_boxes(path: Path) -> BoxData:
    """Find the pictures of a folder or zip and their boxes.

    A picture without annotations is left out (a VOC file or COCO entry without boxes is one: it
    says that nothing is there), and so is one that cannot be opened.

    Raises:
        BoxDataError: no picture with boxes was found; says what was, and what is expected.
    """
    tree = open_tree(path)
    pictures = [name for name in tree.names if _ending(name) in PICTURES]
    raw = [*_voc(tree), *_coco(tree)]
    formats = {_ending(item.source) for item in raw}
    if not pictures or not raw:
        raise BoxDataError(f"found {_what_is_there(tree.names)} in {path}; {_EXPECTED}")
    if len(formats) > 1:
        raise BoxDataError(
            f"found both VOC and COCO boxes in {path}, such as "
            f"{raw[0].source} and {raw[-1].source}; expected one of them: leave the other out"
        )
    notes: list[str] = []
    images: list[BoxImage] = []
    for name, item in sorted(_matched(pictures, raw, notes).items()):
        image = _image(tree, name, item)
        if isinstance(image, str):
            notes.append(image)
        else:
            images.append(image)
    unlabeled = len(pictures) - len({image.name for image in images})
    if unlabeled:
        notes.append(
            f"{unlabeled} of {len(pictures)} pictures have no usable annotations: left out"
        )
    if not any(box.label for image in images for box in image.boxes):
        told = f" ({notes[0]})" if notes else ""
        raise BoxDataError(
            f"found {len(pictures)} pictures and annotations of {len(raw)} in {path}, but no box "
            f"on any of them{told}; {_EXPECTED}"
        )
    return BoxData(path, tuple(images), tuple(notes))


def _voc(tree: FileTree) -> Iterator[RawPicture]:
    for name in tree.names:
        if _ending(name) == ".xml":
            found = read_voc(name, tree.read(name, at_most=MOST_XML_BYTES))
            if found is not None:
                yield found


def _coco(tree: FileTree) -> Iterator[RawPicture]:
    for name in tree.names:
        if _ending(name) == ".json":
            yield from read_coco(name, tree.read(name, at_most=MOST_JSON_BYTES)) or ()


def _matched(
    pictures: Sequence[str], raw: Iterable[RawPicture], notes: list[str]
) -> dict[str, RawPicture]:
    """Each picture's annotations; ``notes`` takes what could not be matched."""
    by_name: dict[str, list[str]] = defaultdict(list)
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in pictures:
        path = PurePosixPath(name)
        by_name[path.name.lower()].append(name)
        by_stem[path.stem.lower()].append(name)
    found: dict[str, RawPicture] = {}
    for item in raw:
        # Names from Windows have backslashes.
        told = PurePosixPath(item.picture.replace("\\", "/"))
        own = PurePosixPath(item.source).stem.lower()
        if _ending(item.source) == ".xml":
            # Pictures are often renamed together with their XML, and what stands in it stays.
            candidates = by_stem.get(own) or by_name.get(told.name.lower())
        else:
            candidates = by_name.get(told.name.lower()) or by_stem.get(told.stem.lower())
        nearest = _nearest(candidates or (), item.source, told)
        if nearest is None:
            many = f"{len(candidates)} pictures" if candidates else "no picture"
            notes.append(f"{item.source}: found {many} for {told.name or own}: left out")
        elif nearest in found:
            raise BoxDataError(
                f"{nearest} has annotations in {found[nearest].source} and in {item.source}; "
                "expected one: leave the other out"
            )
        else:
            found[nearest] = item
    return found


def _nearest(candidates: Sequence[str], source: str, told: PurePosixPath) -> str | None:
    """Of pictures with the same name the one that lies where the annotations say, or near them."""
    if len(candidates) < 2:
        return candidates[0] if candidates else None

    def nearness(name: str) -> tuple[int, int]:
        parts = PurePosixPath(name).parts[:-1]
        ending = 0
        while ending < min(len(parts), len(told.parts) - 1) and (
            parts[-1 - ending] == told.parts[-2 - ending]
        ):
            ending += 1
        # train/images/1.jpg and train/annotations/1.xml: the folders that both lie in.
        shared = len(set(parts) & set(PurePosixPath(source).parts[:-1]))
        return ending, shared

    ordered = sorted(candidates, key=nearness)
    return ordered[-1] if nearness(ordered[-1]) != nearness(ordered[-2]) else None


def _image(tree: FileTree, name: str, raw: RawPicture) -> BoxImage | str:
    """One picture with its boxes, or why it is left out."""

    def load() -> bytes:
        return tree.read(name, at_most=MOST_PICTURE_BYTES)

    try:
        size = _upright_size(load())
        boxes, notes = as_shares(raw.boxes, of=size, told=(raw.width_px, raw.height_px))
    except (BoxDataError, WrongSizeError) as error:
        return f"{name}: {error}: left out"
    return BoxImage(name, *size, load, boxes, raw.notes + notes)


def _upright_size(content: bytes) -> tuple[int, int]:
    """Width and height in pixels as a person sees the picture; its pixels are not decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                width, height = image.size
                turned = image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE
    except (
        UnidentifiedImageError, OSError, ValueError, SyntaxError,
        Image.DecompressionBombError, Image.DecompressionBombWarning,
    ) as error:  # fmt: skip
        raise BoxDataError(f"it cannot be opened ({type(error).__name__})") from error
    return (height, width) if turned else (width, height)


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _what_is_there(names: Sequence[str]) -> str:
    """``12 .jpg, 12 .txt`` and the like."""
    endings = Counter(_ending(name) or "(no ending)" for name in names)
    listed = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(5))
    return f"the files {listed}" if listed else "no file"
