"""What is compared: every scorer as it is by default, and some of them in other settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from models.config import MinerConfig
from models.scorers import SCORERS


@dataclass(frozen=True)
class Entry:
    """One line of the tables.

    Attributes:
        config: names the scorer, and how it is set.
        version: raised when the code of the scorer changed so that its cells are worthless.
        head: how many places of a pool are ranked, where all would take minutes; 0: all.
    """

    config: MinerConfig
    version: int = 1
    head: int = 0


#: Scorers whose code changed since cells were first computed.
_VERSIONS: Mapping[str, int] = MappingProxyType({"rarefirst": 2})

ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        **{name: Entry(MinerConfig(scorer=name), _VERSIONS.get(name, 1)) for name in SCORERS},
        # The published method has one autoencoder; ours averages five, which its spread asks for.
        "paper_single": Entry(MinerConfig(scorer="paper", members=1)),
        "paper_single_released": Entry(MinerConfig(scorer="paper_released", members=1)),
        # It picks one by one: its last places take most of two minutes. The last published budget
        # is 9,000.
        "hal_g": Entry(MinerConfig(scorer="hal_g"), head=9000),
        # The rivals, told the tail classes as rarefirst is.
        "galaxy_on_tail": Entry(MinerConfig(scorer="galaxy", class_lines="tail")),
        "direct_on_tail": Entry(MinerConfig(scorer="direct", class_lines="tail")),
    }
)
