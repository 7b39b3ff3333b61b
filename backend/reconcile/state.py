"""What `observe` finds and `plan` decides on: plain facts, no behaviour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from models.registry import Version
from models.tasks import class_counts, classes_in
from models.tasks.base import CLASSIFICATION


class SyncState(BaseModel):
    """How far the mirror has read (``sync.json``).

    Attributes:
        watermark: newest ``updated_at`` read, by Label Studio's clock.
        newest_task: the task that has it; newest_seen_s: when it was first read, Unix seconds.
        overlap_done: what was committed later than its time stamp says was looked for, long enough
            after that.
        ids_checked_s: when task ids were last compared, Unix seconds.
        labels_changed_s: when a label last changed in the mirror, Unix seconds.
        classes: the labels of the config, in its order.
        task: which kind of labels the config asks for, a name of ``models.tasks.base``.
        config_digest: of the part of the config that the mirror was read with.
    """

    model_config = ConfigDict(frozen=True)

    watermark: datetime | None = None
    newest_task: int | None = None
    newest_seen_s: float = 0.0
    overlap_done: bool = False
    ids_checked_s: float = 0.0
    labels_changed_s: float = 0.0
    classes: tuple[str, ...] = ()
    task: str = CLASSIFICATION
    config_digest: str = ""
    config_error: str = ""


class BackboneState(BaseModel):
    """The active frozen model (``backbone.json``).

    Attributes:
        fingerprint: of its weights, architecture and preprocessing.
        how: ``bootstrapped`` on the labels at hand, ``pretrained``, ``given``, ``fine-tuned`` from
            one of these, or ``untrained`` (random weights, until there are labels to train on).
        labels: labels that there were when it was trained here, 0 otherwise.
        source: the settings that it was made from; other settings make another one.
        classes: what its head tells apart, empty where that is not the project's labels.
        task: which kind of labels it is for.
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    how: str
    labels: int = 0
    source: str = ""
    classes: tuple[str, ...] = ()
    task: str = CLASSIFICATION


