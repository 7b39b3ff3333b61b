"""Numbers in addresses: ids of projects and tasks."""

from __future__ import annotations

from flask import Flask
from werkzeug.routing import IntegerConverter


class Number(IntegerConverter):
    """A number that fits where ids are kept: the mirror cannot be asked for a larger one."""

    regex = r"[0-9]{1,18}"


def install(app: Flask) -> None:
    """Let ``<int:...>`` of an app's routes stand for such numbers; others are not found."""
    app.url_map.converters["int"] = Number
