"""Settings of one project: the service's, with what the connection's extra params say instead.

Any member of a project writes its extra params, so they are read from Label Studio's API only and
taken key by key: what is wrong is one sentence for `status`, what is right counts all the same.
They are kept in the project's folder (``project_settings.json``), where the web process finds them.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from backend.projects import ProjectStore
from backend.settings import PREFIX, Names, Settings, contradiction, scope_of

FILE: Final = "project_settings.json"

_LONGEST: Final = 20_000
_SHOWN: Final = 60
_MOST_PROBLEMS: Final = 20
#: What Label Studio's settings page makes of an object that somebody set through its API.
_LOST_IN_THE_PAGE: Final = "[object Object]"
#: What a project may say where the environment may name code or files too.
_BY_NAME: Final = {
    "backbone": "the name of a torchvision classifier, cnn4 or resnet32",
    "weights": "DEFAULT or none",
}

Known = Mapping[str, Collection[str]]


class ProjectSettings(BaseModel):
    """What the extra params of a project's connection came to (``project_settings.json``).

    Attributes:
        overrides: the project's own value by field of ``Settings``.
        problems: what was wrong with the rest, one sentence each.
        seen: digests of the extra params of every connection of the project when they were read:
            a /setup that brings others is worth a look.
    """

    model_config = ConfigDict(frozen=True)

    overrides: dict[str, JsonValue] = Field(default_factory=dict)
    problems: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Read:
    """Extra params that were read.

    Attributes:
        overrides: valid values by field.
        problems: what was wrong with the rest, one sentence each.
        lost: nothing of them is left but what the settings page wrote over them.
    """

    overrides: Mapping[str, object]
    problems: tuple[str, ...] = ()
    lost: bool = False


def read_extra_params(raw: object, *, known: Known = MappingProxyType({})) -> Read:
    """The settings in a connection's extra params: an object, or text that holds one.

    Never raises, whatever is found.

    Args:
        raw: as Label Studio has them.
        known: by field, the only names that there are (scorers, for example).
    """
    if isinstance(raw, str):
        if raw.strip() == _LOST_IN_THE_PAGE:
            problem = (
                f"extra params: found {_LOST_IN_THE_PAGE!r}, which Label Studio's settings page "
                "saves in place of an object that was set through its API; the settings from "
                'before stay, write them again, as text such as {"top_k": 100}'
            )
            return Read({}, (problem,), lost=True)
        if len(raw) > _LONGEST:
            return _refused(f"{len(raw)} characters", f"at most {_LONGEST}")
        try:
            raw = json.loads(raw) if raw.strip() else None
        except (ValueError, RecursionError):
            return _refused(_shown(raw), 'a JSON object such as {"top_k": 100}')
    if raw is None:
        return Read({})
    if not isinstance(raw, Mapping):
        return _refused(_shown(raw), 'a JSON object such as {"top_k": 100}')
    if len(_canonical(raw)) > _LONGEST:
        return _refused(f"more than {_LONGEST} characters", "a few settings")
    good: dict[str, object] = {}
    problems: list[str] = []
    for key, value in raw.items():
        try:
            field = _field(str(key))
            if field in good:
                raise ValueError("the same setting stands there twice, expected once")
            good[field] = _value(field, value, known)
        except ValueError as error:
            problems.append(f"extra params: {_shown(str(key))}: {error}")
    if len(problems) > _MOST_PROBLEMS:
        more = len(problems) - _MOST_PROBLEMS
        problems[_MOST_PROBLEMS:] = [f"extra params: {more} further keys are wrong"]
    return Read(MappingProxyType(good), tuple(problems))


def merge(service: Settings, overrides: Mapping[str, object]) -> tuple[Settings, tuple[str, ...]]:
    """The service's settings with a project's own.

    Returns:
        The settings, and what the two say against each other: a project's settings that take
        part in a contradiction are left out.
    """
    merged = service.model_copy(update=dict(overrides))
    problem, fields = contradiction(merged)
    if not problem:
        return merged, ()
    left = {name: value for name, value in overrides.items() if name not in fields}
    named = ", ".join(sorted(fields & set(overrides)))
    return service.model_copy(update=left), (f"extra params: {problem}; not taken: {named}",)


def decide(
    service: Settings,
    raw: object,
    *,
    known: Known,
    seen: tuple[str, ...],
    before: ProjectSettings | None,
) -> ProjectSettings:
    """What is to be kept of a connection's extra params.

    Args:
        service: the service's settings.
        raw: the extra params of our connection.
        known: see ``read_extra_params``.
        seen: digests of the extra params of all connections of the project.
        before: what was kept before; it stays where ``raw`` lost what it held.
    """
    read = read_extra_params(raw, known=known)
    if read.lost and before is not None:
        return ProjectSettings(overrides=before.overrides, problems=read.problems, seen=seen)
    merged, contradictions = merge(service, read.overrides)
    overrides = {
        name: _json(value)
        for name, value in read.overrides.items()
        if getattr(merged, name) == value
    }
    return ProjectSettings(
        overrides=overrides, problems=(*read.problems, *contradictions), seen=seen
    )


def kept(store: ProjectStore) -> ProjectSettings | None:
    """What was kept at the last look, None before the first."""
    path = store.path(FILE)
    try:
        mark = path.stat()
    except OSError:
        return None
    return _kept(store.root, mark.st_mtime_ns, mark.st_ino)


def effective(service: Settings, store: ProjectStore) -> Settings:
    """The settings that count for a project; what cannot be read any more changes nothing."""
    found = kept(store)
    if found is None or not found.overrides:
        return service
    return merge(service, _typed(found.overrides))[0]


def digest(raw: object) -> str:
    """Tells extra params from others; the same in Label Studio's API and in its /setup."""
    return hashlib.sha256(_canonical(raw).encode(errors="replace")).hexdigest()[:16]


