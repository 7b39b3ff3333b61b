"""Extra params of a connection: what counts, what is said of the rest, and where it is kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from backend.project_settings import (
    FILE,
    ProjectSettings,
    decide,
    digest,
    effective,
    kept,
    merge,
    read_extra_params,
)
from backend.projects import ProjectStore
from backend.settings import Settings, scope_of

KNOWN = {"scorer": ("rarefirst", "random"), "backbone": ("cnn4", "resnet18")}


@pytest.mark.parametrize(
    ("raw", "field", "value"),
    [
        ({"top_k": 7}, "top_k", 7),
        ({"RAREFIRST_TOP_K": 7}, "top_k", 7),
        ({" rarefirst_Top_K ": "7"}, "top_k", 7),
        ('{"top_k": 7}', "top_k", 7),
        ('{"top_k": "7"}', "top_k", 7),
        ({"top_k": 7.0}, "top_k", 7),
        ({"control_share": "0.25"}, "control_share", 0.25),
        ({"preannotate": True}, "preannotate", True),
        ({"preannotate": "true"}, "preannotate", True),
        ({"preannotate": "1"}, "preannotate", True),
        ({"tail_classes": "6, 7"}, "tail_classes", ("6", "7")),
        ({"tail_classes": ["6", 7]}, "tail_classes", ("6", "7")),
        ({"tail_classes": ["a, b"]}, "tail_classes", ("a, b",)),
        ({"tail_classes": 6}, "tail_classes", ("6",)),
        ({"tail_classes": ""}, "tail_classes", ()),
        ({"tail_quota": None}, "tail_quota", None),
        ({"tail_quota": ""}, "tail_quota", None),
        ({"scorer": "random"}, "scorer", "random"),
        ({"backbone": "resnet18"}, "backbone", "resnet18"),
        ({"weights": "DEFAULT"}, "weights", "DEFAULT"),
    ],
)
def test_a_setting_is_taken_as_from_the_environment(raw: object, field: str, value: object) -> None:
    read = read_extra_params(raw, known=KNOWN)
    assert dict(read.overrides) == {field: value}
    assert read.problems == ()


@pytest.mark.parametrize("raw", [None, "", "  ", {}, "{}", "null"])
def test_nothing_is_no_problem(raw: object) -> None:
    read = read_extra_params(raw)
    assert (dict(read.overrides), read.problems) == ({}, ())


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("top_k=7", 'found "top_k=7", expected a JSON object'),
        ("[1, 2]", "found [1, 2], expected a JSON object"),
        ([1, 2], "found [1, 2]"),
        (3, "found 3"),
        (True, "found true"),
        ("x" * 30_000, "found 30000 characters"),
        ({"x": "y" * 30_000}, "more than 20000 characters"),
        ("[" * 15_000, "expected a JSON object"),
        ('{"top_k": ' + "9" * 5000 + "}", "expected a JSON object"),
    ],
)
def test_garbage_is_one_problem(raw: object, said: str) -> None:
    read = read_extra_params(raw)
    assert dict(read.overrides) == {}
    (problem,) = read.problems
    assert problem.startswith("extra params: ")
    assert said in problem
    assert len(problem) < 200


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("top_k", 0, "found 0, expected a whole number, at least 1"),
        ("top_k", True, "found true, expected a whole number"),
        ("top_k", 7.5, "found 7.5"),
        ("top_k", "many", 'found "many"'),
        ("top_k", 10**30, "at most 100000"),
        ("top_k", None, "found null, expected a whole number"),
        ("top_k", [7], "found [7]"),
        ("control_share", float("nan"), "found NaN, expected a number"),
        ("control_share", float("inf"), "found Infinity"),
        ("fit_idle_s", "inf", "at least 0, finite"),
        ("fit_idle_s", "nan", 'found "nan"'),
        ("tail_classes", ["\ud800"], "halves of surrogate pairs"),
        ("tail_classes", "a, \udfff", "halves of surrogate pairs"),
        ("feature_layer", "\ud800", "halves of surrogate pairs"),
        ("preannotate", "perhaps", "expected true or false"),
        ("recalibration", "other", "expected one of regularised, paper, released"),
        ("tail_classes", {"a": 1}, 'expected names, as in ["a", "b"] or "a, b"'),
        ("tail_classes", [True], "expected names"),
        ("scorer", "rarefrist", "which is not known, expected such as rarefirst"),
        ("backbone", "resnet19", "which is not known, expected such as resnet18"),
        ("backbone", "os:system", "code and files are named in the environment"),
        ("weights", "/etc/passwd", "code and files are named in the environment"),
        ("weights", "../../weights.pt", "expected DEFAULT or none"),
        ("topk", 7, "no such setting; is top_k meant?"),
        ("frobnicate", 7, "no such setting"),
        ("delete_pause_s", 1e9, "at most 60"),
    ],
)
def test_a_wrong_key_is_one_problem_and_the_others_count(
    key: str, value: object, said: str
) -> None:
    read = read_extra_params({"seed": 5, key: value, "fit_every_labels": 3}, known=KNOWN)
    assert dict(read.overrides) == {"seed": 5, "fit_every_labels": 3}
    (problem,) = read.problems
    assert problem.startswith(f'extra params: "{key}": ')
    assert said in problem


def test_a_setting_of_the_whole_service_is_refused_under_all_its_names() -> None:
    keys = ["port", "LABEL_STUDIO_API_KEY", "rarefirst_label_studio_url", "MODEL_DIR", "device"]
    read = read_extra_params(dict.fromkeys(keys, "s3cret"))
    assert dict(read.overrides) == {}
    assert len(read.problems) == len(keys)
    assert all("of the whole service" in problem for problem in read.problems)
    assert not any("no such" in problem for problem in read.problems)
    assert "s3cret" not in str(read.problems)


def test_many_wrong_keys_are_not_all_told() -> None:
    read = read_extra_params({f"x{i}": 1 for i in range(500)})
    assert len(read.problems) == 21
    assert "480 further keys" in read.problems[-1]


def test_no_secret_and_no_path_is_a_projects_to_set() -> None:
    mine = {name for name, info in Settings.model_fields.items() if scope_of(info) != "service"}
    assert {"top_k", "tail_classes", "scorer", "backbone", "weights"} <= mine
    words = ("url", "host", "dir", "key", "auth", "token", "port", "thread", "device", "_mb")
    assert not [name for name in mine if any(word in name for word in words)]


def test_a_contradiction_is_decided_for_the_service(settings: Settings) -> None:
    service = settings.model_copy(update={"tail_classes": ("a", "b")})
    merged, problems = merge(service, {"not_tail_classes": ("a",), "top_k": 5})
    assert (merged.tail_classes, merged.not_tail_classes, merged.top_k) == (("a", "b"), (), 5)
    (problem,) = problems
    assert "in both tail_classes and not_tail_classes: ['a']" in problem
    assert "not taken: not_tail_classes" in problem
    found = decide(
        settings,
        {"tail_classes": "a", "not_tail_classes": "a, b", "seed": 3},
        known=KNOWN,
        seen=(),
        before=None,
    )
    assert found.overrides == {"seed": 3}
    assert len(found.problems) == 1


def test_what_the_settings_page_destroyed_stays_as_it_was(settings: Settings) -> None:
    before = decide(settings, {"top_k": 9}, known=KNOWN, seen=("a",), before=None)
    after = decide(settings, "[object Object]", known=KNOWN, seen=("b",), before=before)
    assert after.overrides == {"top_k": 9}
    assert after.seen == ("b",)
    assert "settings page" in after.problems[0]
    assert decide(settings, None, known=KNOWN, seen=(), before=after).overrides == {}


def test_effective_settings_follow_the_file(settings: Settings, store: ProjectStore) -> None:
    assert kept(store) is None
    assert effective(settings, store) is settings
    store.write(FILE, decide(settings, {"top_k": 9}, known=KNOWN, seen=(), before=None))
    assert effective(settings, store).top_k == 9
    assert effective(settings, store).port == settings.port
    overrides = '{"tail_classes": ["x"], "tail_quota": null}'
    store.write(FILE, decide(settings, overrides, known=KNOWN, seen=(), before=None))
    found = effective(settings, store)
    assert (found.top_k, found.tail_classes) == (settings.top_k, ("x",))
    store.path(FILE).unlink()
    assert effective(settings, store) is settings


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", '{"overrides": {"top_k": "many", "port": 1, "gone": 2, "seed": 4}}'],
)
def test_a_damaged_file_changes_nothing_that_cannot_be_read(
    settings: Settings, store: ProjectStore, text: str
) -> None:
    path: Path = store.path(FILE)
    path.write_text(text)
    os.utime(path, ns=(1, 1))
    found = effective(settings, store)
    assert found.top_k == settings.top_k
    assert found.port == settings.port
    assert found.seed == (4 if "seed" in text else settings.seed)


def test_the_digest_is_of_the_meaning_and_survives_json() -> None:
    one = {"a": 1, "b": [1.5, None, "é"]}
    assert digest(one) == digest(json.loads(json.dumps(dict(reversed(one.items())))))
    assert len({digest(value) for value in ({}, None, "", "{}", {"a": 1}, [1])}) == 6
    assert ProjectSettings().seen == ()


def test_empty_variables_are_as_if_not_set(
    monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> None:
    for name in ("RAREFIRST_TAIL_QUOTA", "RAREFIRST_TOP_K", "PORT"):
        monkeypatch.setenv(name, "")
    found = Settings()
    assert (found.tail_quota, found.top_k, found.port) == (None, 300, 9090)


_TEXT = st.text(st.characters() | st.sampled_from("\ud800\udfff,"), max_size=8)
_NUMBERS = st.integers() | st.floats() | st.sampled_from(["inf", "-inf", "nan", "1e999"])
_VALUES = st.one_of(
    _TEXT,
    _NUMBERS,
    st.lists(_TEXT | st.integers(), max_size=3),
    st.sampled_from([None, True, {"a": "\ud800"}, [["\ud800"]]]),
)
_FIELDS = sorted(name for name, one in Settings.model_fields.items() if scope_of(one) == "project")


@given(
    raw=st.dictionaries(st.sampled_from(_FIELDS) | _TEXT, _VALUES, max_size=8),
    as_text=st.booleans(),
)
@example(raw={"tail_classes": ["\ud800"]}, as_text=True)
@example(raw={"feature_layer": "\udfff"}, as_text=False)
@example(raw={"fit_idle_s": "inf"}, as_text=False)
@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300
)
def test_whatever_extra_params_hold_can_be_kept_and_comes_back(
    settings: Settings, store: ProjectStore, raw: dict[str, object], as_text: bool
) -> None:
    given_raw = json.dumps(raw) if as_text else raw
    found = decide(settings, given_raw, known={}, seen=(digest(given_raw),), before=None)
    store.write(FILE, found)
    assert store.read(FILE, ProjectSettings) == found
    assert json.dumps(found.overrides, allow_nan=False)
    own = effective(settings, store)
    assert all(
        getattr(own, name) == (tuple(value) if isinstance(value, list) else value)
        for name, value in found.overrides.items()
    )
