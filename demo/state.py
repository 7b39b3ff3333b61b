"""What the demo remembers between runs: its logins and its project."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from demo.label_studio_process import Login


@dataclass(frozen=True)
class DemoState:
    """Credentials made up on the first start, and the project once it is there.

    Attributes:
        password: of the Label Studio user.
        token: API token of the same user.
        backend_password: basic-auth password of our service.
        project: Label Studio's project id, or None before it is made.
        rare: what is rare in that project.
        mark: stands in the description of the project, and here before the project is made: a run
            that was killed in between finds it again.
        tips: what a person should look at in that project.
    """

    password: str
    token: str
    backend_password: str
    project: int | None = None
    rare: tuple[str, ...] = ()
    mark: str = ""
    tips: tuple[str, ...] = ()

    @property
    def login(self) -> Login:
        """The Label Studio user."""
        return Login("demo@example.com", self.password, self.token)


def fresh_state() -> DemoState:
    """New credentials."""
    return DemoState(
        secrets.token_hex(6),
        secrets.token_hex(20),
        secrets.token_hex(18),
        mark=secrets.token_hex(8),
    )


def load_state(path: Path) -> DemoState | None:
    """What the run before remembered; None where there is nothing usable."""
    try:
        stored = json.loads(path.read_text())
        return replace(
            DemoState(**stored), rare=tuple(stored["rare"]), tips=tuple(stored.get("tips", ()))
        )
    except (FileNotFoundError, json.JSONDecodeError, TypeError, KeyError):
        return None


def save_state(path: Path, state: DemoState) -> None:
    """Remember; readable by this user alone, since it holds credentials."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(asdict(state), indent=2))
    partial.rename(path)
