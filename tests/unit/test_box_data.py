"""Pictures with boxes from folders and zips: what is read, what is refused, and in which words."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from demo import file_tree
from demo.box_data import BoxData, BoxDataError, read_boxes, tiles
from models.detection.boxes import Box

BCCD = Path(__file__).parents[3] / "shared" / "data" / "bccd-trainval.zip"


def png(width: int = 40, height: int = 20, *, orientation: int = 0) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", (width, height)).save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def voc(
    *boxes: tuple[str, float, float, float, float],
    filename: str = "",
    size: tuple[int, int] | None = (40, 20),
    head: str = "",
) -> bytes:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
        f"<ymax>{y1}</ymax></bndbox></object>"
        for name, x0, y0, x1, y1 in boxes
    )
    told = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return f"{head}<annotation><filename>{filename}</filename>{told}{objects}</annotation>".encode()


def coco(images: list[str], boxes: list[dict[str, object]], **more: object) -> bytes:
    return json.dumps(
        {
            "images": [
                {"id": number, "file_name": name, "width": 40, "height": 20}
                for number, name in enumerate(images)
            ],
            "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
            "annotations": boxes,
            **more,
        }
    ).encode()


def folder(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path / "data.zip"


BOTH = pytest.mark.parametrize("packed", [folder, zipped])
CAT = ("cat", 10, 5, 30, 15)


@BOTH
@pytest.mark.parametrize(
    "place", ["{}.xml", "annotations/{}.xml", "Annotations/{}.XML", "deep/xml/{}.xml"]
)
def test_voc_beside_the_picture_or_in_a_folder(tmp_path: Path, packed: object, place: str) -> None:
    files = {"JPEGImages/a.png": png(), "JPEGImages/b.png": png()}
    files[place.format("a")] = voc(CAT, ("dog", 0, 0, 40, 20))
    files[place.format("b")] = voc()
    data = read_boxes(packed(tmp_path, files))  # type: ignore[operator]  # either of two
    one, two = data.images
    assert (one.name, one.width, one.height) == ("JPEGImages/a.png", 40, 20)
    assert one.boxes == (Box("cat", 0.25, 0.25, 0.75, 0.75), Box("dog", 0, 0, 1, 1))
    assert one.load() == files["JPEGImages/a.png"]
    assert two.boxes == (), "annotated as empty"
    assert (data.notes, one.notes) == ((), ())
    assert data.counts == {"cat": 1, "dog": 1}


@BOTH
def test_coco(tmp_path: Path, packed: object) -> None:
    boxes: list[dict[str, object]] = [
        {"image_id": 0, "category_id": 7, "bbox": [10, 5, 20, 10]},
        {"image_id": 0, "category_id": 9, "bbox": [0, 0, 4, 2], "iscrowd": 1},
    ]
    files = {
        "images/a.png": png(),
        "images/b.png": png(),
        "annotations/instances.json": coco(["a.png", "b.png"], boxes),
        "annotations/licence.json": b"{}",
    }
    one, two = read_boxes(packed(tmp_path, files)).images  # type: ignore[operator]
    assert one.boxes == (Box("cat", 0.25, 0.25, 0.75, 0.75), Box(None, 0, 0, 0.1, 0.1))
    assert two.boxes == ()


def test_the_same_name_in_two_folders_is_matched_by_the_folder(tmp_path: Path) -> None:
    files = {f"{part}/images/1.png": png() for part in ("train", "val")}
    files["train/annotations/1.xml"] = voc(("in train", 0, 0, 40, 20))
    files["val/annotations/1.xml"] = voc(("in val", 0, 0, 40, 20))
    data = read_boxes(folder(tmp_path, files))
    assert {image.name: image.boxes[0].label for image in data.images} == {
        "train/images/1.png": "in train",
        "val/images/1.png": "in val",
    }


def test_coco_names_the_folder_itself(tmp_path: Path) -> None:
    files = {f"{part}/1.png": png() for part in ("train", "val")}
    box: dict[str, object] = {"image_id": 0, "category_id": 7, "bbox": [0, 0, 4, 2]}
    files["all.json"] = coco([r"val\1.png"], [box])
    (image,) = read_boxes(folder(tmp_path, files)).images
    assert image.name == "val/1.png"


def test_a_name_that_fits_two_pictures_is_left_out(tmp_path: Path) -> None:
    files = {"p/1.png": png(), "q/1.png": png(), "xml/1.xml": voc(CAT), "p/2.png": png()}
    files["xml/2.xml"] = voc(CAT)
    data = read_boxes(folder(tmp_path, files))
    assert [image.name for image in data.images] == ["p/2.png"]
    assert "found 2 pictures" in data.notes[0]
    assert "2 of 3 pictures have no usable annotations" in data.notes[1]


def test_voc_is_found_by_its_filename_too(tmp_path: Path) -> None:
    files = {"a.png": png(), "annotation-0.xml": voc(CAT, filename="A.png")}
    assert len(read_boxes(folder(tmp_path, files)).images) == 1


@pytest.mark.parametrize(
    ("box", "expected", "note"),
    [
        ((-4, 5, 20, 10), Box("cat", 0, 0.25, 0.5, 0.5), "cat at -4, 5, 20, 10 px reaches beyond"),
        ((30, 10, 44, 30), Box("cat", 0.75, 0.5, 1, 1), "clipped"),
        ((10, 5, 10, 15), None, "has no area within the picture: left out"),
        ((30, 5, 10, 15), None, "has no area"),
        ((50, 5, 60, 15), None, "has no area"),
        (("ten", 5, 60, 15), None, "cat: it has no whole bndbox: left out"),
        (("inf", 5, 60, 15), None, "cat: it has no whole bndbox: left out"),
    ],
)
def test_boxes_at_and_beyond_the_edges(
    tmp_path: Path, box: tuple[float, float, float, float], expected: Box | None, note: str
) -> None:
    files = {"a.png": png(), "a.xml": voc(("cat", *box), ("dog", 0, 0, 4, 2))}
    (image,) = read_boxes(folder(tmp_path, files)).images
    assert [b for b in image.boxes if b.label == "cat"] == ([expected] if expected else [])
    assert len(image.notes) == 1
    assert note in image.notes[0]


def test_pictures_that_were_scaled_or_lie_on_their_side(tmp_path: Path) -> None:
    files = {
        "scaled.png": png(80, 40),
        "scaled.xml": voc(CAT),
        "upright.png": png(20, 40, orientation=6),
        "upright.xml": voc(CAT),
        "other.png": png(20, 40),
        "other.xml": voc(CAT),
        "untold.png": png(),
        "untold.xml": voc(CAT, size=None),
        "nought.png": png(),
        "nought.xml": voc(CAT, size=(0, 0)),
    }
    data = read_boxes(folder(tmp_path, files))
    assert {i.name: (i.width, i.height) for i in data.images} == {
        "scaled.png": (80, 40), "upright.png": (40, 20), "untold.png": (40, 20),
        "nought.png": (40, 20),
    }  # fmt: skip
    assert {image.boxes for image in data.images} == {(Box("cat", 0.25, 0.25, 0.75, 0.75),)}
    assert data.notes[0].startswith("other.png: the annotations are of a picture of 40 x 20 px")


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, "found no file"),
        ({"a.png": png(), "a.txt": b"0 .5 .5 .1 .1"}, "1 .png, 1 .txt.*expected pictures with VOC"),
        ({"a.xml": voc(CAT)}, "found the files 1 .xml"),
        ({"a.png": png(), "a.xml": b"<html/>"}, "expected pictures with VOC"),
        ({"a.png": png(), "a.xml": b"<annotation>"}, "a.xml cannot be read"),
        ({"a.png": png(), "a.xml": b'<?xml version="1.0" encoding="x-y"?><a/>'}, "a.xml cannot"),
        ({"a.png": png(), "a.json": b"[" * 200_000}, "a.json cannot be read"),
        ({"a.png": png(), "a.xml": voc()}, "no box on any of them"),
        ({"a.png": b"no picture", "a.xml": voc(CAT)}, r"a.png: it cannot be opened"),
        ({"a.png": png(), "b.xml": voc(CAT)}, "b.xml: found no picture for b"),
        ({"a.png": png(), "a.xml": voc(CAT), "a.json": coco(["a.png"], [])}, "both VOC and COCO"),
        (
            {"a.png": png(), "a.json": coco(["a.png"], []), "b.json": coco(["a.png"], [])},
            "a.png has annotations in a.json and in b.json",
        ),
        (
            {"a.png": png(), "a.json": coco(["a.png"], [{"image_id": 0, "category_id": 1}])},
            "a.json is not COCO: KeyError 1; expected images with id",
        ),
        (
            {
                "a.png": png(),
                "a.json": coco(
                    ["a.png"], [{"image_id": 5, "category_id": 7, "bbox": [0, 0, 1, 1]}]
                ),
            },
            "1 images with boxes are not listed",
        ),
    ],
)
@BOTH
def test_what_cannot_be_used_is_said(
    tmp_path: Path, files: dict[str, bytes], complaint: str, packed: object
) -> None:
    with pytest.raises(BoxDataError, match=complaint):
        read_boxes(packed(tmp_path, files))  # type: ignore[operator]


def test_neither_folder_nor_zip(tmp_path: Path) -> None:
    with pytest.raises(BoxDataError, match=r"there is no .*expected a folder or a zip"):
        read_boxes(tmp_path / "nowhere")
    (tmp_path / "text").write_text("text")
    with pytest.raises(BoxDataError, match=r"found the file .*expected a folder or a zip"):
        read_boxes(tmp_path / "text")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_doctype_is_refused_before_its_entities_are_read(tmp_path: Path, encoding: str) -> None:
    bomb = (
        f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
        '<!ENTITY b "&a;&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>'
        "<annotation><object><name>&b;&c;</name></object></annotation>"
    )
    files = {"a.png": png(), "a.xml": bomb.encode(encoding)}
    with pytest.raises(BoxDataError, match=r"a\.xml cannot be read: it has a DOCTYPE"):
        read_boxes(folder(tmp_path, files))


def test_nothing_of_a_zip_lands_on_the_disk(tmp_path: Path) -> None:
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    files = {"../../a.png": png(), "/b.png": png(), "../../a.xml": voc(CAT), "/b.xml": voc(CAT)}
    data = read_boxes(zipped(inside, files))
    assert len(data.images) == 2
    assert data.images[0].load() == png()
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"data.zip"}


def test_what_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.box_data.MOST_XML_BYTES", 1000)
    path = zipped(tmp_path, {"a.png": png(), "a.xml": voc(CAT, head=" " * 2000)})
    with pytest.raises(BoxDataError, match=r"a\.xml in .* is larger than"):
        read_boxes(path)
    monkeypatch.setattr(file_tree, "MOST_FILES", 1)
    with pytest.raises(BoxDataError, match="holds 2 files, at most 1 are read"):
        read_boxes(path)


def test_damaged_zips_are_named(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"a.png": png(400, 300), "a.xml": voc(CAT, size=None)})
    content = bytearray(path.read_bytes())
    at = content.index(b"a.png") + 15
    content[at : at + 10] = b"\xff" * 10
    path.write_bytes(content)
    with pytest.raises(BoxDataError, match=r"a\.png"):
        read_boxes(path)


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    files = {"a.png": png(), "a.xml": voc(CAT), "__MACOSX/a.png": b"", ".trash/a.xml": b"<"}
    files["._a.png"] = b""
    assert len(read_boxes(folder(tmp_path, files)).images) == 1


def test_tiles_cover_the_picture_and_keep_what_lies_in_them() -> None:
    image = Image.linear_gradient("L").resize((640, 480))
    boxes = (
        Box("whole", 0.1, 0.1, 0.2, 0.2),
        Box("cut", 120 / 640, 0, 200 / 640, 0.1),
        Box("mostly left", 100 / 640, 0.7, 180 / 640, 0.8),
        Box(None, 0.9, 0.9, 1, 1),
    )
    found = tiles(image, boxes, 160)
    assert len(found) == 12
    assert {tile.image.size for tile in found} == {(160, 160)}
    assert [(tile.left_px, tile.top_px) for tile in found[:5]] == [
        (0, 0), (160, 0), (320, 0), (480, 0), (0, 160),
    ]  # fmt: skip
    for tile in found:
        left, top = tile.left_px, tile.top_px
        assert tile.image.tobytes() == image.crop((left, top, left + 160, top + 160)).tobytes()
    assert [box.label for box in found[0].boxes] == ["whole", "cut"]
    assert found[0].boxes[1].corners == pytest.approx((0.75, 0, 1, 0.3))
    # The other half of the same box: half of its area, so it keeps its label there too.
    assert [(box.label, box.x0) for box in found[1].boxes] == [("cut", 0.0)]
    assert [box.label for box in found[4].boxes] == []
    assert [box.label for box in found[8].boxes] == ["mostly left"]
    assert [box.label for box in found[9].boxes] == [None]
    assert [box.label for box in found[-1].boxes] == [None]


def test_pictures_smaller_than_a_tile_stay_whole() -> None:
    image = Image.new("RGB", (50, 200))
    box = Box("a", 0.25, 0.25, 0.5, 0.375)
    assert [tile.image.size for tile in tiles(image, (box,), 160)] == [(50, 200)]
    assert tiles(image, (box,), 160)[0].boxes == (box,)
    with pytest.raises(ValueError, match="found side_px 0"):
        tiles(image, (box,), 0)


_share = st.floats(0, 1)


@given(
    st.tuples(_share, _share, _share, _share),
    st.integers(20, 300),
    st.integers(20, 300),
    st.integers(8, 200),
)
def test_the_parts_of_a_box_make_up_the_box(
    corners: tuple[float, float, float, float], width: int, height: int, side: int
) -> None:
    x0, x1 = sorted((corners[0], corners[2]))
    y0, y1 = sorted((corners[1], corners[3]))
    if min((x1 - x0) * width, (y1 - y0) * height) < 1:
        return
    found = tiles(Image.new("L", (width, height)), (Box("a", x0, y0, x1, y1),), side)
    assert sum(t.image.width * t.image.height for t in found) == width * height
    area = 0.0
    for tile in found:
        for box in tile.boxes:
            assert 0 <= box.x0 < box.x1 <= 1
            assert 0 <= box.y0 < box.y1 <= 1
            area += box.area * tile.image.width * tile.image.height
    # Strips narrower than a pixel are left out.
    whole = (x1 - x0) * (y1 - y0) * width * height
    around = 2 * ((x1 - x0) * width + (y1 - y0) * height)
    assert whole - around - 1e-6 <= area <= whole + 1e-6


@pytest.fixture(scope="module")
def bccd() -> BoxData:
    if not BCCD.exists():
        pytest.skip(f"{BCCD} is not there")
    return read_boxes(BCCD)


def test_bccd_is_read_whole(bccd: BoxData) -> None:
    assert len(bccd.images) == 292
    assert {(image.width, image.height) for image in bccd.images} == {(640, 480)}
    assert bccd.counts == {"RBC": 3348, "WBC": 301, "Platelets": 292}
    assert bccd.notes == ()
    noted = [image.name for image in bccd.images if image.notes]
    assert noted == ["images/BloodImage_00338.jpg", "images/BloodImage_00343.jpg"]


def test_bccd_in_tiles(bccd: BoxData) -> None:
    image = bccd.images[0]
    with Image.open(io.BytesIO(image.load())) as picture:
        found = tiles(picture, image.boxes, 160)
    labels = Counter(box.label for tile in found for box in tile.boxes)
    assert len(found) == 12
    assert labels["RBC"] >= 10
    assert labels[None] > 0
