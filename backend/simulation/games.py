"""The games of a simulation: each scorer in each repeat, from the same labels in one repeat.

Random order is what the others are measured against. It needs no fit, so it is played to the end
of the pool: how many labels it takes to find nearly all is then known, not extrapolated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from backend.simulation.data import Data
from backend.simulation.frozen import Frozen
from backend.simulation.images import key_of
from backend.simulation.kept import Game, KeptGames, code_digest
from models.config import MinerConfig
from models.errors import ModelError
from models.recipes.simulate import simulate, stratified_start
from models.types import IntArray, Progress

BASELINE = "random"


@dataclass(frozen=True)
class Conditions:
    """What is the same in all games.

    Attributes:
        data: what is replayed.
        config: the miner's settings but the scorer.
        start: labels at the start.
        batch: labels in a round.
        rounds: of a game; no more than the pool holds.
        seed: of the first repeat; each further one adds one.
    """

    data: Data
    config: MinerConfig
    start: int
    batch: int
    rounds: int
    seed: int

    def start_rows(self, repeat: int) -> IntArray:
        """The images that are labeled at a repeat's start; as many of each class in all."""
        return stratified_start(
            self.data.targets,
            self.start,
            num_classes=self.data.classes.size,
            seed=self.seed + repeat,
        )


def play(
    conditions: Conditions,
    scorers: Sequence[str],
    frozen: Frozen,
    repeat: int,
    *,
    kept: KeptGames,
    progress: Progress,
) -> dict[str, Game]:
    """The games of one repeat by scorer, played now or kept from an earlier run.

    A scorer that refuses these labels or features costs the others nothing.

    Raises: ModelError: if not even random order can be played.
    """
    games: dict[str, Game] = {}
    start = conditions.start_rows(repeat)
    size = conditions.rounds * len(scorers)
    for number, scorer in enumerate(scorers):
        told = _from(number * conditions.rounds, size, scorer, progress)
        key = _key(conditions, frozen, start, scorer, repeat)
        game = kept.find(scorer, repeat, key)
        if game is None:
            game = _play(
                conditions, frozen, start, Game(key=key, scorer=scorer, repeat=repeat), told
            )
            kept.keep(game)
        told(conditions.rounds, conditions.rounds)
        games[scorer] = game
    return games


def _play(
    conditions: Conditions, frozen: Frozen, start: IntArray, game: Game, progress: Progress
) -> Game:
    began = time.monotonic()
    whole = game.scorer == BASELINE
    try:
        played = simulate(
            frozen.examples,
            conditions.data.targets,
            labeled=start,
            classes=conditions.data.classes,
            rounds=1 if whole else conditions.rounds,
            batch=len(frozen.examples) if whole else conditions.batch,
            config=conditions.config.model_copy(update={"scorer": game.scorer}),
            head=frozen.head,
            seed=conditions.seed + game.repeat,
            progress=progress,
        )
    except ModelError as error:
        if whole:
            raise
        return game.model_copy(update={"refused": str(error)})
    return game.model_copy(
        update={
            "served": tuple(played.served.tolist()),
            "labels": played.labels,
            "explanations": played.explanations,
            "seconds": time.monotonic() - began,
        }
    )


def _key(conditions: Conditions, frozen: Frozen, start: IntArray, scorer: str, repeat: int) -> str:
    """Digest of everything that decides a game."""
    data = conditions.data
    about = (
        [image.key for image in data.images],
        data.targets.tolist(),
        data.classes.names,
        data.classes.tail,
        start.tolist(),
        conditions.rounds,
        conditions.batch,
        conditions.seed + repeat,
        conditions.config.model_dump(mode="json"),
        scorer,
        frozen.fingerprint,
        code_digest(),
    )
    return key_of(json.dumps(about))


def _from(before: int, whole: int, scorer: str, progress: Progress) -> Progress:
    """Progress of one scorer's rounds as progress of all of them."""

    def tell(done: int, total: int, message: str = "") -> None:
        progress(before + done, whole, f"{scorer} {message}".strip())

    return tell