class LabelSnapshot(BaseModel):
    """The labels that a version was fitted on (``labels.json`` in its folder).

    Attributes:
        labels: as the mirror keeps them.
        task: which kind of labels they are.
    """

    model_config = ConfigDict(frozen=True)

    ids: tuple[int, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    task: str = CLASSIFICATION

    def as_dict(self) -> dict[int, str]:
        """Label by task id."""
        return dict(zip(self.ids, self.labels, strict=True))

    def counts(self) -> Counter[str]:
        """Labels (of boxes: boxes) by class."""
        return class_counts(self.task, self.labels)

    def in_words(self) -> dict[int, str]:
        """What each task was labeled as, for people: the classes of its boxes where it has some."""
        return {
            task: ", ".join(sorted(set(classes_in(self.task, label)))) or "nothing in it"
            for task, label in self.as_dict().items()
        }


def snapshot_of(version: Version) -> LabelSnapshot:
    """The labels that a version was fitted on."""
    return LabelSnapshot.model_validate_json((version.path / "labels.json").read_bytes())


class Failure(BaseModel):
    """An image that could not be read.

    Attributes:
        reason: why.
        digest: of its address; another address is another image.
        image: its address as people may see it.
        tries: how often it was tried.
        next_try_s: when it is tried next, Unix seconds.
    """

    model_config = ConfigDict(frozen=True)

    reason: str
    digest: str
    image: str = ""
    tries: int = 1
    next_try_s: float = 0.0


class Failures(BaseModel):
    """Images that could not be read, by task id (``failures.json``).

    Attributes:
        reader: digest of the settings and versions that decide what can be read; with others
            every image is due at once.
    """

    reader: str = ""
    by_task: dict[int, Failure] = Field(default_factory=dict)


@dataclass(frozen=True)
class FitFacts:
    """What the active version was fitted on, against what is there now."""

    version: str
    labels_differing: int
    same_backbone: bool
    same_classes: bool
    same_task: bool = True
    settings_changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class QueueFacts:
    """What Label Studio serves, against what could be served."""

    version: str
    size: int
    left: int
    embedded: int
    settings_changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class PinFacts:
    """The version that a person activated.

    Attributes:
        version: its name.
        in_place: it is the active one, for the config's classes, with its frozen model.
    """

    version: str
    in_place: bool


@dataclass(frozen=True)
class FinetuneFacts:
    """What decides about fine-tuning. Of words, empty ones mean that nothing is the matter.

    Attributes:
        enabled: the frozen model is fine-tuned when that is due.
        wish: what a person asked for: ``start``, ``cancel``, or nothing.
        number: of the run that is not over; 0 where there is none.
        running: its child process lives.
        over: why it is over; it is to be put away, or its network to be made the active one.
        promotes: that is what is to be done.
        died: why its child process ended, which has not been noted yet.
        blocked: why it is not tried again yet.
        unable: why nothing can be fine-tuned at all.
        new_labels: labels that are new since the last one.
        tail: labels of each tail class; unseen: those that the frozen model was not trained on.
        spent: why none is begun today any more; quiet: why none at this hour.
        busy: why none on this device now.
    """

    enabled: bool = False
    wish: str = ""
    number: int = 0
    running: bool = False
    over: str = ""
    promotes: bool = False
    died: str = ""
    blocked: str = ""
    unable: str = ""
    new_labels: int = 0
    tail: Mapping[str, int] = field(default_factory=dict)
    unseen: Mapping[str, int] = field(default_factory=dict)
    spent: str = ""
    quiet: str = ""
    busy: str = ""


@dataclass(frozen=True)
class State:
    """Everything that decides what to do next for one project.

    Attributes:
        synced: the mirror was read after the last hint.
        completed: the connection was completed once.
        config_error: why the label config cannot be served, empty if it can.
        usable_labels: labels that the config holds.
        too_alike: why they train nothing yet, of too few classes; empty where they do.
        labels_changed_ago_s: seconds since a label last changed.
        backbone: the active frozen model, None before the first.
        backbone_wanted: the settings ask for another one than the active.
        trainable: Bootstrap may train a model, none was given.
        bootstrap_blocked: why training it is not tried now, empty if it may be.
        missing_labeled, missing_pool: tasks without features whose image was not tried yet.
        retries: images that could not be read and may be tried again now.
        embedded_pool: unlabeled tasks with features; pool: unlabeled tasks.
        embedded: tasks with features, labeled or not.
        fit: None before the first fit.
        queue: None before the first publication.
        candidate: a publication was begun and not finished.
        may_switch: the project's model version is ours to set; otherwise `owner` says whose.
        lost: Label Studio no longer holds the published scores.
        older: the project uses an earlier queue of ours than the published one.
        leftovers: old sets of scores that are still in Label Studio.
        force_fit: a person pressed Start training.
        pin: None where no person activated a version.
        finetune: what decides about fine-tuning.
    """

    paused: bool = False
    synced: bool = True
    completed: bool = True
    config_error: str = ""
    usable_labels: int = 0
    too_alike: str = ""
    labels_changed_ago_s: float = 0.0
    backbone: BackboneState | None = None
    backbone_wanted: bool = False
    trainable: bool = True
    bootstrap_blocked: str = ""
    missing_labeled: int = 0
    missing_pool: int = 0
    retries: int = 0
    embedded_pool: int = 0
    embedded: int = 0
    pool: int = 0
    fit: FitFacts | None = None
    queue: QueueFacts | None = None
    candidate: bool = False
    may_switch: bool = True
    owner: str = ""
    lost: bool = False
    older: bool = False
    leftovers: int = 0
    force_fit: bool = False
    pin: PinFacts | None = None
    finetune: FinetuneFacts = FinetuneFacts()
