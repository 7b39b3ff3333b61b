"""Recorded bodies of Label Studio, bent at random: an answer every time, never a 5xx."""

from __future__ import annotations

import base64
import contextlib
import copy
import json

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from backend.app import create_app
from backend.jobs import Jobs
from backend.judging import Judge, Judges
from backend.project_settings import FILE, ProjectSettings
from backend.projects import ProjectStores
from backend.scoring import Scoring
from backend.settings import Settings
from models.backbones.backbone import load_backbone
from models.backbones.images import as_rgb, open_image
from models.backbones.networks import BackboneSpec
from models.errors import ImageError
from models.tasks.base import task_of
from models.types import Examples, Judgement
from tests.contract.cases import PAYLOADS
from tests.published import publish
from tests.recorded import CLASSES, CREATED_S, LABEL_STUDIO, PROJECT_ID
from tests.unit.backend.conftest import Recorder
from tests.unit.models.image_files import noise, saved

RECORDED = {
    path.stem: json.loads(path.read_text())
    for path in sorted(PAYLOADS.glob("*.json"))
    if path.stem != "headers"
}
#: What older releases post: made of what is recorded.
RECORDED["train_old"] = {"project": f"{PROJECT_ID}.{CREATED_S}", "annotations": [{"id": 1}]}
RECORDED["job_status_post"] = {"job": f"{PROJECT_ID}-0123abcd.5"}
ANSWERS = {200, 201, 400, 404, 413}
Place = tuple[object, ...]

HUGE = st.sampled_from(
    [2**63, -(2**63) - 1, 10**400, 1e308, float("inf"), float("nan"), "9" * 5000]
)
TEXTS = st.sampled_from(
    [
        "",
        "\x00",
        "\ud800",
        "a" * 100_000,
        "../../etc/passwd",
        "1.1795231806",
        "-1.5",
        "٣",
        "\u202e",
        "null",
    ]
) | st.text(max_size=30)
NESTED = st.builds(
    lambda depth, inner: json.loads("[" * depth + inner + "]" * depth),
    st.sampled_from([1, 5, 100, 400]),
    st.sampled_from(["1", "null", '"x"', "{}"]),
)
ANY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, HUGE, NESTED,
    st.lists(st.integers(), max_size=3), st.dictionaries(TEXTS, st.integers(), max_size=3),
)  # fmt: skip


def places(value: object, here: Place = ()) -> list[Place]:
    """Where something stands in a body."""
    found = [here] if here else []
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in inside:
        found += places(part, (*here, key))
    return found


