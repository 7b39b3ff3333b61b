"""A version that a person activated: while it is pinned the loop goes on with it and fits nothing.

pinned.json     the version a person wants; the loop brings it about and keeps to it
released.json   why the loop gave a pinned version up by itself, until a person says what next
"""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from backend.projects import ProjectStore

_PINNED, _RELEASED = "pinned.json", "released.json"


class Pinned(BaseModel):
    """A version that a person activated."""

    model_config = ConfigDict(frozen=True)

    version: str
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class Released(BaseModel):
    """Why a pinned version was given up."""

    model_config = ConfigDict(frozen=True)

    version: str
    why: str
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


def pinned(store: ProjectStore) -> Pinned | None:
    """The version that a person wants, None where the loop follows the labels."""
    return store.read(_PINNED, Pinned)


def pin(store: ProjectStore, version: str) -> Pinned:
    """A person wants this version: whatever else was wished before is over."""
    mark = store.hint_mark("force_fit")
    made = Pinned(version=version)
    store.write(_PINNED, made)
    store.path(_RELEASED).unlink(missing_ok=True)
    # Only once the wish is on disk, and only that press: one that came meanwhile is the newer wish.
    if mark is not None:
        store.take_hint("force_fit", mark)
    return made


def follow(store: ProjectStore) -> Pinned | None:
    """A person wants the loop to fit again; returns what was pinned."""
    was = pinned(store)
    for name in (_PINNED, _RELEASED):
        store.path(name).unlink(missing_ok=True)
    return was


def release(store: ProjectStore, version: str, why: str) -> None:
    """A pinned version cannot be served any more: say so, and follow the labels again.

    Where a person pinned another one meanwhile, that one stays.
    """
    was = pinned(store)
    if was is not None and was.version == version:
        store.write(_RELEASED, Released(version=was.version, why=why))
        store.path(_PINNED).unlink(missing_ok=True)


def released(store: ProjectStore) -> str:
    """What to tell of a pinned version that was given up; empty where there is none."""
    found = store.read(_RELEASED, Released)
    if found is None:
        return ""
    return f"{found.version} is not pinned any more, the loop fits again: {found.why}"
