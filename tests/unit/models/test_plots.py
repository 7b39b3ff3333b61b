from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import ShapeError
from models.plots.curves import COLOURS, GREY, Curve, coloured
from models.plots.found_html import write_html
from models.plots.found_png import write_png


def _curve(name: str, end: int = 9, *, baseline: bool = False) -> Curve:
    found = (0, end / 2, end)
    return Curve(name, (0, 10, 20), found, found, found, baseline=baseline)


def test_the_baseline_takes_no_colour() -> None:
    curves = [_curve("random", baseline=True), *(_curve(str(n)) for n in range(9))]
    colours = [colour for _, colour in coloured(curves)]
    assert colours[:3] == [GREY, COLOURS[0], COLOURS[1]]
    assert len(colours) == 10


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="no curve"):
        write_png(tmp_path / "a.png", [], title="t", total=3)
    with pytest.raises(ShapeError, match="lengths"):
        write_html(tmp_path / "a.html", [Curve("a", (1, 2), (1,), (1,), (1,))], title="", total=3)
    assert list(tmp_path.iterdir()) == []


def test_png_shows_each_curve_in_its_colour(tmp_path: Path) -> None:
    path = tmp_path / "found.png"
    write_png(path, [_curve("rarefirst"), _curve("entropy", 3)], title="A <title>", total=10)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(pixels) > 300_000
    for colour in COLOURS[:2]:
        wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert (pixels == wanted).all(axis=1).sum() > 100, colour
    assert [file.name for file in tmp_path.iterdir()] == ["found.png"]
    assert path.stat().st_size < 100_000


def test_a_name_with_dollar_signs_is_no_formula(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", [_curve("rarefirst")], title="5$^{ to 9$", total=10)
    assert (tmp_path / "a.png").exists()


def test_html_needs_no_network(tmp_path: Path) -> None:
    path = tmp_path / "found.html"
    write_html(path, [_curve("rarefirst"), _curve("random", baseline=True)], title="<b>x", total=10)
    page = path.read_text()
    assert re.search(r"<(script|link)[^>]*\b(src|href)=", page) is None
    assert len(page) > 1_000_000  # plotly itself
    assert '"name":"rarefirst"' in page
    assert '"text":"&lt;b' in page  # a name, no markup
