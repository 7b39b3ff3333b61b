"""Exports as Label Studio 1.23.2 writes them (docs/label-studio.md, section 6)."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from backend.errors import BackendError, MediaError
from backend.labelstudio.export import (
    CONFLICT,
    OTHER,
    SEVERAL,
    SKIPPED,
    UNLABELED,
    read_export,
)
from backend.simulation.images import LabeledImages
from tests.unit.backend.simulation.squares_on_disk import square

PAYLOADS = Path(__file__).resolve().parents[3] / "contract" / "payloads" / "1.23.2"
Task = dict[str, object]


def _annotation(
    *chosen: str, control: str = "choice", annotator: object = 1, **more: object
) -> dict[str, object]:
    region = {
        "from_name": control,
        "to_name": "image",
        "type": "choices",
        "value": {"choices": list(chosen)},
    }
    usual = {"was_cancelled": False, "ground_truth": False, "completed_by": annotator}
    return {"result": [region] if chosen else [], **usual, **more}


def _task(number: int, *annotations: dict[str, object], **data: object) -> Task:
    return {"id": number, "data": data or {"image": f"{number}.png"}, "annotations": annotations}


def _read(folder: Path, tasks: object, **options: str) -> LabeledImages:
    path = folder / "export.json"
    path.write_text(json.dumps(tasks))
    return read_export(path, max_bytes=10_000, **options)  # type: ignore[arg-type]


def _labels(found: LabeledImages) -> dict[str, str]:
    return {image.name.split(",")[0]: image.label for image in found.images}


def test_a_recorded_task(tmp_path: Path) -> None:
    event = json.loads((PAYLOADS / "webhook_ANNOTATION_CREATED.json").read_text())
    # The webhook has task and annotation apart, the export one in the other.
    task = {**event["task"], "annotations": [event["annotation"]], "predictions": [3], "drafts": []}
    upload = tmp_path / "1" / "0696d945-airplane_0000.jpg"
    upload.parent.mkdir()
    upload.write_bytes(b"a picture")
    found = _read(tmp_path, [task])
    assert _labels(found) == {"task 1": "cat"}
    assert found.images[0].load() == b"a picture"


def test_annotations_are_put_to_the_vote(tmp_path: Path) -> None:
    early, late = "2026-11-21T03:00:00Z", "2026-11-21T04:00:00Z"
    found = _read(
        tmp_path,
        [
            _task(1, _annotation("a", annotator=1), _annotation("b", annotator=2)),
            _task(2, *(_annotation(c, annotator=n) for n, c in enumerate("aab"))),
            _task(3, _annotation("a"), _annotation("b", annotator=2, ground_truth=True)),
            _task(4, _annotation("a", updated_at=late), _annotation("b", updated_at=early)),
            _task(5, _annotation("a", annotator={"id": 1, "email": "x"}), _annotation("a")),
            _task(6, _annotation("a", was_cancelled=True), _annotation("b")),
        ],
    )
    assert _labels(found) == {
        "task 2": "a",
        "task 3": "b",
        "task 4": "a",  # of one annotator the latest
        "task 5": "a",
        "task 6": "b",
    }
    assert found.left_out == {CONFLICT: 1}


def test_tasks_without_a_label_are_counted(tmp_path: Path) -> None:
    boxes = _annotation("a") | {"result": [{"from_name": "box", "type": "rectanglelabels"}]}
    found = _read(
        tmp_path,
        [
            _task(1, _annotation("a")),
            _task(2),
            _task(3, _annotation(was_cancelled=True)),
            _task(4, _annotation()),
            _task(5, _annotation() | {"result": None}),
            _task(6, boxes),
            _task(7, _annotation("a", "b")),
            {"id": 8, "data": {"image": "8.png"}, "annotations": None},
        ],
    )
    assert _labels(found) == {"task 1": "a"}
    assert found.left_out == {UNLABELED: 2, SKIPPED: 1, OTHER: 3, SEVERAL: 1}


@pytest.mark.parametrize(
    "address",
    [
        "deep/in/here.png",
        "/data/upload/7/deep/in/here.png",
        "in/here.png",
        "/data/local-files/?d=somewhere/in%2Fhere.png",
        "http://labels.example.org/data/local-files/?d=in/here.png",
        "https://cdn.example.org/bucket/in/here.png?signature=a.png",
        "s3://bucket/deep/in/here.png",
        "/data/upload/7/0a1b2c3d-top%20one.png",
        "0a1b2c3d-top one.png",
    ],
)
def test_addresses_lead_into_the_folder(tmp_path: Path, address: str) -> None:
    images = tmp_path / "images"
    for name in ("deep/in/here.png", "in/here.png", "top one.png"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(name.encode())
    tasks = [_task(1, _annotation("a"), image=address)]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    (image,) = read_export(path, images=images, max_bytes=100).images
    wanted = b"top one.png" if "top" in address else b"in/here.png"
    assert image.load().endswith(wanted)


@pytest.mark.parametrize(
    "address", ["../secret.png", "/secret.png/../../secret.png", "gone.png", "\x00.png", "a" * 5000]
)
def test_what_is_not_in_the_folder_is_that_images_trouble(tmp_path: Path, address: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"not for us")
    images = tmp_path / "images"
    images.mkdir()
    path = tmp_path / "export.json"
    path.write_text(json.dumps([_task(1, _annotation("a"), image=address)]))
    (image,) = read_export(path, images=images, max_bytes=100, image_key="image").images
    with pytest.raises(MediaError, match=r"no such file in .*--images"):
        image.load()


def test_data_uris_are_decoded(tmp_path: Path) -> None:
    data = square("red", 1)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    found = _read(tmp_path, [_task(1, _annotation("a"), picture=uri)])
    assert found.images[0].load() == data
    other = _read(tmp_path, [_task(1, _annotation("a"), picture=uri + "AAAA")])
    assert other.images[0].key != found.images[0].key


def test_of_several_keys_the_one_that_looks_like_an_image(tmp_path: Path) -> None:
    found = _read(tmp_path, [_task(1, _annotation("a"), title="a cat", photo="x.jpg", n=3)])
    assert found.images[0].name.startswith("task 1, x.jpg")
    two = [_task(1, _annotation("a"), left="l.jpg", right="r.jpg")]
    with pytest.raises(BackendError, match=r"left, right.*--image-key"):
        _read(tmp_path, two)
    assert "r.jpg" in _read(tmp_path, two, image_key="right").images[0].name
    missing = _read(tmp_path, two, image_key="middle").images[0]
    with pytest.raises(MediaError, match="'middle'"):
        missing.load()
    plain = _read(tmp_path, [_task(1, _annotation("a"), where="no ending")])
    assert "no ending" in plain.images[0].name


def test_of_several_controls_a_person_names_one(tmp_path: Path) -> None:
    both = _annotation("a")
    both["result"] = [*_annotation("b", control="kind")["result"], *both["result"]]  # type: ignore[misc, index]
    with pytest.raises(BackendError, match=r"choice, kind.*--control"):
        _read(tmp_path, [_task(1, both)])
    assert _labels(_read(tmp_path, [_task(1, both)], control="kind")) == {"task 1": "b"}
    assert _labels(_read(tmp_path, [_task(1, both)], control="choice")) == {"task 1": "a"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "expected a list of tasks"),
        ("[", "cannot be read as JSON"),
        ('[{"image": "1.png", "choice": "a", "id": 1}]', "not JSON-MIN"),
        ('[{"data": {}, "annotations": [{"result": 3}]}]', "annotations.0.result"),
        ("[]", "holds a choice"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "export.json"
    path.write_text(text)
    with pytest.raises(BackendError, match=words):
        read_export(path, max_bytes=100)


def test_an_export_of_boxes_is_refused_with_what_is_replayed(tmp_path: Path) -> None:
    event = json.loads((PAYLOADS / "webhook_ANNOTATION_CREATED_detection.json").read_text())
    task = {**event["task"], "annotations": [event["annotation"]]}
    with pytest.raises(BackendError, match=r"holds 1 boxes \(RectangleLabels\).*Choices only"):
        _read(tmp_path, [task])
    # Choices beside the boxes are replayed.
    (tmp_path / "1.png").write_bytes(b"a picture")
    both = _annotation("a")
    both["result"] = [*event["annotation"]["result"], *both["result"]]  # type: ignore[misc]
    assert _labels(_read(tmp_path, [_task(1, both)])) == {"task 1": "a"}


def test_the_folder_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps([_task(1, _annotation("a"))]))
    with pytest.raises(BackendError, match="--images"):
        read_export(path, images=tmp_path / "gone", max_bytes=100)
