"""What a label config asks of the annotator, and whether we can serve it.

Served: one ``Image`` and a single-choice ``Choices`` block on it. Of several such blocks the first
in the config's order is the one that is mined; other controls (text areas, boxes, ratings) may
stand beside it and are left alone. Three attributes mean what they mean in the examples of Label
Studio's ML backends:

    <Choices model_skip="true">               this block is not ours; the next one may be
    <Choices model_score_threshold="0.5">     no pre-annotation below this confidence
    <Choice predicted_values="jeep,cab">      these classes of the frozen model are this label too
"""

from __future__ import annotations

import math
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
    "parse_label_config",
]

SUPPORTED = ("Image", "Choices (single)")

_YES = frozenset({"true", "1", "yes"})
_NO = frozenset({"false", "0", "no"})


@dataclass(frozen=True)
class ImageChoices:
    """A label config in which an annotator chooses one class for one image.

    Attributes:
        control_name: name of the ``Choices`` tag.
        image_name: name of the ``Image`` tag.
        data_key: key of the image's address in ``task.data``: ``image`` of ``$image``.
        labels: K classes in the config's order, as they are stored in annotations.
        score_threshold: confidence in [0, 1] below which nothing is pre-annotated.
        predicted_values: labels and the classes of the frozen model that stand for them, of those
            labels that name some.
        problems: attributes that mean nothing to us and are left out, one sentence each.
    """

    control_name: str
    image_name: str
    data_key: str
    labels: tuple[str, ...]
    score_threshold: float | None = None
    predicted_values: tuple[tuple[str, tuple[str, ...]], ...] = ()
    problems: tuple[str, ...] = ()


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
            threshold, problems = _threshold(control)
            return ImageChoices(
                control_name=str(control.name),
                image_name=str(image.name),
                data_key=data_key[1:],
                labels=_labels(control),
                score_threshold=threshold,
                predicted_values=_predicted_values(control),
                problems=(*problems, *_strange_skips(choices)),
            )
        refusals.append(f"{control.name}: {refusal}")
    raise _unsupported("; ".join(refusals), found)


def _refusal(control: ControlTag) -> str | None:
    """Why a ``Choices`` tag cannot be served, None where it can."""
    attributes = _attributes(control.attr)
    if attributes.get("model_skip", "").strip().lower() in _YES:
        return "model_skip is set, expected a block that is ours to serve"
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


def _threshold(control: ControlTag) -> tuple[float | None, tuple[str, ...]]:
    """The least confidence of a pre-annotation, or None and why an attribute means none."""
    text = _attributes(control.attr).get("model_score_threshold", "").strip()
    if not text:
        return None, ()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 <= value <= 1:
        return value, ()
    return None, (
        f'label config: model_score_threshold="{text[:40]}" of {control.name}, expected a number '
        "from 0 to 1; it is left out",
    )


def _predicted_values(control: ControlTag) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Labels with the classes of the frozen model that stand for them."""
    tags = control.labels_attrs if isinstance(control.labels_attrs, Mapping) else {}
    found = []
    for label in _labels(control):
        text = _attributes(getattr(tags.get(label), "attr", None)).get("predicted_values", "")
        names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        if names:
            found.append((label, names))
    return tuple(found)


def _strange_skips(controls: Iterable[ControlTag]) -> tuple[str, ...]:
    """Values of ``model_skip`` that are neither yes nor no."""
    return tuple(
        f'label config: model_skip="{text[:40]}" of {control.name}, expected true or false; it '
        "is left out"
        for control in controls
        if (text := _attributes(control.attr).get("model_skip", "").strip())
        and text.lower() not in _YES | _NO
    )


def _labels(control: ControlTag) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(label) for label in control.labels or ()))


def _attributes(attributes: object) -> dict[str, str]:
    """Attributes as text; XML of older projects also writes their names in lower case."""
    if not isinstance(attributes, Mapping):
        return {}
    return {str(name).lower(): str(value) for name, value in attributes.items()}


def _kind(tag: str | None) -> str:
    return (tag or "").lower()


def _unsupported(reason: str, found: Iterable[str]) -> UnsupportedLabelConfig:
    return UnsupportedLabelConfig(reason, found=tuple(dict.fromkeys(found)), supported=SUPPORTED)
