from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from backend.errors import BackendError, MediaError
from backend.simulation.images import NO_CLASS, NO_IMAGE, LabeledImages, read_folder, read_zip
from tests.unit.backend.simulation.squares_on_disk import square, write_squares


def _labels(found: LabeledImages) -> dict[str, str]:
    return {image.name: image.label for image in found.images}


def test_the_class_is_the_folder_that_an_image_lies_in(tmp_path: Path) -> None:
    write_squares(tmp_path / "train", red=1, blue=2)
    write_squares(tmp_path / "more" / "blue", green=1)
    (tmp_path / "readme.txt").write_text("no image")
    (tmp_path / "loose.png").write_bytes(square("red", 0))
    (tmp_path / "train" / "red" / ".hidden.png").write_bytes(b"")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "a.png").write_bytes(b"")
    found = read_folder(tmp_path, max_bytes=10_000)
    assert _labels(found) == {
        "more/blue/green/000.png": "green",
        "train/blue/000.png": "blue",
        "train/blue/001.png": "blue",
        "train/red/000.png": "red",
    }
    assert found.left_out == {NO_IMAGE: 1, NO_CLASS: 1}
    assert found.images[1].load() == square("blue", 0)


def test_a_changed_file_has_another_key(tmp_path: Path) -> None:
    write_squares(tmp_path, red=2)
    before = [image.key for image in read_folder(tmp_path, max_bytes=10_000).images]
    assert len(set(before)) == 2
    (tmp_path / "red" / "001.png").write_bytes(square("blue", 5) + b" ")
    after = [image.key for image in read_folder(tmp_path, max_bytes=10_000).images]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_files_that_are_gone_or_too_large_are_refused_when_loaded(tmp_path: Path) -> None:
    write_squares(tmp_path, red=2)
    first, second = read_folder(tmp_path, max_bytes=100).images
    with pytest.raises(MediaError, match="RAREFIRST_MAX_IMAGE_MB"):
        first.load()
    (tmp_path / "red" / "001.png").unlink()
    with pytest.raises(MediaError, match="No such file"):
        second.load()


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_zip_is_read_without_unpacking(tmp_path: Path) -> None:
    path = _zip(
        tmp_path / "a.zip",
        {
            "data/red/1.png": square("red", 1),
            "data/blue/1.png": square("blue", 1),
            "__MACOSX/data/red/._1.png": b"",
            "1.png": b"",
            "data/notes.md": b"",
        },
    )
    with read_zip(path, max_bytes=10_000) as found:
        assert _labels(found) == {"data/blue/1.png": "blue", "data/red/1.png": "red"}
        assert found.left_out == {NO_IMAGE: 1, NO_CLASS: 1}
        assert found.images[1].load() == square("red", 1)
        keys = [image.key for image in found.images]
    with read_zip(path, max_bytes=10) as found:
        assert [image.key for image in found.images] == keys
        with pytest.raises(MediaError, match="larger"):
            found.images[0].load()
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_a_damaged_member_is_that_images_trouble(tmp_path: Path) -> None:
    data = square("red", 1)
    path = _zip(tmp_path / "a.zip", {"red/1.png": data, "red/2.png": square("red", 2)})
    packed = bytearray(path.read_bytes())
    at = packed.find(data)
    packed[at + 40] ^= 255  # the checksum no longer fits
    path.write_bytes(packed)
    with read_zip(path, max_bytes=10_000) as found:
        with pytest.raises(MediaError, match="CRC"):
            found.images[0].load()
        assert found.images[1].load() == square("red", 2)


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\x03\x04 and nothing more")
    with (
        pytest.raises(BackendError, match="cannot be read as a zip"),
        read_zip(path, max_bytes=10),
    ):
        pass
