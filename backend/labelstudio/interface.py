"""What a label config asks of the annotator, and whether we can serve it.

Served: one ``Image`` with a single-choice ``Choices`` block on it, or with ``RectangleLabels``. Of
several such ``Choices`` the first in the config's order is the one that is mined; without one, all
``RectangleLabels`` on the image are, together. Other controls (text areas, brushes, ratings) may
stand beside them and are left alone. Three attributes mean what they mean in the examples of Label
Studio's ML backends, on either tag:

    <Choices model_skip="true">               this block is not ours; the next one may be
    <Choices model_score_threshold="0.5">     no pre-annotation below this confidence
    <Choice predicted_values="jeep,cab">      these classes of the frozen model are this label too
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from label_studio_sdk.label_interface.control_tags import ControlTag
from label_studio_sdk.label_interface.interface import LabelInterface

from backend.errors import UnsupportedLabelConfig
from backend.labelstudio.config_hash import config_sha256
from backend.labelstudio.label_config_guard import costs_too_much

__all__ = [
    "SUPPORTED",
    "BoxControl",
    "ImageBoxes",
    "ImageChoices",
    "Interface",
    "config_sha256",
    "parse_label_config",
]

SUPPORTED = ("Image + Choices (single)", "Image + RectangleLabels")

_YES = frozenset({"true", "1", "yes"})
_NO = frozenset({"false", "0", "no"})
_SKIPPED = "model_skip is set, expected a block that is ours to serve"


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

    task: ClassVar[Literal["classification"]] = "classification"

    control_name: str
    image_name: str
    data_key: str
    labels: tuple[str, ...]
    score_threshold: float | None = None
    predicted_values: tuple[tuple[str, tuple[str, ...]], ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoxControl:
    """One ``RectangleLabels`` tag.

    Attributes:
        name: of the tag.
        labels: its classes in the config's order, as they are stored in annotations.
        score_threshold: confidence in [0, 1] below which none of its boxes is pre-annotated.
    """

    name: str
    labels: tuple[str, ...]
    score_threshold: float | None = None


@dataclass(frozen=True)
class ImageBoxes:
    """A label config in which an annotator draws boxes on one image.

    Attributes:
        controls: the ``RectangleLabels`` tags that are served, in the config's order; one or more.
        image_name: name of the ``Image`` tag.
        data_key: key of the image's address in ``task.data``: ``image`` of ``$image``.
        beside: names of the config's other controls, whose regions are left alone.
        predicted_values: as for ``ImageChoices``.
        problems: what is left out, or looks like a mistake, one sentence each.
    """

    task: ClassVar[Literal["detection"]] = "detection"

    controls: tuple[BoxControl, ...]
    image_name: str
    data_key: str
    beside: tuple[str, ...] = ()
    predicted_values: tuple[tuple[str, tuple[str, ...]], ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def control_name(self) -> str:
        """Names of the tags, for people."""
        return ", ".join(control.name for control in self.controls)

    @property
    def labels(self) -> tuple[str, ...]:
        """K classes of all tags, each once, in the config's order."""
        return tuple(dict.fromkeys(label for own in self.controls for label in own.labels))

    @property
    def labels_of_control(self) -> dict[str, tuple[str, ...]]:
        """Classes by the name of the tag."""
        return {control.name: control.labels for control in self.controls}

    @property
    def score_threshold(self) -> dict[str, float]:
        """Least confidence of a pre-annotation by the name of the tag, of those that say one."""
        return {
            control.name: control.score_threshold
            for control in self.controls
            if control.score_threshold is not None
        }

    def control_of(self, label: str) -> BoxControl | None:
        """The tag that a class belongs to, the first of several; None for a class of no tag."""
        return next((control for control in self.controls if label in control.labels), None)


Interface = ImageChoices | ImageBoxes


@dataclass(frozen=True)
class _Found:
    """A config that has one image.

    Attributes:
        tags: names of all kinds of tags, for messages.
    """

    image_name: str
    data_key: str
    controls: tuple[ControlTag, ...]
    tags: tuple[str, ...]

    def on_image(self, kind: str) -> list[ControlTag]:
        """Controls of a kind on the image, in the config's order."""
        return [
            tag
            for tag in self.controls
            if _kind(tag.tag) == kind and self.image_name in (tag.to_name or ())
        ]


