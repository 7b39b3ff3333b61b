"""Files and archives that people hand in: bombs, slips, and names that lead elsewhere."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from backend.errors import BackendError, MediaError
from backend.labelstudio.export import read_export
from backend.labelstudio.image_cache import ImageCache
from backend.projects import ProjectStores
from backend.score_files import FileScore, image_files
from backend.simulation.images import read_folder, read_zip, readable
from demo.file_tree import BoxDataError, open_tree
from tests.security.conftest import ROOT, Tried
from tests.unit.models.image_files import hungry, noise, png, saved, too_large

SLIPS = (
    "../../slipped.png", "/slipped.png", "a/../../../slipped.png", "..\\..\\slipped.png",
    "C:\\slipped.png", "a/\x00/slipped.png", "//host/share/slipped.png", "a/./../../slipped.png",
    "~/slipped.png", "a" * 300 + "/slipped.png", "%2e%2e/slipped.png", "\u2025/slipped.png",
)  # fmt: skip


def archive(path: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as made:
        for name, content in members.items():
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it is: the constructor would cut and turn it
            info.compress_type = kind
            made.writestr(info, content)
    return path


def below(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def test_no_member_of_a_zip_leaves_the_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "a" / "b" / "c"
    inside.mkdir(parents=True)
    picture = saved(noise(), "PNG")
    path = archive(inside / "given.zip", dict.fromkeys(SLIPS, picture))
    monkeypatch.chdir(inside)
    before = below(tmp_path)
    with read_zip(path, max_bytes=1 << 20) as found:
        loaded = [image.load() for image in found.images]
    assert loaded
    assert set(loaded) == {picture}
    tree = open_tree(path)
    assert [tree.read(name, at_most=1 << 20) for name in tree.names] == [picture] * len(tree.names)
    assert below(tmp_path) == before
    assert not list(Path("/").glob("slipped*"))


def test_a_link_in_a_zip_is_only_text(tmp_path: Path) -> None:
    path = tmp_path / "given.zip"
    with zipfile.ZipFile(path, "w") as made:
        info = zipfile.ZipInfo("class/link.png")
        info.external_attr = 0o120777 << 16
        made.writestr(info, "/etc/passwd")
    with read_zip(path, max_bytes=1000) as found:
        assert [image.load() for image in found.images] == [b"/etc/passwd"]


@pytest.mark.parametrize(
    "kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_any_damage_to_a_zip_is_one_images_trouble(tmp_path: Path, kind: int, tried: Tried) -> None:
    whole = archive(tmp_path / "whole.zip", {"a/x.png": random.Random(0).randbytes(3000)}, kind)
    raw, path = whole.read_bytes(), tmp_path / "damaged.zip"
    refused = 0
    tried(len(range(0, len(raw), 5)))
    for at in range(0, len(raw), 5):
        changed = bytearray(raw)
        changed[at] ^= 0xFF
        changed[(at + 1) % len(raw)] ^= 0x5A
        path.write_bytes(changed)
        try:
            with read_zip(path, max_bytes=10_000) as found:
                for image in found.images:
                    image.load()
        except BackendError:
            refused += 1
        try:
            tree = open_tree(path)
            for name in tree.names:
                tree.read(name, at_most=10_000)
        except BoxDataError:
            refused += 1
    assert refused > 100


_BOMB = """
import resource, sys
from pathlib import Path
from backend.errors import MediaError
from backend.simulation.images import read_zip
from demo.file_tree import BoxDataError, open_tree
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
path, before, refused = Path(sys.argv[1]), peak(), 0
with read_zip(path, max_bytes=1 << 20) as found:
    for image in found.images:
        try:
            image.load()
        except MediaError:
            refused += 1
tree = open_tree(path)
for name in tree.names:
    try:
        tree.read(name, at_most=1 << 20)
    except BoxDataError:
        refused += 1
