"""What the loop writes down for people: the last look at Label Studio, at each project, each round.

The first is kept in the data directory, the others in the project's folder.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

SERVICE_REPORT = "service.json"


class ServiceReport(BaseModel):
    """How the last search of Label Studio for connected projects went (``service.json``)."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    label_studio_url: str = Field(description="which Label Studio was asked")
    label_studio: str = Field("reachable", description="reachable, or what is wrong with it")


class RareEstimate(BaseModel):
    """How many rare ones are unlabeled: the most likely number and a 95 % interval."""

    model_config = ConfigDict(frozen=True)

    likely: int
    low: int
    high: int


class RareLeftReport(BaseModel):
    """What the labels of the control slice say of the rare ones that are still unlabeled."""

    model_config = ConfigDict(frozen=True)

    control_share: float = Field(0.0, description="share of the queue that is drawn at random")
    labels: int = Field(0, description="labels of the control slice that the estimate is from")
    rare: int = Field(0, description="those of them that are of a rare class")
    found: int = Field(0, description="labels of rare classes, however they came")
    tasks: int = Field(0, description="unlabeled tasks that it speaks of")
    newer: int = Field(0, description="unlabeled tasks that it does not speak of")
    total: RareEstimate | None = Field(None, description="None without a label of the slice")
    by_class: dict[str, RareEstimate] = Field(
        default_factory=dict, description="by rare class, where there are 20 at most"
    )
    at_most: int | None = Field(
        None, description="a 95 % bound on those left that holds however often one looks"
    )
    at_most_share: float | None = Field(None, description="that bound over it and those found")


class FinetuneReport(BaseModel):
    """A fine-tune of the frozen model, or what became of it."""

    model_config = ConfigDict(frozen=True)

    number: int
    state: str = Field(description="running, promoted, rejected, cancelled, failed, superseded")
    at: datetime = Field(description="when it was begun")
    why: str = ""
    strategy: str = ""
    labels: int = Field(0, description="labels that it was trained on")
    held_out: int = Field(0, description="labels that it was judged on")
    before: float | None = Field(
        None, description="what the model before was worth: balanced accuracy; of boxes AP"
    )
    after: float | None = Field(None, description="the same of what was trained")
    reasons: tuple[str, ...] = Field((), description="what was decided, and why")


class FinetunesReport(BaseModel):
    """Whether the frozen model is fine-tuned, and what came of the last times."""

    model_config = ConfigDict(frozen=True)

    enabled: bool = False
    why: str = Field("", description="why it is, or is not")
    held_out: int = Field(0, description="labels that nothing learns from, to judge by")
    held_out_by_class: dict[str, int] = Field(default_factory=dict)
    runs: tuple[FinetuneReport, ...] = Field((), description="the last ones, newest first")


class ProjectReport(BaseModel):
    """What the last look found, what comes next, and why not yet (``report.json``)."""

    model_config = ConfigDict(frozen=True)

    project_id: int
    title: str = ""
    at: datetime
    label_studio: str = Field("reachable", description="reachable, or what is wrong with it")
    tasks: int = 0
    labeled: int = 0
    skipped: int = 0
    conflicts: int = 0
    embedded: int = 0
    failed: dict[str, int] = Field(default_factory=dict, description="reason -> images")
    labels_by_class: dict[str, int] = Field(
        default_factory=dict, description="of boxes: how many boxes of each class"
    )
    images_by_class: dict[str, int] = Field(
        default_factory=dict, description="of boxes: how many images hold each class"
    )
    noted: int = Field(0, description="tasks whose annotations are not taken as they are")
    labels_by_origin: dict[str, int] = Field(
        default_factory=dict, description="initial, queue, diversity, control -> labels"
    )
    unchosen: int = Field(0, description="labels that our queue did not choose for being rare")
    unchosen_rare: int = Field(0, description="those of them that hold a rare class")
    unchosen_by_class: dict[str, int] = Field(
        default_factory=dict, description="those of them that hold each class"
    )
    unknown_labels: dict[str, int] = Field(
        default_factory=dict, description="labels that the config does not hold any more"
    )
    tail: tuple[str, ...] = ()
    unlearnable: tuple[str, ...] = Field((), description="tail classes without any label")
    rare_left: RareLeftReport = RareLeftReport()
    labels_since_fit: int = 0
    backbone: str = ""
    version: str = ""
    queue_left: int = Field(0, description="published tasks that are still unlabeled")
    next: str = Field("", description="what the loop does next")
    why_not: tuple[str, ...] = Field((), description="what it does not do yet, and why")
    problems: tuple[str, ...] = Field((), description="what a person should mend")
    drift: tuple[str, ...] = Field((), description="what a person changed, and is left alone")
    finetune: FinetunesReport = FinetunesReport()


class RoundEntry(BaseModel):
    """One line of ``history.jsonl``."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    reason: str
    labels_by_class: dict[str, int]
    images_by_class: dict[str, int] = Field(
        default_factory=dict, description="of boxes: images that hold each class"
    )
    labels_by_origin: dict[str, int]
    rare_found: int = Field(
        0, description="labels of tail classes; of boxes: images, once for each such class"
    )
    queue_labeled: int = Field(0, description="labeled tasks of the queue that was served")
    queue_rare: int = Field(0, description="those of them that were rare")
    queue_kind: str = Field("", description="what ordered that queue: a scorer, or diversity")
    tail: tuple[str, ...] = Field((), description="the rare classes then")
    version: str = ""
    publication: str = ""
    seconds: dict[str, float] = Field(default_factory=dict, description="action -> duration")
    error: str = ""
