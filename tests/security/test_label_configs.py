"""Label configs that any member of a project writes, and pages with names that others chose."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from backend.errors import UnsupportedLabelConfig
from backend.labelstudio.interface import parse_label_config
from backend.labelstudio.label_config_guard import costs_too_much
from models.plots.curves import Curve
from models.plots.found_html import write_html

CONFIG = (
    '<View><Image name="i" value="$image"/><Choices name="c" toName="i">'
    '<Choice value="%s"/><Choice value="b"/></Choices></View>'
)
LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
MANY = 'a" ' + " ".join(f'a{n}="{{0}}"' for n in range(60_000)) + ' b="'
HOSTILE = {
    "an entity from a file": '<!DOCTYPE x [<!ENTITY e SYSTEM "file://%s">]>' + CONFIG % "&e;",
    "a billion laughs": f'<!DOCTYPE x [<!ENTITY a0 "ha">{LAUGHS}]>' + CONFIG % "&a11;",
    "one large entity": f'<!DOCTYPE x [<!ENTITY e "{"A" * 100_000}">]>' + CONFIG % ("&e;" * 5000),
    "nested without end": "<View>" * 200_000 + "</View>" * 200_000,
    "attributes without end": CONFIG % MANY.format("1"),
    "attributes with brackets": CONFIG % MANY.format("&gt;"),
    "too long": CONFIG % ("a" * (5 << 20)),
    "half a pair": CONFIG % "\ud800",
    "a zero byte": CONFIG % "\x00",
    "controls without end": CONFIG.replace("<Choices", "<Choices " * 5000) % "a",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_label_config_is_refused_at_once(tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("SECRET-OF-A-FILE")
    config = HOSTILE[name].replace("file://%s", f"file://{secret}")
    began = time.process_time()
    with pytest.raises(UnsupportedLabelConfig) as caught:
        parse_label_config(config)
    assert time.process_time() - began < 3
    assert "SECRET" not in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_large_but_honest_label_configs_are_read() -> None:
    many = "".join(f'<Choice value="{number}"/>' for number in range(20_000))
    config = CONFIG.replace('<Choice value="b"/>', many) % "a"
    assert costs_too_much(config) == ""
    assert len(parse_label_config(config).labels) == 20_001  # type: ignore[union-attr]


def test_a_refusal_of_many_controls_is_short() -> None:
    one = '<Choices name="c{0}" toName="i"><Choice value="a"/></Choices>'
    controls = "".join(one.format(number) for number in range(2000))
    with pytest.raises(UnsupportedLabelConfig) as caught:
        parse_label_config(f'<View><Image name="i" value="$image"/>{controls}</View>')
    assert len(str(caught.value)) < 2000


def test_no_name_becomes_markup_in_a_page(tmp_path: Path) -> None:
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    curve = Curve(name=evil, labels=(0, 1), found=(0, 1), low=(0, 1), high=(0, 1))
    path = tmp_path / "page.html"
    write_html(path, [curve], title=evil, total=1)
    page = path.read_text()
    assert "alert(1)" in page
    assert "<script>alert(1)" not in page
    assert "<img src=x" not in page