print(refused, peak() - before)
"""


def test_a_zip_that_unpacks_to_gigabytes_costs_no_memory(tmp_path: Path) -> None:
    """A true size, one that lies, and members that share their data."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for number in range(2):
            info = zipfile.ZipInfo(f"a/{number}.png")
            info.compress_type = zipfile.ZIP_DEFLATED
            with made.open(info, "w") as file:
                for _ in range(300):
                    file.write(bytes(1 << 20))
    raw = path.read_bytes()
    sizes = (300 << 20).to_bytes(4, "little")
    path.write_bytes(raw.replace(sizes, (100).to_bytes(4, "little"), 1))
    assert raw.count(sizes) >= 2
    assert path.stat().st_size < 6 << 20
    done = subprocess.run(
        [sys.executable, "-c", _BOMB, str(path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    refused, mib = map(int, done.stdout.split())
    assert refused == 4, done.stderr
    assert mib < 100


_SCORE = """
import resource, sys
from pathlib import Path
from backend.score_files import image_files
from models.backbones.backbone import load_backbone
from models.backbones.networks import BackboneSpec
from backend.embedding import embed
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
files = image_files([Path(sys.argv[1])])
backbone = load_backbone(BackboneSpec(architecture="cnn4", num_classes=2))
before = peak()
found = embed(backbone, range(len(files)), lambda n: files[n].read_bytes(), max_pixels=100_000_000)
print(len(files), len(found.failures), peak() - before)
"""


def test_bombs_among_scored_files_cost_no_memory(tmp_path: Path) -> None:
    """Giant PNG, GIF frames, TIFF, WebP, AVIF, BMP, JPEG 2000 and a zip, as `score` reads files."""
    folder = tmp_path / "files"
    folder.mkdir()
    many = saved(noise(), "GIF", save_all=True, append_images=[noise()] * 500, loop=0)
    bombs = {**too_large(), **hungry(), "zip": b"PK\x03\x04" + bytes(100)}
    fine = {"gif of many frames": many, "fine": png((8, 8), bits=8, colour=0, rows=bytes(72))}
    for number, content in enumerate([*bombs.values(), *fine.values()]):
        (folder / f"{number:02}.png").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", _SCORE, str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    files, failed, mib = map(int, done.stdout.split())
    assert files == len(bombs) + len(fine)
    assert len(bombs) - 4 <= failed <= len(bombs), done.stderr
    assert mib < 400


def test_no_export_reads_beyond_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    (folder / "link.png").symlink_to(secret)
    ways = (
        "../secret.png", str(secret), f"file://{secret}", "/data/upload/../../secret.png",
        "/data/local-files/?d=../secret.png", "/data/local-files/?d=" + str(secret), "link.png",
        "%2e%2e/secret.png", "/data/upload/%2e%2e%2fsecret.png", "x/../../secret.png", "\x00",
        "..\\secret.png", "a" * 9999, "....//secret.png", "http://h/../secret.png", "\ud800",
    )  # fmt: skip
    region = {"type": "choices", "from_name": "c", "value": {"choices": ["cat"]}}
    tasks = [
        {"id": number, "data": {"image": way}, "annotations": [{"result": [region]}]}
        for number, way in enumerate(ways)
    ]
    path = folder / "export.json"
    path.write_text(json.dumps(tasks))
    found = read_export(path, image_key="image", max_bytes=1000)
    assert len(found.images) == len(ways)
    for image in found.images:
        with pytest.raises(MediaError, match="no such file"):
            image.load()


@pytest.mark.parametrize(
    "bad", [b"[" * 100_000, b"NaN", b"1" * 9999, b"\xff", b"{}", b'[{"data":{}}]']
)
def test_an_export_of_anything_is_a_clear_error(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "export.json"
    path.write_bytes(bad)
    with pytest.raises(BackendError):
        read_export(path, max_bytes=1000)


def test_no_key_of_the_image_cache_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "cache"
    cache = ImageCache(folder, max_bytes=1 << 20)
    for number, key in enumerate(
        ("../../x", "/etc/passwd", "a\x00b", "a" * 10_000, "", ".", "..", "size", "\n", "é")
    ):
        cache.put(key, b"image %d" % number)
        assert cache.get(key) == b"image %d" % number
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 11
    assert all(name == "size" or len(name) == 67 for name in files)
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}


def test_no_project_is_a_folder_elsewhere(tmp_path: Path) -> None:
    stores = ProjectStores(tmp_path / "data", "http://label-studio.test")
    for project, created in ((1, 0), (2**62, 2**62), (9, None)):
        store = stores.create(project, created or 0, "é/../x")
        assert store.root.parent == stores.root
        assert store.root.name.replace("-", "").isalnum()


def test_names_that_are_no_text_are_shown_and_counted(tmp_path: Path) -> None:
    """Linux lets a file be called anything but / and zero bytes."""
    folder = tmp_path / "set" / os.fsdecode(b"cl\xffass")
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"\xfe\x1b.png")).write_bytes(saved(noise(), "PNG"))
    (image,) = read_folder(tmp_path / "set", max_bytes=1 << 20).images
    assert image.load().startswith(b"\x89PNG")
    assert (image.label, image.name) == ("cl\\xffass", "cl\\xffass/\\xfe\x1b.png")
    (path,) = image_files([tmp_path / "set"])
    assert FileScore(file=readable(path)).model_dump_json().encode()
