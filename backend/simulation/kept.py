"""Finished games of a simulation, kept so that a run that was stopped goes on where it was.

A game is taken back only if everything that decides it is the same: images, labels, tail, start,
features, settings, and the code that played it.
"""

from __future__ import annotations

import hashlib
import logging
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

import models
from backend.files import write_atomically

logger = logging.getLogger(__name__)


class Game(BaseModel):
    """One scorer's game in one repeat.

    Attributes:
        key: digest of everything that decides it.
        served: rows of the images in the order in which they were labeled.
        labels: labels given after each round.
        explanations: why the order was not the one asked for.
        refused: why the scorer could not be played, else empty.
        seconds: that it took.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    scorer: str
    repeat: int
    served: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    explanations: tuple[str, ...] = ()
    refused: str = ""
    seconds: float = 0.0


class KeptGames:
    """Games in a folder, one file each.

    Args:
        folder: made when the first is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, scorer: str, repeat: int, key: str) -> Game | None:
        """The game, if it was played to its end under the same conditions."""
        path = self._path(scorer, repeat)
        try:
            game = Game.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            logger.warning("%s cannot be read, the game is played again: %s", path, error)
            return None
        return game if game.key == key else None

    def keep(self, game: Game) -> None:
        """Write it; a kill leaves all of it or nothing."""
        write_atomically(self._path(game.scorer, game.repeat), game.model_dump_json())

    def _path(self, scorer: str, repeat: int) -> Path:
        return self._folder / f"{scorer}-{repeat}.json"


@cache
def code_digest() -> str:
    """sha256 of the sources of ``models``: other code may play another game."""
    folder = Path(models.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
