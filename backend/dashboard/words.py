"""How numbers and times are written on the pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from pydantic import JsonValue


def share(value: float | None) -> str:
    """A share as per cent."""
    if value is None:
        return "not known"
    percent = 100 * value
    return f"{percent:.1f} %" if 0 < percent < 10 else f"{percent:.0f} %"


def figure(value: JsonValue) -> str:
    """Any value of a card: numbers with three places that count, lists in words."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, list):
        return ", ".join(figure(item) for item in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {figure(item)}" for name, item in value.items())
    return str(value)


def amount(value: float) -> str:
    """A number of things that need not be whole."""
    return f"{value:.1f}" if 0 < value < 10 else f"{value:.0f}"


def ago(when: datetime | None) -> str:
    """How long ago, or in how long."""
    if when is None:
        return "never"
    seconds = (datetime.now(UTC) - when).total_seconds()
    words = duration(abs(seconds))
    return f"{words} ago" if seconds >= 0 else f"in {words}"


def due(when: datetime) -> str:
    """When something is done that waits for its time."""
    return "soon" if when <= datetime.now(UTC) else ago(when)


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def moment(when: datetime | None) -> str:
    """Day and time by this machine's clock."""
    return f"{when.astimezone():%F %R}" if when is not None else ""


#: Names in templates.
FILTERS: Mapping[str, Callable[..., str]] = MappingProxyType(
    {
        "share": share,
        "figure": figure,
        "amount": amount,
        "ago": ago,
        "due": due,
        "duration": duration,
        "moment": moment,
    }
)
