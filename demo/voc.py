"""Pascal VOC: one XML file a picture, as labelImg and many others write it.

Coordinates are taken as edges in pixels counted from 0. The original VOC counts from 1; labelImg
and what came after it do not, and the difference is one pixel.
"""

from __future__ import annotations

import math
from typing import NoReturn
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from demo.file_tree import BoxDataError
from demo.raw_boxes import RawBox, RawPicture

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class _NoDoctype(TreeBuilder):
    """Refuses a document type before anything in it is read: no entities, no files, no bombs."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise BoxDataError("it has a DOCTYPE, which annotations do not need and we do not read")


def read_voc(source: str, content: bytes) -> RawPicture | None:
    """The boxes in one XML file; None where it is XML of something else.

    Raises:
        BoxDataError: it cannot be read; the message names the file.
    """
    try:
        parser = XMLParser(target=_NoDoctype())
        parser.feed(content)
        root: Element = parser.close()
    except (ParseError, ValueError, LookupError) as error:
        # ValueError: an encoding that XML has not; LookupError: one that nobody has.
        raise BoxDataError(f"{source} cannot be read: {error}") from error
    if root.tag != "annotation":
        return None
    boxes: list[RawBox] = []
    notes: list[str] = []
    for item in root.findall("object"):
        label = (item.findtext("name") or "").strip()
        corners = [_number(item.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
        if not label or any(map(math.isnan, corners)):
            notes.append(f"{label or 'an object without a name'}: it has no whole bndbox: left out")
            continue
        boxes.append(RawBox(label, *corners))
    size = [_number(root.findtext(f"size/{side}")) for side in ("width", "height")]
    width, height = (0 if math.isnan(value) else round(value) for value in size)
    picture = (root.findtext("filename") or "").strip()
    return RawPicture(source, picture, width, height, tuple(boxes), tuple(notes))


def _number(text: str | None) -> float:
    """A finite number, else NaN."""
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