@functools.lru_cache(maxsize=256)
def _kept(root: Path, mtime_ns: int, inode: int) -> ProjectSettings | None:
    """Read once for each time the file was written (it is replaced, never changed)."""
    return ProjectStore(root).read(FILE, ProjectSettings)


def _typed(overrides: Mapping[str, JsonValue]) -> dict[str, object]:
    """Values from the file; one that a newer release no longer takes is left out."""
    values: dict[str, object] = {}
    for name, value in overrides.items():
        try:
            field = _field(name)
            values[field] = _value(field, value, {})
        except ValueError:
            continue
    return values


def _refused(found: str, expected: str) -> Read:
    return Read({}, (f"extra params: found {found}, expected {expected}",))


def _field(key: str) -> str:
    """The field that a key names: ``RAREFIRST_TOP_K``, ``top_k``, in any letter case.

    Raises: ValueError: there is none, or it is not a project's to set.
    """
    name = key.strip().casefold().removeprefix(PREFIX.casefold())
    info = Settings.model_fields.get(name) or _by_alias().get(name)
    if info is None:
        mine = [field for field, one in Settings.model_fields.items() if scope_of(one) != "service"]
        close = difflib.get_close_matches(name[:_SHOWN], mine, n=1)
        raise ValueError("no such setting" + (f"; is {close[0]} meant?" if close else ""))
    if scope_of(info) == "service":
        raise ValueError(
            "is a setting of the whole service, expected one of a project; it is set in the "
            "environment of rarefirst"
        )
    return name


@functools.cache
def _by_alias() -> Mapping[str, FieldInfo]:
    """Settings by the names without a prefix that the environment knows, such as ``port``."""
    found: dict[str, FieldInfo] = {}
    for info in Settings.model_fields.values():
        choices = getattr(info.validation_alias, "choices", ())
        found |= {str(choice).casefold(): info for choice in choices}
    return found