def bend(body: dict[str, object], where: Place, how: str, value: object) -> None:
    """Drop, replace or wrap what stands at a place; a place that is gone is left."""
    *path, last = where
    parent: object = body
    for key in path:
        try:
            parent = parent[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return
    if not isinstance(parent, dict | list) or (
        isinstance(parent, list) and not isinstance(last, int)
    ):
        return
    try:
        before = parent[last]  # type: ignore[index]
    except (KeyError, IndexError, TypeError):
        return
    if how == "drop":
        del parent[last]  # type: ignore[arg-type]
    else:
        new = {"null": None, "other": value, "nested": [[before]], "object": {"x": before},
               "text": json.dumps(before), "many": [before] * 50}[how]  # fmt: skip
        parent[last] = new  # type: ignore[index]


@st.composite
def bent(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path and a body for it."""
    name = draw(st.sampled_from(sorted(RECORDED)))
    body = copy.deepcopy(RECORDED[name])
    known = places(body)
    # What is read of a body is at its surface: half of the changes are made there.
    shallow = [place for place in known if len(place) <= 3]
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.sampled_from(draw(st.sampled_from([known, shallow]))))
        how = draw(st.sampled_from(["drop", "null", "other", "nested", "object", "text", "many"]))
        bend(body, where, how, draw(ANY))
    if draw(st.integers(0, 9)) == 0:
        body[draw(TEXTS)] = draw(ANY)
    raw = json.dumps(body).encode()
    if draw(st.integers(0, 19)) == 0:
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=4)) + raw[at + draw(st.integers(0, 4)) :]
    path = name.partition("_")[0] if not name.startswith("job") else "job_status"
    return f"/{path}", raw


class Rarely:
    """Says the same of every picture that was decoded and embedded; counts them."""

    judged = 0

    def judge(self, examples: Examples) -> Judgement:
        count = len(examples.ids)
        Rarely.judged += count
        same = np.full(count, 0.5, dtype=np.float32)
        return Judgement(examples.ids, same, np.zeros(count, dtype=np.int64), same)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """An app with a published project, so that bodies reach everything there is."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        label_studio_url=LABEL_STUDIO,
        label_studio_api_key="not-a-token",
        max_body_mb=1,
        predict_budget_s=1,
    )
    store = ProjectStores(settings.data_dir, LABEL_STUDIO).create(PROJECT_ID, CREATED_S, "cls")
    publish(store, [1, 2], [0.5, 0.25])
    store.write(FILE, ProjectSettings())
    store.path("label_config.sha256").write_text("0" * 64)
    jobs = Jobs(settings, handler=Recorder(), immediate=True)
    backbone = load_backbone(BackboneSpec(architecture="cnn4", num_classes=len(CLASSES)))
    judge = Judge(
        version="v0007", classes=CLASSES, tail=("ship",), backbone=backbone, miner=Rarely(),
        task=task_of("classification"),
    )  # fmt: skip
    judges = Judges(lambda store, version: judge)
    return create_app(settings, jobs, scoring=Scoring(settings, jobs, judges=judges)).test_client()


def send(client: FlaskClient, path: str, raw: bytes) -> None:
    answer = client.post(path, data=raw, content_type="application/json")
    assert answer.status_code in ANSWERS, (path, answer.get_data(as_text=True))
    said = answer.get_json()
    assert isinstance(said, dict)
    if path == "/predict" and answer.status_code == 200:
        body = json.loads(raw)
        asked = json.loads(body) if isinstance(body, str) else body
        assert len(said["results"]) == len(asked.get("tasks", ()))


FUZZ = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@hypothesis_settings(max_examples=500, **FUZZ)  # type: ignore[arg-type]
@given(bent())
def test_no_bent_body_is_more_than_a_bad_request(
    client: FlaskClient, asked: tuple[str, bytes]
) -> None:
    send(client, *asked)


@pytest.mark.slow
@hypothesis_settings(max_examples=20_000, **FUZZ)  # type: ignore[arg-type]
@given(bent())
def test_no_bent_body_at_length(client: FlaskClient, asked: tuple[str, bytes]) -> None:
    send(client, *asked)


def test_the_bodies_that_are_bent_are_all_recorded_ones(client: FlaskClient) -> None:
    assert len(RECORDED) == 22
    for name, body in RECORDED.items():
        path = name.partition("_")[0] if not name.startswith("job") else "job_status"
        assert client.post(f"/{path}", json=body).status_code in {200, 201, 404}


@hypothesis_settings(max_examples=200, **FUZZ)  # type: ignore[arg-type]
@given(
    raw=st.binary(max_size=200), path=st.sampled_from(["/setup", "/predict", "/webhook", "/train"])
)
def test_no_bytes_are_more_than_a_bad_request(client: FlaskClient, raw: bytes, path: str) -> None:
    send(client, path, raw)


PICTURES = [saved(noise(), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF")]


@hypothesis_settings(max_examples=200, **FUZZ)  # type: ignore[arg-type]
@given(
    file=st.sampled_from(PICTURES) | st.binary(max_size=100),
    changes=st.lists(
        st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=4)), max_size=4
    ),
    header=st.sampled_from(
        ["data:image/png;base64,", "data:;base64,", "data:,", "DATA:x;BASE64,", "data:"]
    ),
    project=st.booleans(),
)
def test_no_picture_in_a_task_breaks_predict(
    client: FlaskClient, file: bytes, changes: list[tuple[int, bytes]], header: str, project: bool
) -> None:
    """Bytes of a picture inside the body, the one way for them to come without a fetch."""
    data = bytearray(file)
    for at, what in changes:
        data[at : at + len(what)] = what
    body = copy.deepcopy(RECORDED["predict_open_task"])
    body["tasks"] = [{"id": 99, "data": {"image": header + base64.b64encode(data).decode()}}]
    if not project:
        del body["project"]
    send(client, "/predict", json.dumps(body).encode())
    with contextlib.suppress(ImageError):
        assert isinstance(as_rgb(open_image(bytes(data), max_pixels=1 << 20)), Image.Image)


def test_a_whole_picture_in_a_task_is_judged(client: FlaskClient) -> None:
    """So the property above does reach the decoder and the network."""
    before = Rarely.judged
    body = copy.deepcopy(RECORDED["predict_open_task"])
    coded = base64.b64encode(PICTURES[0]).decode()
    body["tasks"] = [{"id": 99, "data": {"image": f"data:image/png;base64,{coded}"}}]
    (result,) = client.post("/predict", json=body).get_json()["results"]
    assert result["score"] == 0.5
    assert Rarely.judged == before + 1