def parse_label_config(xml: str) -> Interface:
    """The image classification, else the object detection, that a label config holds.

    Raises:
        UnsupportedLabelConfig: it holds neither; says which tags were found and what to change.
    """
    found = _one_image(xml)
    choices, boxes = found.on_image("choices"), found.on_image("rectanglelabels")
    if not choices and not boxes:
        raise _unsupported(
            f"no Choices or RectangleLabels tag with toName={found.image_name!r}", found.tags
        )
    refusals = []
    for control in choices:
        refusal = _refusal(control)
        if refusal is None:
            return _choices(found, control, choices)
        refusals.append(f"{control.name}: {refusal}")
    refused = {str(tag.name): why for tag in boxes if (why := _refusal_of_boxes(tag)) is not None}
    served = [tag for tag in boxes if str(tag.name) not in refused]
    if served:
        return _boxes(found, served, refused)
    refusals += [f"{name}: {why}" for name, why in refused.items()]
    raise _unsupported("; ".join(refusals), found.tags)


def _one_image(xml: str) -> _Found:
    """The config's controls and its one image."""
    if why := costs_too_much(xml):
        raise _unsupported(f"the label config cannot be read: {why}", ())
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
    tags = tuple(str(tag.tag) for tag in (*objects, *controls))
    images = [tag for tag in objects if _kind(tag.tag) == "image"]
    if not images:
        raise _unsupported("no Image tag; add <Image name=... value=$...>", tags)
    if len(images) > 1:
        raise _unsupported(f"{len(images)} Image tags, expected one", tags)
    image = images[0]
    attributes = _attributes(image.attr)
    if attributes.get("valuelist"):
        raise _unsupported("Image with valueList (several images), expected value", tags)
    data_key = (attributes.get("value") or "").strip()
    if not data_key.startswith("$") or len(data_key) < 2:
        raise _unsupported(f"Image value {data_key!r}, expected $ and a key of task.data", tags)
    return _Found(str(image.name), data_key[1:], tuple(controls), tags)


def _choices(found: _Found, control: ControlTag, choices: Sequence[ControlTag]) -> ImageChoices:
    threshold, problems = _threshold(control)
    return ImageChoices(
        control_name=str(control.name),
        image_name=found.image_name,
        data_key=found.data_key,
        labels=_labels(control),
        score_threshold=threshold,
        predicted_values=_predicted_values([control]),
        problems=(*problems, *_strange_skips(choices)),
    )


def _boxes(found: _Found, served: Sequence[ControlTag], refused: Mapping[str, str]) -> ImageBoxes:
    controls: list[BoxControl] = []
    problems: list[str] = []
    for tag in served:
        threshold, strange = _threshold(tag)
        controls.append(BoxControl(str(tag.name), _labels(tag), threshold))
        problems += strange
    names = {control.name for control in controls}
    return ImageBoxes(
        controls=tuple(controls),
        image_name=found.image_name,
        data_key=found.data_key,
        beside=tuple(str(tag.name) for tag in found.controls if str(tag.name) not in names),
        predicted_values=_predicted_values(served),
        problems=(
            *problems,
            *_strange_skips(found.on_image("rectanglelabels")),
            *_shared_labels(controls),
            *(
                f"label config: boxes of {name} are left alone: {why}"
                for name, why in refused.items()
                if why != _SKIPPED
            ),
        ),
    )


def _refusal(control: ControlTag) -> str | None:
    """Why a ``Choices`` tag cannot be served, None where it can."""
    attributes = _attributes(control.attr)
    if _skipped(attributes):
        return _SKIPPED
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


def _refusal_of_boxes(control: ControlTag) -> str | None:
    """Why a ``RectangleLabels`` tag cannot be served, None where it can."""
    attributes = _attributes(control.attr)
    if _skipped(attributes):
        return _SKIPPED
    if attributes.get("value"):
        return "labels come from the task, expected <Label> tags in the config"
    if not _labels(control):
        return "0 labels, expected one or more"
    return None


def _skipped(attributes: Mapping[str, str]) -> bool:
    return attributes.get("model_skip", "").strip().lower() in _YES


def _shared_labels(controls: Sequence[BoxControl]) -> Iterable[str]:
    """Labels that several tags have: one sentence each."""
    for label in dict.fromkeys(label for control in controls for label in control.labels):
        names = [control.name for control in controls if label in control.labels]
        if len(names) > 1:
            yield (
                f"label config: {', '.join(names)} all have the label {label!r}: it counts as one "
                f"class, and predicted boxes of it are shown as {names[0]}'s"
            )


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


def _predicted_values(
    controls: Iterable[ControlTag],
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Labels with the classes of the frozen model that stand for them."""
    found: dict[str, tuple[str, ...]] = {}
    for control in controls:
        tags = control.labels_attrs if isinstance(control.labels_attrs, Mapping) else {}
        for label in _labels(control):
            text = _attributes(getattr(tags.get(label), "attr", None)).get("predicted_values", "")
            names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
            if names:
                found[label] = tuple(dict.fromkeys((*found.get(label, ()), *names)))
    return tuple(found.items())


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