def _value(field: str, value: object, known: Known) -> object:
    """A value as the environment would give it.

    Raises: ValueError: saying what was found and what was expected.
    """
    info = Settings.model_fields[field]
    try:
        found = _adapter(field).validate_python(_plain(info, value))
    except (ValueError, ValidationError) as error:
        raise ValueError(f"found {_shown(value)}, expected {_expected(info)}") from error
    if unfit := _unfit(found):
        raise ValueError(f"found {_shown(value)}, expected {_expected(info)}, {unfit}")
    if scope_of(info) == "project, by name" and not _is_name(field, str(found)):
        raise ValueError(
            f"found {_shown(value)}, expected {_BY_NAME[field]}; code and files are named in the "
            "environment of rarefirst only"
        )
    if field in known and found not in known[field]:
        close = difflib.get_close_matches(str(found), known[field], n=3, cutoff=0.5)
        names = ", ".join(close or list(known[field])[:10])
        raise ValueError(f"found {_shown(value)}, which is not known, expected such as {names}")
    return found


def _unfit(value: object) -> str:
    """What keeps a valid value from being kept as JSON in UTF-8, empty where nothing does."""
    if isinstance(value, float) and not math.isfinite(value):
        return "finite"
    for text in value if isinstance(value, tuple) else (value,):
        try:
            str(text).encode()
        except UnicodeEncodeError:
            return "without halves of surrogate pairs, which UTF-8 has no bytes for"
    return ""


def _plain(info: FieldInfo, value: object) -> object:
    """What pydantic's lenient mode then reads as it reads text of the environment.

    Raises: ValueError: for what no variable could say.
    """
    names = info.annotation == _NAMES
    if value is None or (isinstance(value, str) and not value.strip()):
        if info.default in (None, "", ()):
            return info.default
        raise ValueError("nothing")
    if isinstance(value, bool):
        if info.annotation is not bool:
            raise ValueError("a truth value")
        return value
    if isinstance(value, int | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("no finite number")
        return (str(value),) if names else str(value) if info.annotation is str else value
    if isinstance(value, str):
        return value if names else value.strip()
    if isinstance(value, list | tuple) and names:
        return tuple(text for item in value if (text := _name(item)))
    raise ValueError("neither text nor a number")


def _name(item: object) -> str:
    """One name of a list; digits are names too.

    Raises: ValueError: for anything that is neither text nor a whole number.
    """
    if isinstance(item, bool) or not isinstance(item, str | int):
        raise ValueError("not a name")
    return str(item).strip()


_NAMES: Final = get_args(Names)[0]


@functools.cache
def _adapter(field: str) -> TypeAdapter[object]:
    info = Settings.model_fields[field]
    kind = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    made: TypeAdapter[object] = TypeAdapter(kind)  # type: ignore[arg-type]  # built at run time
    return made


def _is_name(field: str, value: str) -> bool:
    """Whether a value can be neither code nor a file."""
    if field == "weights":
        return value in {"DEFAULT", "none"}
    return value.isidentifier() and value.isascii()


def _expected(info: FieldInfo) -> str:
    """What a field takes, in words."""
    kinds = [kind for kind in get_args(info.annotation) or (info.annotation,) if kind is not None]
    if get_origin(info.annotation) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(info.annotation))
    if info.annotation == _NAMES:
        return 'names, as in ["a", "b"] or "a, b"'
    words = {int: "a whole number", float: "a number", bool: "true or false"}
    what = next((words[kind] for kind in kinds if kind in words), "text")
    bounds = []
    for limit in info.metadata:
        if isinstance(limit, Ge):
            bounds.append(f"at least {limit.ge}")
        elif isinstance(limit, Gt):
            bounds.append(f"above {limit.gt}")
        elif isinstance(limit, Le):
            bounds.append(f"at most {limit.le}")
        elif isinstance(limit, Lt):
            bounds.append(f"below {limit.lt}")
    return ", ".join([what, *bounds])


def _canonical(raw: object) -> str:
    try:
        return json.dumps(raw, sort_keys=True, default=str)
    except (ValueError, TypeError, RecursionError):
        return "unreadable"


def _json(value: object) -> JsonValue:
    found: JsonValue = json.loads(json.dumps(value))
    return found


def _shown(value: object) -> str:
    """A value in a sentence: never more than a glimpse of it."""
    if isinstance(value, str):
        text = json.dumps(value[: 2 * _SHOWN], ensure_ascii=False)
        text = text.encode(errors="backslashreplace").decode()
    else:
        text = _canonical(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
