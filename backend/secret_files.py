"""Secrets by file: ``NAME_FILE`` names a file that holds what ``NAME`` would say.

So do the images of databases, and compose and Kubernetes hand secrets over as files: what is in
the environment of a container, everybody reads who may inspect it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

SUFFIX = "_FILE"
_LARGEST = 10_000


@dataclass(frozen=True)
class SecretFile:
    """A secret that is not read yet: the setting's validator does, so that errors name it.

    Attributes:
        variable: the variable that holds the secret where no file does.
        path: the file.
        twice: that variable is set too.
    """

    variable: str
    path: Path
    twice: bool

    def read(self) -> str:
        """The secret, without the line break that editors add.

        Raises: ValueError: it cannot be told which secret is meant.
        """
        names = f"{self.variable}{SUFFIX}={self.path}"
        if self.twice:
            raise ValueError(f"found both {self.variable} and {names}, expected one of them")
        try:
            with self.path.open("rb") as file:
                text = file.read(_LARGEST + 1).decode().strip()
        except OSError as error:
            raise ValueError(
                f"{names} cannot be read: {error.strerror}; the file must be readable by user "
                f"{os.geteuid()}"
            ) from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{names} holds no text, expected one line") from error
        if not text or len(text) > _LARGEST or "\n" in text:
            found = "nothing" if not text else "more than one line"
            raise ValueError(f"{names} holds {found}, expected one line with the secret")
        return text


class SecretFiles(PydanticBaseSettingsSource):
    """Finds ``NAME_FILE`` for every setting that is a secret (not shown in its ``repr``)."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The file of one setting, or None."""
        choices = field.validation_alias
        names = [str(name) for name in choices.choices] if isinstance(choices, AliasChoices) else []
        for name in names:
            path = os.environ.get(name + SUFFIX)
            if path and not field.repr:
                twice = any(os.environ.get(other) for other in names)
                return SecretFile(name, Path(path), twice), name, False
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """The files of all settings, by the name of the variable."""
        found = {}
        for field_name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, field_name)
            if value is not None:
                found[key] = value
        return found
