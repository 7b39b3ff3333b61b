"""The README's table of settings, written from the settings themselves.

.venv/bin/python docs/settings_table.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from backend.settings import PREFIX, Scope, Settings, scope_of
from docs.marked_table import replaced

README: Final = Path(__file__).resolve().parent.parent / "README.md"
START: Final = "<!-- settings -->"
END: Final = "<!-- /settings -->"
_IN_A_PROJECT: Final[dict[Scope, str]] = {
    "service": "",
    "project": "yes",
    "project, by name": "by name",
}


def table() -> str:
    """One line a setting, in the order of ``backend/settings.py``."""
    lines = ["| variable | default | project | meaning |", "|---|---|---|---|"]
    for field, info in Settings.model_fields.items():
        names = " or ".join(f"`{name}`" for name in names_of(field, info))
        project = _IN_A_PROJECT[scope_of(info)]
        lines.append(f"| {names} | {_default(info)} | {project} | {info.description} |")
    return "\n".join(lines)


def names_of(field: str, info: FieldInfo) -> list[str]:
    """The environment variables of a setting, without the prefixed twin of a well-known one."""
    prefixed = PREFIX + field.upper()
    if not isinstance(info.validation_alias, AliasChoices):
        return [prefixed]
    choices = [str(choice) for choice in info.validation_alias.choices]
    return [name for name in choices if name == choices[0] or name != prefixed]


def with_table(text: str) -> str:
    """The README's text with a table that is current.

    Raises: ValueError: where a marker is missing or stands twice.
    """
    return replaced(text, START, END, table(), file=README.name)


def _default(info: FieldInfo) -> str:
    value = info.default
    if value in ("", (), None):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
    sys.stdout.write(f"{README}: the table of settings is current\n")
