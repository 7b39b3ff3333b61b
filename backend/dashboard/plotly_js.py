"""plotly's JavaScript out of the installed package, found without the import, which is slow."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import re
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def plotly_version() -> str:
    """The package's version: part of the address, so that browsers may keep the file for long."""
    return importlib.metadata.version("plotly")


@lru_cache(maxsize=1)
def packed_plotly() -> bytes:
    """``plotly.min.js``, compressed (about 1.5 of 5 MB); compressed once a process.

    Raises: FileNotFoundError: where the package lacks it.
    """
    return gzip.compress(_source(), 6, mtime=0)


@lru_cache(maxsize=1)
def style_ids() -> tuple[str, ...]:
    """Ids of style elements that a part of plotly adds unless an element of that id is there.

    Our pages forbid inline styles, and none of these is of a figure that we draw (maps).
    """
    found = re.findall(rb'getElementById\("([0-9a-f]{64})"\)', _source())
    return tuple(sorted({one.decode() for one in found}))


def _source() -> bytes:
    spec = importlib.util.find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("plotly is not installed")
    folder = Path(spec.submodule_search_locations[0])
    return (folder / "package_data" / "plotly.min.js").read_bytes()
