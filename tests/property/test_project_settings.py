"""Whatever a member of a project writes into extra params: nothing raises, good keys count."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from backend.project_settings import decide, digest, merge, read_extra_params
from backend.settings import Settings, scope_of

SERVICE = Settings.model_construct(
    **{name: info.get_default() for name, info in Settings.model_fields.items()}
)
MINE = [name for name, info in Settings.model_fields.items() if scope_of(info) != "service"]
SERVICES = [name for name, info in Settings.model_fields.items() if scope_of(info) == "service"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from([*MINE, *SERVICES]) | st.text(max_size=12)


@given(JSON | st.dictionaries(KEYS, JSON, max_size=6))
def test_nothing_raises_and_only_settings_of_a_project_come_out(raw: object) -> None:
    for value in (raw, json.dumps(raw)):
        read = read_extra_params(value)
        assert set(read.overrides) <= set(MINE)
        merged, _ = merge(SERVICE, read.overrides)
        for name in SERVICES:
            assert getattr(merged, name) == getattr(SERVICE, name)
        kept = decide(SERVICE, value, known={}, seen=(), before=None)
        # What is kept survives the file.
        assert type(kept).model_validate_json(kept.model_dump_json()) == kept
        assert digest(value)


@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_every_key_is_taken_or_named(raw: dict[str, object]) -> None:
    read = read_extra_params(raw)
    assert len(read.overrides) + len(read.problems) == len(raw)


@given(
    st.dictionaries(st.text(max_size=8).map(lambda text: "x" + text), JSON, max_size=6),
    st.integers(1, 100_000),
    st.floats(0, 0.5),
    st.lists(st.text("abc, ", min_size=1).filter(str.strip), max_size=3, unique=True),
    st.booleans(),
)
def test_good_keys_count_whatever_stands_beside_them(
    garbage: dict[str, object], top_k: int, share: float, names: list[str], as_text: bool
) -> None:
    good = {"TOP_K": str(top_k), "RAREFIRST_control_share": share, "tail_classes": names}
    raw: object = {**garbage, **good}
    read = read_extra_params(json.dumps(raw) if as_text else raw)
    assert read.overrides["top_k"] == top_k
    assert read.overrides["control_share"] == share
    assert read.overrides["tail_classes"] == tuple(name.strip() for name in names)
