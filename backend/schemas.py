"""What Label Studio sends and what it gets back: every body, and nothing it does not need.

Fields that are not listed are ignored: payloads carry tokens and grow with each release.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from backend.errors import BadRequest

Body = TypeVar("Body", bound=BaseModel)


class ProjectRef(BaseModel):
    """Which project a request is about.

    Attributes:
        id: Label Studio's id, reused in a rebuilt database.
        created_s: when it was created, Unix seconds; None where the request does not say.
    """

    model_config = ConfigDict(frozen=True)

    id: int = Field(ge=1, lt=2**63)
    created_s: int | None = Field(None, ge=0, lt=2**63)


def _project(value: object) -> object:
    """``"1.1795231806"`` of requests, ``1``, or the object of webhooks with id and created_at."""
    if isinstance(value, str):
        number, _, created = value.partition(".")
        return {"id": number, "created_s": created or None}
    if isinstance(value, int):
        return {"id": value}
    if isinstance(value, dict) and "created_at" in value:
        created_at = value["created_at"]
        if isinstance(created_at, str):
            try:
                created_s = int(datetime.fromisoformat(created_at).timestamp())
            except ValueError as error:
                raise ValueError("created_at is not a time") from error
            return {"id": value.get("id"), "created_s": created_s}
    return value


_AS_SENT = {
    "description": "id.created_at of requests, an id, or the object of webhooks.",
    "anyOf": [
        {"type": "string", "pattern": r"^[1-9][0-9]{0,17}(\.[0-9]{1,18})?$"},
        {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
        {
            "type": "object",
            "properties": {
                "id": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
                "created_at": {"type": "string", "format": "date-time"},
            },
            "required": ["id"],
        },
    ],
}
Project = Annotated[ProjectRef, BeforeValidator(_project), WithJsonSchema(_AS_SENT)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SetupRequest(_Request):
    """``POST /setup``. Host name, token and extra params in it are claims nobody vouches for."""

    project: Project | None = None
    extra_params: object = None


class TaskBody(_Request):
    """One task of ``POST /predict``."""

    id: int | None = None
    data: dict[str, object] = Field(default_factory=dict)


class PredictRequest(_Request):
    """``POST /predict``; a context (interactive mode) is taken and not needed."""

    tasks: tuple[TaskBody, ...] = ()
    project: Project | None = None
    label_config: str = ""


class WebhookEvent(_Request):
    """``POST /webhook``: only what is needed to know where to look."""

    action: object = ""
    project: object = None

    @property
    def ref(self) -> ProjectRef | None:
        """Which project it is about, or None where it names none."""
        try:
            return ProjectRef.model_validate(_project(self.project))
        except ValueError:  # pydantic's errors are ValueErrors
            return None

    @property
    def label_config(self) -> str | None:
        """The project's label config, where the event carries it."""
        value = self.project.get("label_config") if isinstance(self.project, dict) else None
        return value if isinstance(value, str) else None

    @property
    def each_label_trains(self) -> bool:
        """Whether Label Studio sends START_TRAINING with each label, not for a press only."""
        key = "min_annotations_to_start_training"
        return bool(isinstance(self.project, dict) and self.project.get(key))


class TrainRequest(_Request):
    """``POST /train`` of older releases."""

    project: Project | None = None


class JobRequest(_Request):
    """``POST /job_status``."""

    job: str = Field(min_length=1, max_length=128)


def parse(model: type[Body], raw: bytes) -> Body:
    """A request body as ``model``.

    A JSON string that holds JSON is unpacked: some clients encode twice.

    Raises:
        BadRequest: naming the fields that are wrong, never the values (bodies carry tokens).
    """
    try:
        value = json.loads(raw)
        if isinstance(value, str):
            value = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is not JSON; send a JSON object") from error
    return check(model, value)


def check(model: type[Body], value: object) -> Body:
    """A request body that is parsed already, as ``model``.

    Raises:
        BadRequest: as ``parse`` does.
    """
    if not isinstance(value, dict):
        raise BadRequest(f"the body is a {type(value).__name__}; send a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise BadRequest(f"the body is not what was expected: {wrong}") from error
