"""What the README says exists: its table of settings, commands, make targets, variables, files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import typer.main
from pydantic import AliasChoices

from backend.cli import app
from backend.labelstudio.interface import parse_label_config
from backend.project_settings import read_extra_params
from backend.reconcile.settings_look import known_names
from backend.settings import Settings, scope_of
from docs.plot_demo import Run, draw
from docs.settings_table import END, START, table, with_table

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
FENCED = re.findall(r"```sh\n(.*?)```", README, re.S)
INLINE = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", README, flags=re.S))
# One command a line, comments taken off.
COMMANDS = [
    line.split(" #")[0].strip()
    for text in (*FENCED, *INLINE)
    for line in text.splitlines()
    if line.strip()
]


def test_the_table_of_settings_is_current() -> None:
    assert with_table(README) == README, "run `.venv/bin/python docs/settings_table.py`"


def test_the_table_has_a_line_for_each_setting_with_its_meaning() -> None:
    lines = table().splitlines()[2:]
    assert len(lines) == len(Settings.model_fields)
    for line, info in zip(lines, Settings.model_fields.values(), strict=True):
        assert info.description, line
        # A vertical bar in a description would tear the table.
        assert line.count("|") == 5, line
        scope = {"": "service", "yes": "project", "by name": "project, by name"}
        assert scope[line.split("|")[3].strip()] == scope_of(info), line


def test_the_example_of_a_projects_settings_is_taken_whole() -> None:
    section = README.split("### Settings of one project")[1]
    (example,) = re.findall(r"```json\n(.*?)```", section.split("\n## ")[0], re.S)
    read = read_extra_params(example, known=known_names())
    assert read.problems == ()
    assert len(read.overrides) == example.count(":") >= 3


def test_the_example_of_a_label_config_is_served() -> None:
    section = README.split("### Settings of one project")[1]
    (block,) = re.findall(r"```xml\n(.*?)```", section.split("\n## ")[0], re.S)
    found = parse_label_config(f'<View><Image name="image" value="$image"/>{block}</View>')
    assert found.problems == ()
    assert found.score_threshold is not None
    assert found.predicted_values


@pytest.mark.parametrize("text", ["", START, f"{START}{END}{END}"])
def test_missing_or_repeated_markers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        with_table(text)


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    named = [found for line in COMMANDS for found in re.findall(r"\bmake ([^;&|]*)", line)]
    assert named
    for words in named:
        for word in words.split():
            variable, is_assignment, _ = word.partition("=")
            if is_assignment:
                assert f"$({variable})" in makefile or f"$(if $({variable})" in makefile, word
            else:
                assert word in targets, f"make {words}"


def test_every_command_and_option_exists() -> None:
    group = typer.main.get_command(app)
    commands = getattr(group, "commands", {})
    named = [
        match.groups()
        for line in COMMANDS
        for match in [re.search(r"(?:^|/)rarefirst (\w+)(.*)", line)]
        if match is not None
    ]
    assert {name for name, _ in named} >= {"serve", "connect", "disconnect", "status", "score"}
    for name, rest in named:
        assert name in commands, f"rarefirst {name}"
        command = commands[name]
        if hasattr(command, "commands") and rest:  # `rarefirst versions list`
            word = rest.split()[0]
            assert word in command.commands, f"rarefirst {name} {word}"
            command = command.commands[word]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, f"rarefirst {name}{rest}"


def test_every_variable_is_a_setting() -> None:
    known = {f"RAREFIRST_{name.upper()}" for name in Settings.model_fields}
    for info in Settings.model_fields.values():
        if isinstance(info.validation_alias, AliasChoices):
            known |= {str(choice) for choice in info.validation_alias.choices}
    named = set(re.findall(r"\bRAREFIRST_[A-Z_]*[A-Z]\b", README))
    assert len(named) > 30
    assert named <= known


def test_every_file_and_module_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)", README)
    paths = [word for line in COMMANDS for word in re.findall(r"[\w./-]+\.(?:py|md|yaml)\b", line)]
    modules = [word for line in COMMANDS for word in re.findall(r"-m ([\w.]+)", line)]
    found = [link for link in links if "://" not in link] + paths
    found += [module.replace(".", "/") + ".py" for module in modules]
    assert len(found) > 10
    assert [name for name in found if not name.startswith("/") and not (ROOT / name).exists()] == []


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert pictures
    assert [picture.name for picture in pictures if picture.stat().st_size > 300_000] == []


def test_the_drawing_shows_every_run() -> None:
    run = Run(labels=(0, 10, 20), found=(0, 9, 12), random=(0.0, 0.2, 0.4), rare_total=12, pool=600)
    drawn = ET.fromstring(draw([run, run]))
    lines = drawn.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 4
    heights = [float(point.split(",")[1]) for point in lines[-1].attrib["points"].split()]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] > heights[-1]
    with pytest.raises(ValueError, match="HEADLESS"):
        draw([])
