"""plotly's JavaScript out of the installed package, found without the import, which is slow."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
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
    spec = importlib.util.find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("plotly is not installed")
    folder = Path(spec.submodule_search_locations[0])
    return gzip.compress((folder / "package_data" / "plotly.min.js").read_bytes(), 6, mtime=0)
