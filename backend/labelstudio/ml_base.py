"""`RareFirst`: our service as a model of the official server (label-studio-ml 2.x).

For those who must run ``label-studio-ml start`` or gunicorn with a ``_wsgi.py`` of theirs. The
official server cuts the creation time off the project and wraps what a model returns; so the
request is read here once more, by the same code as in our own app, and answered by the same
services. Nothing is computed and nothing kept here: the worker runs beside it as ever.

Only this module and ``_wsgi.py`` import the official package, which is not on the package index.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache

from flask import abort, has_request_context, jsonify, request

from backend import events
from backend.errors import BackendError
from backend.jobs import Jobs
from backend.metrics import Metrics
from backend.routes.services import Services
from backend.schemas import PredictRequest, SetupRequest, WebhookEvent, check
from backend.scoring import Result, Scoring
from backend.settings import Settings

INSTALL = (
    "pip install colorama semver && pip install --no-deps 'label-studio-ml @ "
    "git+https://github.com/HumanSignal/label-studio-ml-backend"
    "@d02cedf35d0e5d21f2f437c120174c62f66bf57a'"
)

try:
    from label_studio_ml.exceptions import AnswerException
    from label_studio_ml.model import LabelStudioMLBase
    from label_studio_ml.response import ModelResponse  # noqa: F401  (1.x has no such module)
except ModuleNotFoundError as missing:
    raise ImportError(
        f"label-studio-ml 2.x cannot be imported, there is no module {missing.name!r} "
        f"(1.x, which the package index has, will not do); install it with: {INSTALL}",
        name=missing.name,
    ) from missing

logger = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def services() -> Services:
    """What the model answers with: one set a process, made on first need, from the environment."""
    settings = Settings()
    jobs = Jobs(settings)
    return Services(settings, jobs, Scoring(settings, jobs), Metrics(settings))


class RareFirst(LabelStudioMLBase):  # type: ignore[misc]  # the package has no types
    """Answers as our own app does; the official server makes one for each request.

    Args:
        project_id: what the official server left of the project: its id.
        label_config: the request's label config.
    """

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self._kept: dict[str, str] = {}
        super().__init__(project_id=project_id, label_config=label_config)

    # What the official server calls -----------------------------------------------------------

    def predict(
        self,
        tasks: Sequence[Mapping[str, object]] | None,
        context: Mapping[str, object] | None = None,
        **params: object,
    ) -> list[Result]:
        """One result for each task, in order; context and parameters are taken and not needed."""
        with _refusals():
            asked = check(PredictRequest, self._asked(tasks=tasks))
            return services().scoring.predict(asked)

    def fit(
        self, event: str, data: Mapping[str, object], **additional_params: object
    ) -> dict[str, str]:
        """Take note of what happened; work is done elsewhere.

        In a request the answer is given here and now: the official server would wrap it, and
        Label Studio would not find the ``job`` in it that it asks /job_status about.
        """
        taken = events.take(services().jobs, check(WebhookEvent, {**data, "action": event}))
        if has_request_context():
            abort(jsonify(taken))
        return taken

    def get(self, key: str) -> str | None:
        """What was kept under a key. /setup asks for ``model_version``: the published one."""
        if key != "model_version":
            return self._kept.get(key)
        with _refusals():
            return events.setup(services().jobs, check(SetupRequest, self._asked()))

    # What the base class would keep in a database of its own -----------------------------------

    def set(self, key: str, value: str) -> None:
        """Keep a value for this request: everything that lasts lies in the data directory."""
        self._kept[key] = value

    def has(self, key: str) -> bool:
        """Whether there is a value under a key."""
        return key == "model_version" or key in self._kept

    def use_label_config(self, label_config: str) -> None:
        """Keep the label config as it came: one that cannot be read must not refuse a request."""
        self.set("label_config", label_config)

    def set_extra_params(self, extra_params: object) -> None:
        """Keep the connection's extra params, which come as text or as an object."""
        text = extra_params if isinstance(extra_params, str) else json.dumps(extra_params)
        self.set("extra_params", text)

    @property
    def model_version(self) -> str:
        """The published name; the base class asks for it before it knows what is wanted."""
        jobs = services().jobs
        project = WebhookEvent(project=self._asked().get("project")).ref
        store = jobs.store(project.id, project.created_s) if project is not None else None
        return events.published_name(jobs, store)

    def _asked(self, **given: object) -> dict[str, object]:
        """The request's body with the given arguments in it; without a request, those alone.

        The body says when the project was created; the official server passes on its id only,
        which a rebuilt database uses again.
        """
        body = request.get_json(silent=True) if has_request_context() else None
        if not isinstance(body, dict):
            body = {"project": self.project_id or None, "label_config": self.label_config or ""}
        return {**body, **{name: value for name, value in given.items() if value is not None}}


@contextmanager
def _refusals() -> Iterator[None]:
    """Have the official server answer our errors with their status and without a traceback.

    It logs the whole chain of exceptions; without a cause, since pydantic's errors hold values.
    """
    try:
        yield
    except BackendError as error:
        if not has_request_context():
            raise
        logger.warning("%s %s: %s", request.method, request.path, error)
        raise _refusal(error.http_status, error.code, str(error)) from None
    except Exception:
        # A defect of ours, whatever its kind: left alone, its traceback would go to the client.
        if not has_request_context():
            raise
        logger.exception("%s %s failed", request.method, request.path)
        raise _refusal(500, "internal_error", "something failed here; see the log") from None


def _refusal(status: int, code: str, message: str) -> Exception:
    # The official server fills in a traceback where there is none: the log is the place for it.
    refusal: Exception = AnswerException(status, message, {"code": code, "traceback": ""})
    return refusal
