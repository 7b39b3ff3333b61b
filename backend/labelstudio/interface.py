"""What a label config asks of the annotator, and whether we can serve it.

Served: one ``Image`` and a single-choice ``Choices`` block on it. Of several such blocks the first
in the config's order is the one that is mined; other controls (text areas, boxes, ratings) may
stand beside it and are left alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from label_studio_sdk.label_interface.control_tags import ControlTag
from label_studio_sdk.label_interface.interface import LabelInterface

from backend.errors import UnsupportedLabelConfig
from backend.labelstudio.config_hash import config_sha256

__all__ = [
    "SUPPORTED",
    "ImageChoices",
    "config_sha256",
    "label_config_digest",
    "parse_label_config",
]

SUPPORTED = ("Image", "Choices (single)")


@dataclass(frozen=True)
class ImageChoices:
    """A label config in which an annotator chooses one class for one image.

    Attributes:
        control_name: name of the ``Choices`` tag.
        image_name: name of the ``Image`` tag.
        data_key: key of the image's address in ``task.data``: ``image`` of ``$image``.
        labels: K classes in the config's order, as they are stored in annotations.
        attributes: the ``Choices`` tag's attributes, such as ``model_score_threshold``.
    """

    control_name: str
    image_name: str
    data_key: str
    labels: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...] = ()

    def attribute(self, name: str) -> str | None:
        """The value of an attribute of the ``Choices`` tag, None where it is not set."""
        return dict(self.attributes).get(name)


def parse_label_config(xml: str) -> ImageChoices:
    """The image classification that a label config holds.

    Raises:
        UnsupportedLabelConfig: it holds none; says which tags were found and what to change.
    """
    try:
        parsed = LabelInterface(xml)
    except Exception as error:
        # The SDK raises its own, lxml's and plain KeyErrors for configs that it cannot read; for
        # us they all mean the same, and a bad config must not stop the other projects.
        raise UnsupportedLabelConfig(
            f"the label config cannot be read ({type(error).__name__})",
            found=(),
            supported=SUPPORTED,
        ) from error
    controls: list[ControlTag] = list(parsed.controls or ())
    objects = list(parsed.objects or ())
    found = [str(tag.tag) for tag in (*objects, *controls)]
    images = [tag for tag in objects if _kind(tag.tag) == "image"]
    if not images:
        raise _unsupported("no Image tag; add <Image name=... value=$...>", found)
    if len(images) > 1:
        raise _unsupported(f"{len(images)} Image tags, expected one", found)
    image = images[0]
    attributes = _attributes(image.attr)
    if attributes.get("valuelist"):
        raise _unsupported("Image with valueList (several images), expected value", found)
    data_key = (attributes.get("value") or "").strip()
    if not data_key.startswith("$") or len(data_key) < 2:
        raise _unsupported(f"Image value {data_key!r}, expected $ and a key of task.data", found)
    choices = [
        tag for tag in controls if _kind(tag.tag) == "choices" and image.name in (tag.to_name or ())
    ]
    if not choices:
        raise _unsupported(f"no Choices tag with toName={image.name!r}", found)
    refusals = []
    for control in choices:
        refusal = _refusal(control)
        if refusal is None:
            return ImageChoices(
                control_name=str(control.name),
                image_name=str(image.name),
                data_key=data_key[1:],
                labels=_labels(control),
                attributes=tuple(sorted(_attributes(control.attr, lower=False).items())),
            )
        refusals.append(f"{control.name}: {refusal}")
    raise _unsupported("; ".join(refusals), found)


def label_config_digest(xml: str) -> str:
    """SHA-256 of what the config means for us: the same for another layout, colour or hint.

    A config that we do not serve is digested by its text.
    """
    try:
        interface = parse_label_config(xml)
    except UnsupportedLabelConfig:
        return config_sha256(xml)
    canonical = json.dumps(
        [
            interface.control_name,
            interface.image_name,
            interface.data_key,
            interface.labels,
            interface.attributes,
        ],
        ensure_ascii=True,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _refusal(control: ControlTag) -> str | None:
    """Why a ``Choices`` tag cannot be served, None where it can."""
    attributes = _attributes(control.attr)
    choice = attributes.get("choice", "single")
    if choice not in ("", "single", "single-radio"):
        return f'choice="{choice}", expected choice="single"'
    for flag in ("perregion", "peritem"):
        if attributes.get(flag, "false").lower() == "true":
            return f"{flag} is set, expected one choice for the whole image"
    if attributes.get("value"):
        return "choices come from the task, expected <Choice> tags in the config"
    count = len(_labels(control))
    if count < 2:
        return f"{count} choices, expected two or more"
    return None


def _labels(control: ControlTag) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(label) for label in control.labels or ()))


def _attributes(attributes: object, *, lower: bool = True) -> dict[str, str]:
    """Attributes as text; XML of older projects also writes their names in lower case."""
    if not isinstance(attributes, Mapping):
        return {}
    return {
        (str(name).lower() if lower else str(name)): str(value)
        for name, value in attributes.items()
    }


def _kind(tag: str | None) -> str:
    return (tag or "").lower()


def _unsupported(reason: str, found: Iterable[str]) -> UnsupportedLabelConfig:
    return UnsupportedLabelConfig(reason, found=tuple(dict.fromkeys(found)), supported=SUPPORTED)
