"""docs/licences.md: every locked runtime package with its licence, from installed metadata.

.venv/bin/python docs/licence_list.py

The lock is for every platform. What is not installed where this runs keeps the licence that an
earlier run elsewhere found, if the version is the same.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "requirements.lock"
PAGE: Final = ROOT / "docs" / "licences.md"
UNSAID: Final = "not said by the package"
NOT_HERE: Final = "not installed where this list was written"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]+\])?==([^ ;\\]+)(?: ; ([^\\]+))?", re.M)
_LINE = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|", re.M)
_HEAD = """# Licences of the runtime packages

Written from the metadata of the packages by `make audit`,
for every package in `requirements.lock`. A test checks that it is current.

| package | version | licence |
|---|---|---|
"""
#: What a licence text says that its package's metadata does not.
_TEXTS: Final = (
    ("Apache License", "Apache-2.0"),
    ("Permission is hereby granted, free of charge", "MIT"),
    ("Redistribution and use in source and binary forms", "BSD"),
    ("NVIDIA", "NVIDIA Proprietary Software"),
)


class Package(NamedTuple):
    """A locked package."""

    name: str
    version: str


def locked() -> list[Package]:
    """The packages of the lock, each version once, by name."""
    return sorted({Package(match[1], match[2]) for match in _PIN.finditer(LOCK.read_text())})


def licence_of(package: Package) -> str | None:
    """What an installed package says of its licence; None where this version is not installed."""
    try:
        found = distribution(package.name)
    except PackageNotFoundError:
        return None
    if found.version.partition("+")[0] != package.version:
        return None
    return _said(found).replace("|", "/")


def _said(found: Distribution) -> str:
    meta = found.metadata
    if expression := meta.get("License-Expression"):
        return str(expression)
    classifiers = [
        str(line).rpartition(" :: ")[2]
        for line in meta.get_all("Classifier", [])
        if str(line).startswith("License :: ") and str(line) != "License :: OSI Approved"
    ]
    if classifiers:
        return ", ".join(classifiers)
    field = str(meta.get("License") or "").strip()
    if field and "\n" not in field and len(field) <= 60:
        return field
    files = [one for one in found.files or () if re.match(r"(?i)(licen[cs]e|copying)", one.name)]
    paths = [Path(str(found.locate_file(one))) for one in files]
    for text in (field, *(path.read_text(errors="replace") for path in paths)):
        for part, name in _TEXTS:
            if part in text:
                return f"{name} (by its text)"
    return UNSAID


def known() -> dict[Package, str]:
    """What the page says now."""
    if not PAGE.exists():
        return {}
    lines = _LINE.findall(PAGE.read_text())
    return {Package(name, version): licence for name, version, licence in lines[1:]}


def page() -> str:
    """The page's text."""
    before = known()
    lines = [
        f"| {package.name} | {package.version} | "
        f"{licence_of(package) or before.get(package, NOT_HERE)} |"
        for package in locked()
    ]
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE}: the list of licences is current\n")
