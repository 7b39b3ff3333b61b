"""From Label Studio's JSON to records, with a sentence where it is not what was expected.

The answer itself never goes into a message: it may carry tokens and passwords.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic import ValidationError

from backend.errors import LabelStudioUnavailable
from backend.labelstudio.records import Record

R = TypeVar("R", bound=Record)


def parse_record(record: type[R], answer: Mapping[str, object]) -> R:
    """The record that an answer holds.

    Raises:
        LabelStudioUnavailable: fields are missing or of another type; names them.
    """
    try:
        return record.model_validate(answer)
    except ValidationError as error:
        fields = sorted({".".join(map(str, item["loc"])) for item in error.errors()})
        raise LabelStudioUnavailable(
            f"Label Studio's answer is no {record.__name__}: {', '.join(fields[:5])} missing or "
            "of another type; rarefirst is tested with Label Studio 1.23.2"
        ) from error


def rows_of(answer: object) -> list[Mapping[str, object]]:
    """The objects of a list; empty where the answer is no list."""
    if not isinstance(answer, Iterable) or isinstance(answer, str | bytes | Mapping):
        return []
    return [row for row in answer if isinstance(row, Mapping)]


def id_of(row: Mapping[str, object]) -> int:
    """The row's ``id``."""
    value = row.get("id")
    if not isinstance(value, int):
        raise LabelStudioUnavailable("Label Studio's answer lacks an id")
    return value
