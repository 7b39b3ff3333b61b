"""Everything that can go wrong in the service, with what to answer and whether to try again.

    BackendError
    ├── MissingConfiguration        a setting that is needed is not set
    ├── DataFormatRefused           the data directory is a later version's
    ├── BadRequest                  a client sent us something that we cannot read
    │   └── RequestTooLarge
    ├── ForeignRequest              a button of the dashboard, pressed by another site
    ├── NoLogin                     a button of the dashboard, where no login guards it
    ├── LabelStudioError
    │   ├── LabelStudioUnavailable  refused, timed out, 5xx, 429: try again later
    │   └── LabelStudioRefused      4xx: trying again changes nothing
    │       ├── Unauthorized        the token is dead, disabled, or of the wrong kind
    │       ├── AddressBlocked      Label Studio does not talk to our address
    │       ├── AddressUnusable     Label Studio takes no address of such a form
    │       └── NotFound
    │           └── ProjectGone     the project was deleted, or is of another organization
    │               └── ProjectReplaced  a rebuilt database gave its id to another project
    ├── ConnectionIncomplete        connected, but events or scores would not arrive
    ├── NotConnected                the project has no connection to us
    ├── Busy                        a round of the project is running
    ├── VersionRefused              a version that cannot be served, or must not be deleted
    ├── FinetuneRefused             a fine-tune that cannot be begun or ended as things are
    ├── UnsupportedLabelConfig      the label config is not one that we can serve
    ├── MediaError                  an image that cannot be had
    │   └── NoAnswer                whoever has it is silent, or too slow
    └── PublishError                Label Studio did not take the scores

Each has a ``code`` for machines and the ``http_status`` that our own endpoints answer with.
"""

# ruff: noqa: N818 -- a name says what happened ("NotFound"); "Error" after it would add nothing.

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

_TAGS_SHOWN = 20
_REASON_SHOWN = 1000


def shortened(text: str) -> str:
    """A reason that somebody else had a hand in, no longer than a person reads."""
    return text if len(text) <= _REASON_SHOWN else f"{text[: _REASON_SHOWN - 3]}..."


class BackendError(Exception):
    """Root of all errors of the service."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500


class MissingConfiguration(BackendError):
    """Settings that are needed are not set.

    Attributes:
        names: the environment variables.
    """

    code = "missing_configuration"
    http_status = 503

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        super().__init__(f"not set: {', '.join(self.names)}; set them and start again")


class DataFormatRefused(BackendError):
    """A data directory that a later version wrote, or whose number cannot be read."""

    code = "data_format"
    http_status = 503


class BadRequest(BackendError):
    """A request that is not what the protocol says."""

    code = "bad_request"
    http_status = 400


class RequestTooLarge(BadRequest):
    """A request body over the limit."""

    code = "request_too_large"
    http_status = 413


class ForeignRequest(BackendError):
    """A press of a button of the dashboard that did not come from our own page."""

    code = "foreign_request"
    http_status = 403


class NoLogin(BackendError):
    """A button where no login is asked for: nobody can be told from anybody."""

    code = "no_login"
    http_status = 403


class LabelStudioError(BackendError):
    """Label Studio did not do what was asked."""

    code = "label_studio"
    http_status = 502


class LabelStudioUnavailable(LabelStudioError):
    """Label Studio cannot be reached or is in trouble; later it may work."""

    code = "label_studio_unavailable"
    http_status = 503


class LabelStudioRefused(LabelStudioError):
    """Label Studio refused the request.

    Attributes:
        status: its HTTP status.
        detail: what it said.
    """

    code = "label_studio_refused"

    def __init__(self, message: str, *, status: int, detail: str = "") -> None:
        self.status = status
        self.detail = detail
        super().__init__(message)


class Unauthorized(LabelStudioRefused):
    """Label Studio does not accept the token."""

    code = "label_studio_unauthorized"


class AddressBlocked(LabelStudioRefused):
    """Label Studio refuses to talk to an address on a reserved network."""

    code = "address_blocked"


class AddressUnusable(LabelStudioRefused):
    """Label Studio takes no address of this form, such as one of a host without a dot."""

    code = "address_unusable"


class NotFound(LabelStudioRefused):
    """Label Studio knows no such thing."""

    code = "label_studio_not_found"
    http_status = 404


class ProjectGone(NotFound):
    """The project was deleted, or belongs to an organization that the token cannot see.

    Attributes:
        project_id: which.
    """

    code = "project_gone"
    http_status = 404

    def __init__(self, project_id: int) -> None:
        self.project_id = project_id
        super().__init__(
            f"Label Studio has no project {project_id} that this token can see", status=404
        )


class ProjectReplaced(ProjectGone):
    """Another project has this id now: Label Studio's database was rebuilt.

    Attributes:
        project_id: the id that both have.
    """

    code = "project_replaced"

    def __init__(self, project_id: int, *, was: int, now: int) -> None:
        super().__init__(project_id)
        self.args = (
            f"project {project_id} of Label Studio was created at {now} (Unix seconds), the one "
            f"of this folder at {was}: another project has its id now",
        )


class ConnectionIncomplete(BackendError):
    """The project is connected, but something that the loop needs is missing."""

    code = "connection_incomplete"
    http_status = 409


class NotConnected(BackendError):
    """The project has no connection to us: it was deleted, or never made."""

    code = "not_connected"
    http_status = 409


class Busy(BackendError):
    """A round of the project is running and holds it."""

    code = "busy"
    http_status = 409


class VersionRefused(BackendError):
    """A version that cannot be served again, or that is needed and must not be deleted."""

    code = "version_refused"
    http_status = 409


class FinetuneRefused(BackendError):
    """A fine-tune that cannot be begun, or ended, as things are."""

    code = "finetune_refused"
    http_status = 409


class UnsupportedLabelConfig(BackendError):
    """A label config that no task type serves.

    Attributes:
        found: tags of the config.
        supported: combinations of tags that we serve.
    """

    code = "unsupported_label_config"
    http_status = 422

    def __init__(self, reason: str, *, found: Iterable[str], supported: Iterable[str]) -> None:
        self.found = tuple(found)
        self.supported = tuple(supported)
        shown = ", ".join(self.found[:_TAGS_SHOWN]) or "none"
        if len(self.found) > _TAGS_SHOWN:
            shown += f" and {len(self.found) - _TAGS_SHOWN} more"
        super().__init__(
            f"{shortened(reason)}; tags found: {shown}; supported: {', or '.join(self.supported)}"
        )


class MediaError(BackendError):
    """An image that cannot be fetched.

    Attributes:
        reason: why, without the address's query string.
        retryable: whether another try may succeed without anybody changing anything.
    """

    code = "media"
    http_status = 422

    def __init__(self, reason: str, *, retryable: bool = False) -> None:
        self.reason = reason
        self.retryable = retryable
        super().__init__(reason)


class NoAnswer(MediaError):
    """Whoever has the image is silent, or too slow, which says nothing about the image."""

    code = "media_no_answer"
    http_status = 504

    def __init__(self, reason: str) -> None:
        super().__init__(reason, retryable=True)


class PublishError(BackendError):
    """Label Studio did not store the scores that were sent."""

    code = "publish"
    http_status = 502
