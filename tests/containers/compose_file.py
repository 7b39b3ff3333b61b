"""docker/compose.yaml as compose reads it, and a service of it as a process of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker" / "compose.yaml"

# ${NAME}, ${NAME:-default}; $$ is a dollar.
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\})")


def read_compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The whole file, variables put in.

    Raises: KeyError: a variable has no value and no default.
    """
    found: dict[str, Any] = _put_in(yaml.safe_load(COMPOSE.read_text()), variables or {})
    return found


@dataclass(frozen=True)
class Process:
    """What a container of a service runs.

    Attributes:
        command: entry point and arguments.
        environment: the variables that the file sets.
    """

    command: list[str]
    environment: dict[str, str]

    def here(self, places: Mapping[str, str]) -> Process:
        """The same where addresses and paths of the containers are others on this machine.

        ``places`` maps beginnings of theirs to ours; the longest one counts.
        """

        def put(text: str) -> str:
            for theirs in sorted(places, key=len, reverse=True):
                if text.startswith(theirs):
                    return places[theirs] + text.removeprefix(theirs)
            return text

        return Process(
            [put(word) for word in self.command],
            {name: put(value) for name, value in self.environment.items()},
        )


def process_of(service: Mapping[str, Any]) -> Process:
    """What a container of a service runs; values are text, as the environment's are."""
    environment = {name: str(value) for name, value in service.get("environment", {}).items()}
    return Process([*service.get("entrypoint", []), *service.get("command", [])], environment)


def secrets_of(compose: Mapping[str, Any], service: Mapping[str, Any]) -> dict[str, str]:
    """The secrets of a service: path in the container to file beside the compose file."""
    return {f"/run/secrets/{name}": compose["secrets"][name]["file"] for name in service["secrets"]}


def _put_in(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _put_in(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_in(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def put(match: re.Match[str]) -> str:
        if match["name"] is None:
            return "$"
        # `:-`: the default also stands in for an empty variable.
        found = variables.get(match["name"]) or match["default"]
        if found is None:
            raise KeyError(match["name"])
        return found

    return _VARIABLE.sub(put, value)
