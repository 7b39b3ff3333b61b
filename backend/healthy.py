"""Whether the service is well, for whoever may restart it: containers, probes, init systems."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import requests
from pydantic import BaseModel

from backend.heartbeat import STALE_S, heartbeat_age_s
from backend.settings import Settings


class Health(BaseModel):
    """How the parts that were asked for are.

    Attributes:
        well: nothing is wrong.
        wrong: a sentence for each part that is not well.
    """

    well: bool
    wrong: list[str]


_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_PATIENCE_S = 5.0


def _web(settings: Settings) -> str:
    host = _ANYWHERE.get(settings.host, settings.host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/health"
    with requests.Session() as session:
        session.trust_env = False  # a proxy has no business between us and ourselves
        try:
            status = session.get(url, timeout=_PATIENCE_S).status_code
        except requests.RequestException as error:
            return f"web: {url} does not answer ({type(error).__name__})"
    return "" if status == requests.codes.ok else f"web: {url} answers {status}, expected 200"


def _worker(settings: Settings) -> str:
    age = heartbeat_age_s(settings.data_dir)
    if age is None:
        return f"worker: it does not run on {settings.data_dir}"
    if age >= STALE_S:
        return (
            f"worker: its last sign of life came {age:.0f} s ago, expected less than {STALE_S:.0f}"
        )
    return ""


#: What can be asked for, by name.
CHECKS: Final[dict[str, Callable[[Settings], str]]] = {"web": _web, "worker": _worker}


def health_of(settings: Settings, parts: Iterable[str]) -> Health:
    """How these parts are, as far as this machine tells."""
    wrong = [said for part in parts if (said := CHECKS[part](settings))]
    return Health(well=not wrong, wrong=wrong)
