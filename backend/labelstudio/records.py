"""What Label Studio answers, as frozen records: parsed where it enters, trusted afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

Object = Mapping[str, object]


def _user_id(value: object) -> object:
    """``completed_by`` is a number in lists and an object in single tasks."""
    return value.get("id") if isinstance(value, Mapping) else value


def _or_empty(value: object) -> object:
    """A submit without ``result`` is stored as null."""
    return () if value is None else value


def _text(value: object) -> object:
    return "" if value is None else value


def _zero(value: object) -> object:
    return 0 if value is None else value


Text = Annotated[str, BeforeValidator(_text)]
Count = Annotated[int, BeforeValidator(_zero)]


class Record(BaseModel):
    """Base of what Label Studio sends: unknown keys are ignored, nothing changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class UserInfo(Record):
    """Who a token belongs to."""

    id: int
    username: Text = ""
    email: Text = ""


class ProjectInfo(Record):
    """A project's settings and counts.

    Attributes:
        created_at: with its id, tells projects apart: ids are reused in a rebuilt database.
        sampling: how the label stream orders tasks.
        model_version: whose scores it orders by; empty: nobody's.
        task_number: tasks in the project.
        num_tasks_with_annotations: tasks that at least one person labeled.
    """

    id: int
    title: Text = ""
    created_at: AwareDatetime
    label_config: Text = ""
    sampling: Text = ""
    model_version: Text = ""
    task_number: Count = 0
    maximum_annotations: Count = 1
    show_collab_predictions: bool = True
    num_tasks_with_annotations: Count = 0

    @property
    def created_s(self) -> int:
        """Creation time in whole unix seconds, as ``/setup`` and ``/predict`` name projects."""
        return int(self.created_at.timestamp())


class AnnotationRecord(Record):
    """One annotation of a task.

    Attributes:
        result: its regions.
        was_cancelled: the annotator skipped the task.
        completed_by: the annotator's id, 0 where the account is gone.
    """

    id: int
    result: Annotated[tuple[Object, ...], BeforeValidator(_or_empty)] = ()
    was_cancelled: bool = False
    ground_truth: bool = False
    completed_by: Annotated[Count, BeforeValidator(_user_id)] = 0
    created_at: AwareDatetime
    updated_at: AwareDatetime


class TaskRecord(Record):
    """One task with its annotations."""

    id: int
    data: Object = Field(default_factory=dict)
    created_at: AwareDatetime
    updated_at: AwareDatetime
    annotations: Annotated[tuple[AnnotationRecord, ...], BeforeValidator(_or_empty)] = ()


class PredictionItem(Record):
    """One score on its way into Label Studio.

    Attributes:
        task: the task's id.
        score: in [0, 1], the lowest is served first; never missing.
        model_version: the name it is published under.
        result: regions of a pre-annotation, or none.
    """

    task: int
    score: float = Field(ge=0, le=1, allow_inf_nan=False)
    model_version: str = Field(min_length=1)
    result: Sequence[Object] = ()

    def payload(self) -> dict[str, object]:
        """As Label Studio takes it: ``result`` must be there and must be a list."""
        return {
            "task": self.task,
            "score": self.score,
            "model_version": self.model_version,
            "result": [dict(region) for region in self.result],
        }


class Connection(Record):
    """A row of the settings page "Model": one ML backend of one project.

    Attributes:
        model_version: what ``/setup`` answered when Label Studio asked last.
        state: CO connected, DI disconnected, ER error.
    """

    id: int
    url: str
    title: Text = ""
    model_version: Text = ""
    auth_method: Text = "NONE"
    basic_auth_user: Text = ""
    basic_auth_pass_is_set: bool = False
    is_interactive: bool = False
    extra_params: object = None
    auto_update: bool = True
    state: Text = ""
    error_message: Text = ""


class Webhook(Record):
    """Where Label Studio reports what happens in a project.

    Attributes:
        updated_at: when somebody changed it last, by Label Studio's clock.
    """

    id: int
    url: str
    project: int | None = None
    headers: Annotated[Mapping[str, str], BeforeValidator(lambda value: value or {})] = Field(
        default_factory=dict
    )
    actions: Annotated[tuple[str, ...], BeforeValidator(_or_empty)] = ()
    send_for_all_actions: bool = True
    send_payload: bool = True
    is_active: bool = True
    updated_at: AwareDatetime | None = None


class View(Record):
    """A tab of the Data Manager."""

    id: int
    data: Annotated[Object, BeforeValidator(lambda value: value or {})] = Field(
        default_factory=dict
    )

    @property
    def title(self) -> str:
        """What the tab is called."""
        title = self.data.get("title")
        return title if isinstance(title, str) else ""


def utc_text(moment: datetime) -> str:
    """A moment as Label Studio's filters take it, with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
