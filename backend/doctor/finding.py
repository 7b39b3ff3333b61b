"""What the doctor says: findings, and the report that holds them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

#: error: the rarest are not served first, or nothing is learned. warning: it works, but worse, or
#: not for long. note: worth knowing. ok: looked at and right.
Severity = Literal["ok", "note", "warning", "error"]
EXIT_CODES: dict[Severity, int] = {"ok": 0, "note": 0, "warning": 1, "error": 2}


class Finding(BaseModel):
    """One thing that was looked at. Holds no secrets.

    Attributes:
        code: for machines, such as ``webhook.login``.
        what: what was found; why: why it matters; mend: the exact thing to do.
        project: Label Studio's id, None where it is about the service.
        fixable: ``--fix`` can mend it.
        fixed: whether it did; None where it was not asked to.
        action: what ``--fix`` did, would do, or why it could not.
    """

    model_config = ConfigDict(frozen=True)

    code: str
    severity: Severity
    what: str
    why: str = ""
    mend: str = ""
    project: int | None = None
    fixable: bool = False
    fixed: bool | None = None
    action: str = ""


class Skipped(BaseModel):
    """A check that was not made, since it could only have said the same once more."""

    model_config = ConfigDict(frozen=True)

    check: str
    because: str
    project: int | None = None


class Report(BaseModel):
    """Everything that one run found.

    Attributes:
        findings: in the order of the checks; after ``--fix``, first those that were mended, then
            what is found now.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    label_studio_url: str
    own_url: str
    seconds: float
    findings: tuple[Finding, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    exit_code: int = Field(0, description="0: nothing worse than a note, 1: warnings, 2: errors")


def exit_code(findings: tuple[Finding, ...]) -> int:
    """The worst of what is not mended."""
    return max((EXIT_CODES[f.severity] for f in findings if not f.fixed), default=0)


def ok(code: str, what: str) -> Finding:
    """Looked at, and right."""
    return Finding(code=code, severity="ok", what=what)


def note(code: str, what: str, *, why: str = "", mend: str = "") -> Finding:
    """Worth knowing."""
    return Finding(code=code, severity="note", what=what, why=why, mend=mend)


def warning(code: str, what: str, *, why: str, mend: str) -> Finding:
    """It works, but worse, or not for long."""
    return Finding(code=code, severity="warning", what=what, why=why, mend=mend)


def error(code: str, what: str, *, why: str, mend: str) -> Finding:
    """The rarest are not served first, or nothing is learned."""
    return Finding(code=code, severity="error", what=what, why=why, mend=mend)


def shown(url: str) -> str:
    """An address that may be printed: without a password or a query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else f"{host}{parts.path}"


def ago(seconds: float) -> str:
    """How long ago, in the unit that reads best."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s ago"
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
