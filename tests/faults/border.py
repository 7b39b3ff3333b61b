"""What may go wrong at the border: spoilers for the proxies around the service.

A spoiler is asked for every request that passes. It answers in the other end's place, or passes
the request on and mistreats the answer; what it does not care for is forwarded as it is.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence

import requests

from tests.e2e.stall_proxy import Exchange

_IMPORT = "/import/predictions"
_WEBHOOK = "/webhook"


class Share:
    """Spoils a share of the requests, drawn with a seed.

    Attributes:
        spoilt: how many were.
    """

    def __init__(self, rng: random.Random, share: float) -> None:
        self._rng = rng
        self._share = share
        self._lock = threading.Lock()
        self.spoilt = 0

    def __call__(self, exchange: Exchange) -> bool:
        with self._lock:
            hit = self._rng.random() < self._share
            self.spoilt += hit
            early = self._rng.random() < 0.5
        return hit and self.spoil(exchange, early)

    def spoil(self, exchange: Exchange, early: bool) -> bool:
        """Answer it; ``early`` is a coin. Returns: whether it was answered."""
        raise NotImplementedError


class ServerError(Share):
    """500, before or after Label Studio did what was asked."""

    def spoil(self, exchange: Exchange, early: bool) -> bool:
        if not early:
            exchange.ask()
        exchange.answer(500, b'{"detail": "injected"}', {"Content-Type": "application/json"})
        return True


class Refusal(Share):
    """401, as a token gets that was just revoked."""

    def spoil(self, exchange: Exchange, early: bool) -> bool:
        said = b'{"detail": "Invalid token.", "status_code": 401}'
        exchange.answer(401, said, {"Content-Type": "application/json"})
        return True


class Slowness(Share):
    """Each answer comes late."""

    def spoil(self, exchange: Exchange, early: bool) -> bool:
        time.sleep(0.6)
        return False


class Truncation(Share):
    """Half of the answer: cut off in the middle, or half a JSON that looks complete."""

    def spoil(self, exchange: Exchange, early: bool) -> bool:
        answer = exchange.ask()
        half = answer.content[: len(answer.content) // 2]
        promised = len(answer.content) if early else None
        exchange.answer(answer.status_code, half, answer.headers, promised=promised)
        return True


class Resets(Share):
    """The connection is torn down, before or after Label Studio did what was asked."""

    def spoil(self, exchange: Exchange, early: bool) -> bool:
        if not early:
            exchange.ask()
        exchange.reset()
        return True


class WrongCreated:
    """The answer to an import of scores counts wrongly: none, too few, too many, or no number."""

    def __init__(self, rng: random.Random) -> None:
        self._lies: Sequence[object] = rng.sample([0, 1, 10_000, None, "many"], 5)
        self.spoilt = 0

    def __call__(self, exchange: Exchange) -> bool:
        if _IMPORT not in exchange.path:
            return False
        answer = exchange.ask()
        if answer.status_code >= 300:
            exchange.answer(answer.status_code, answer.content, answer.headers)
            return True
        lie = self._lies[self.spoilt % len(self._lies)]
        self.spoilt += 1
        told = json.dumps({**answer.json(), "created": lie}).encode()
        exchange.answer(answer.status_code, told, answer.headers)
        return True


class Webhooks:
    """Events on their way from Label Studio to the web process.

    Attributes:
        seen: events by what became of them.
    """

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> bool:
        if not exchange.path.endswith(_WEBHOOK):
            return False
        self.treat(exchange)
        return True

    def treat(self, exchange: Exchange) -> None:
        """Do something with an event, and answer."""
        raise NotImplementedError

    def end(self) -> None:
        """Nothing more will be mistreated."""

    @property
    def spoilt(self) -> int:
        """How many were."""
        return sum(self.seen.values())


class Dropped(Webhooks):
    """Label Studio hears 200, and nobody hears of the event."""

    def treat(self, exchange: Exchange) -> None:
        with self._lock:
            self.seen["dropped"] += 1
        exchange.answer(200, b"{}")


class Doubled(Webhooks):
    """Each event comes twice."""

    def treat(self, exchange: Exchange) -> None:
        with self._lock:
            self.seen["doubled"] += 1
        with contextlib.suppress(requests.RequestException):
            exchange.ask()
        try:
            answer = exchange.ask()
        except requests.RequestException:
            exchange.answer(502, b"{}")
            return
        exchange.answer(answer.status_code, answer.content, answer.headers)


class Reordered(Webhooks):
    """Events are kept back and delivered in the end, the newest first."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[Exchange] = []

    def treat(self, exchange: Exchange) -> None:
        with self._lock:
            self.seen["reordered"] += 1
            self._kept.append(exchange)
        exchange.answer(200, b"{}")

    def end(self) -> None:
        with self._lock:
            kept, self._kept = self._kept, []
        for exchange in reversed(kept):
            with contextlib.suppress(requests.RequestException):
                exchange.ask()
