"""Text and controls can be told from what is behind them: WCAG 2.1, level AA, in light and dark."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

CSS = (
    Path(__file__).resolve().parents[4] / "backend" / "dashboard" / "static" / "dashboard.css"
).read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part))
    for part in CSS.split("@media (prefers-color-scheme: dark)")[:2]
)
TEXTS = [*product(("text", "quiet", "link", "bad", "warn", "good"), ("page", "panel"))]
TEXTS += [("button-text", "button"), ("mark-text", "mark")]
GRAPHICS = [*product(("series-1", "series-2", "control", "link"), ("panel", "page"))]


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """From 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_yardstick() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast(colours: dict[str, str]) -> None:
    low = [pair for pair in TEXTS if contrast(colours[pair[0]], colours[pair[1]]) < 4.5]
    low += [pair for pair in GRAPHICS if contrast(colours[pair[0]], colours[pair[1]]) < 3]
    assert low == []


def test_both_name_the_same_colours() -> None:
    assert LIGHT.keys() == DARK.keys()
    used = set(re.findall(r"var\(--([\w-]+)\)", CSS))
    assert used <= {*LIGHT, "band"}
