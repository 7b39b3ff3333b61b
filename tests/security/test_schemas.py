"""Every schema of a body, and every byte of an image: taken, or refused in words, and no third way.

What is made up here lies near what is expected: the names of the fields with right values, wrong
ones, and values of other fields.
"""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel

from backend import schemas
from backend.embedding import embed
from backend.errors import BadRequest
from backend.schemas import ProjectRef, WebhookEvent, parse
from models.backbones.backbone import Backbone, load_backbone
from models.backbones.networks import BackboneSpec
from tests.security.conftest import Tried
from tests.security.test_payloads import ANY, PICTURES, TEXTS

SCHEMAS = [
    model
    for name, model in inspect.getmembers(schemas, inspect.isclass)
    if issubclass(model, BaseModel) and model is not BaseModel and not name.startswith("_")
]
CANARY = "canary-in-a-body"
WORDS = TEXTS | st.just(CANARY)
IDS = st.integers(-(2**70), 2**70) | st.integers(0, 10)
PROJECT = st.one_of(
    IDS,
    st.from_regex(r"[0-9]{1,25}(\.[0-9]{1,25})?", fullmatch=True),
    st.fixed_dictionaries(
        {},
        optional={
            "id": IDS | WORDS,
            "created_at": st.datetimes().map(str) | WORDS | st.just("9999-12-31T23:59:59-23:59"),
            "created_s": IDS,
            "label_config": WORDS,
            "min_annotations_to_start_training": IDS | st.booleans(),
        },
    ),
)
TASK = st.fixed_dictionaries(
    {}, optional={"id": IDS | ANY, "data": st.dictionaries(WORDS, WORDS | ANY, max_size=3) | ANY}
)
FIELDS = {
    "project": PROJECT,
    "tasks": st.lists(TASK | ANY, max_size=4),
    "extra_params": st.text() | PROJECT,
    "label_config": WORDS,
    "action": st.sampled_from(["START_TRAINING", "PROJECT_UPDATED", "ANNOTATION_CREATED"]) | WORDS,
    "job": st.from_regex(r"[0-9]{1,3}-[0-9a-f]{8}\.[0-9]{1,20}", fullmatch=True) | WORDS,
    "id": IDS,
    "created_s": IDS,
    "data": st.dictionaries(WORDS, WORDS, max_size=3),
    **dict.fromkeys(("access_token", "hostname", CANARY), ANY),
}
BODY = st.one_of(
    st.fixed_dictionaries({}, optional={name: made | ANY for name, made in FIELDS.items()}),
    st.dictionaries(WORDS, ANY, max_size=4),
    ANY,
)
FUZZ = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def take(model: type[BaseModel], body: object) -> None:
    """Read a body as a route does, and what routes ask of it."""
    try:
        found = parse(model, json.dumps(body).encode())
    except BadRequest as error:
        said = str(error)
        assert CANARY not in said
        assert len(said) < 5000
        said.encode()
        return
    assert isinstance(found, model)
    if isinstance(found, WebhookEvent):
        assert found.ref is None or isinstance(found.ref, ProjectRef)
        assert isinstance(found.label_config, str | None)
        assert isinstance(found.each_label_trains, bool)
    found.model_dump()


def test_every_schema_is_among_those() -> None:
    assert [model.__name__ for model in SCHEMAS] == [
        *("JobRequest", "PredictRequest", "ProjectRef", "SetupRequest", "TaskBody"),
        *("TrainRequest", "WebhookEvent"),
    ]
    assert {name for model in SCHEMAS for name in model.model_fields} <= set(FIELDS)


@pytest.mark.parametrize("model", SCHEMAS)
@hypothesis_settings(max_examples=150, **FUZZ)  # type: ignore[arg-type]  # a dictionary of both
@given(body=BODY)
def test_every_body_is_read_or_refused(model: type[BaseModel], body: object) -> None:
    take(model, body)


@pytest.mark.slow
@pytest.mark.parametrize("model", SCHEMAS)
@hypothesis_settings(max_examples=5_000, **FUZZ)  # type: ignore[arg-type]  # a dictionary of both
@given(body=BODY)
def test_every_body_at_length(model: type[BaseModel], body: object) -> None:
    take(model, body)


# Bytes -> picture -> features --------------------------------------------------------------------

CHANGES = st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=6)), max_size=6)
FILES = st.lists(
    st.tuples(st.sampled_from(PICTURES) | st.binary(max_size=200), CHANGES, st.integers(0, 5000)),
    min_size=1,
    max_size=4,
)
File = tuple[bytes, list[tuple[int, bytes]], int]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(BackboneSpec(architecture="cnn4", num_classes=3))


def embed_bent(backbone: Backbone, files: list[File]) -> tuple[int, int]:
    """Embed files with some bytes changed or cut off; how many were read and how many refused."""
    bent = []
    for data, changes, cut in files:
        file = bytearray(data)
        for at, new in changes:
            file[at : at + len(new)] = new
        bent.append(bytes(file[: cut or None]))
    made = embed(backbone, range(len(bent)), bent.__getitem__, max_pixels=1 << 20, threads=1)
    assert {*made.ids.tolist(), *made.failures} == set(range(len(bent)))
    assert made.features.shape == (len(made.ids), backbone.feature_size)
    assert np.isfinite(made.features).all()
    for reason in made.failures.values():
        assert "the log says how" not in reason, reason  # a defect of ours
        assert len(reason) < 500
    return len(made.ids), len(made.failures)


@hypothesis_settings(max_examples=120, **FUZZ)  # type: ignore[arg-type]  # a dictionary of both
@given(files=FILES)
def test_every_file_is_embedded_or_refused_in_words(backbone: Backbone, files: list[File]) -> None:
    embed_bent(backbone, files)


@pytest.mark.slow
def test_every_file_at_length(backbone: Backbone, tried: Tried) -> None:
    read = refused = 0

    @hypothesis_settings(max_examples=5_000, **FUZZ)  # type: ignore[arg-type]  # both
    @given(files=FILES)
    def send(files: list[File]) -> None:
        nonlocal read, refused
        some, others = embed_bent(backbone, files)
        read, refused = read + some, refused + others

    send()
    assert min(read, refused) > 1000
    tried(read + refused, embedded=read, refused=refused)
