"""Whether everything in a data directory that nobody works on is whole."""

from __future__ import annotations

import json
from pathlib import Path

import lancedb

from backend.mirror import UNREADABLE, Mirror
from backend.projects import Publications, PublishedScores
from models.errors import ModelError
from models.registry import VersionRegistry


def faults(data_dir: Path) -> list[str]:
    """What is not whole, in words; nothing where all is."""
    found: list[str] = []
    for folder in sorted((data_dir / "projects").glob("*")):
        found += [f"{path.name} is no JSON" for path in folder.glob("*.json") if not _parses(path)]
        for name in ("ledger.jsonl", "history.jsonl"):
            found += [f"{name} has a torn line" for line in _lines(folder / name) if not _is(line)]
        found += _mirror(folder) + _versions(folder) + _publications(folder)
    return found


def _is(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def _parses(path: Path) -> bool:
    return _is(path.read_text())


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _mirror(folder: Path) -> list[str]:
    """Tables open, every row is read, and no mirror was set aside."""
    found = [f"{path.name} was set aside" for path in folder.glob("mirror.unreadable-*")]
    if not (folder / "mirror").exists():
        return found
    try:
        tasks = Mirror(folder / "mirror").tasks()
        database = lancedb.connect(folder / "mirror")
        for name in database.list_tables().tables:
            database.open_table(name).to_arrow()
    except UNREADABLE as error:
        return [*found, f"the mirror cannot be read: {error}"]
    twice = len(tasks) - len(set(tasks.ids.tolist()))
    return [*found, f"{twice} tasks are mirrored twice"] if twice else found


def _versions(folder: Path) -> list[str]:
    """Every version can be loaded, the active one among them."""
    registry = VersionRegistry(folder / "versions")
    found = []
    for name in registry.names:
        try:
            registry.load(name)
        except ModelError as error:
            found.append(str(error))
    if (folder / "versions" / "active").exists() and registry.active() is None:
        found.append("the active version cannot be loaded")
    return found + list(registry.problems)


def _publications(folder: Path) -> list[str]:
    """What is served can be told."""
    path = folder / "publication.json"
    if not path.exists():
        return []
    published = Publications.model_validate_json(path.read_bytes()).published
    if published is None:
        return []
    try:
        scores = PublishedScores.load(folder / "publications" / published.name)
    except (OSError, ValueError, KeyError) as error:
        return [f"scores of {published.name} cannot be read: {error}"]
    missing = set(published.task_ids) - set(scores.ids.tolist())
    return [f"{len(missing)} published tasks have no scores"] if missing else []
