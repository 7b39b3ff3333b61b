"""Files of models that somebody tampered with: an error of ours, no code run, no memory spent."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.projects import ProjectStore
from models.backbones.backbone import Backbone, load_backbone
from models.backbones.networks import BackboneSpec, read_weights
from models.errors import CorruptVersion, ModelError
from models.recipes.checkpoint import read_checkpoint
from models.recipes.load_miner import load_miner
from models.registry import VersionCard, VersionRegistry
from tests.security.conftest import ROOT


class Exploit:
    """Unpickling it makes a file: the proof that something ran."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.proof,)


def tensors(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file by hand: length, header, data."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def one(**changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}


HOSTILE_TENSORS: dict[str, bytes] = {
    "empty": b"",
    "cut length": b"\x08",
    "length of 2^64": tensors(b"{}", length=2**64 - 1),
    "length beyond the file": tensors(b"{}", length=100),
    "length of 100 MB and one": tensors(b"{}", length=10**8 + 1),
    "length of nothing": tensors(b""),
    "no JSON": tensors(b"[[["),
    "nested without end": tensors(b'{"a":' * 50_000),
    "a list": tensors([1]),
    "overlapping": tensors({"a": one(), "b": one()}, bytes(4)),
    "huge shape": tensors({"a": one(shape=[2**62, 4])}, bytes(4)),
    "shape that overflows": tensors({"a": one(shape=[2**63, 2**63])}, bytes(4)),
    "negative shape": tensors({"a": one(shape=[-1])}, bytes(4)),
    "shape that is no number": tensors(
        b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)
    ),
    "beyond the end": tensors({"a": one(data_offsets=[0, 400])}, bytes(4)),
    "backwards": tensors({"a": one(data_offsets=[4, 0])}, bytes(4)),
    "a hole": tensors({"a": one(data_offsets=[4, 8])}, bytes(8)),
    "more data than tensors": tensors({"a": one()}, bytes(99)),
    "unknown type": tensors({"a": one(dtype="PICKLE")}, bytes(4)),
}
DEEP = ("[" * 100_000, '{"a":' * 100_000, '{"config":' + '{"a":' * 5000 + "1" + "}" * 5001)
HOSTILE_CARDS = (
    *(text.encode() for text in DEEP),
    *(b"", b"NaN", b"Infinity", b"1" * 10_000, b"\x00", b"\xff\xfe", b"null", b"[]", b'"x"'),
    *(b'{"kind":1e999}', b'{"task":"detection"}', b'{"kind":"' + b"a" * 100_000 + b'"}'),
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "frozen"
    load_backbone(BackboneSpec(architecture="cnn4", num_classes=2)).save(folder)
    return folder


@pytest.fixture
def frozen(stored: Path, tmp_path: Path) -> Path:
    """A copy of a stored frozen model, to be tampered with."""
    folder = tmp_path / "frozen"
    folder.mkdir()
    for file in stored.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.parametrize("name", HOSTILE_TENSORS)
def test_tampered_tensors_are_refused_wherever_they_are_read(
    frozen: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "given.safetensors"
    for path in (file, frozen / "weights.safetensors", tmp_path / "miner.safetensors"):
        path.write_bytes(HOSTILE_TENSORS[name])
    with pytest.raises(ModelError):
        Backbone.load(frozen)
    with pytest.raises(ModelError):
        read_weights(file)
    assert read_checkpoint(file) is None


def test_what_is_noted_in_a_checkpoint_may_be_nested_without_end(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.safetensors"
    for about in ("[" * 100_000, "NaN" * 2, "", '"' + "\\ud800" * 2):
        file.write_bytes(tensors({"__metadata__": {"about": about}, "p.a": one()}, bytes(4)))
        assert read_checkpoint(file) is None


@pytest.mark.parametrize("card", HOSTILE_CARDS, ids=range(len(HOSTILE_CARDS)))
def test_tampered_cards_are_refused(frozen: Path, tmp_path: Path, card: bytes) -> None:
    (frozen / "card.json").write_bytes(card)
    with pytest.raises(CorruptVersion):
        Backbone.load(frozen)
    (tmp_path / "miner.json").write_bytes(card)
    with pytest.raises(CorruptVersion):
        load_miner(tmp_path)
    registry = VersionRegistry(tmp_path / "versions")
    made = VersionCard(kind="random", snapshot_digest="", config={}, classes=("a",))
    name = registry.create(lambda folder: None, made).name
    registry.activate(name)
    (tmp_path / "versions" / name / "version.json").write_bytes(card)
    fresh = VersionRegistry(tmp_path / "versions")
    with pytest.raises(CorruptVersion):
        fresh.load(name)
    assert fresh.active() is None


@pytest.mark.parametrize(
    ("part", "field", "values"),
    [
        ("", "num_outputs", [0, -1, 3, 10**12, 2**63, None, 1.5, "x"]),
        ("recipe", "input_size", [0, -1, 10**6, 2**40]),
        ("recipe", "resize", [0, -1, 2**40]),
        ("recipe", "mean", [[0, 0], [1e308] * 3]),
        ("recipe", "std", [[0, 0, 0]]),
        ("spec", "architecture", ["../x", ":", "a:", "no.such:thing", "resnet18", "os:getcwd", ""]),
        ("spec", "feature_layer", ["x", "", "\x00"]),
        ("spec", "head_scale", [0, -1]),
        ("", "fingerprint", ["0" * 64, ""]),
    ],
)
def test_a_card_that_asks_for_what_cannot_be(
    frozen: Path, part: str, field: str, values: list[object]
) -> None:
    path = frozen / "card.json"
    good = json.loads(path.read_text())
    for value in values:
        changed = {**good[part], field: value} if part else value
        path.write_text(json.dumps({**good, part or field: changed}))
        with pytest.raises(ModelError):
            Backbone.load(frozen)
    path.write_text(json.dumps(good))
    Backbone.load(frozen)


@pytest.mark.parametrize(
    "pointer",
    [
        b"v" + b"9" * 5000,
        b"\xff\xfe",
        b"../../etc",
        b"/etc/passwd",
        b"",
        b"v0001\x00",
        b"v\xd9\xa1" * 4,
    ],
)
def test_a_tampered_pointer_leads_to_a_whole_version_or_none(
    tmp_path: Path, pointer: bytes
) -> None:
    registry = VersionRegistry(tmp_path)
    made = VersionCard(kind="random", snapshot_digest="", config={}, classes=("a",))
    name = registry.create(lambda folder: None, made).name
    (tmp_path / "active").write_bytes(pointer)
    found = registry.active()
    assert found is None or found.name == name


@pytest.mark.parametrize(
    "name", ["../v0001", "/etc", "v0001/../../x", "v0001\x00", "", ".", "active"]
)
def test_only_names_of_versions_become_paths(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "v0001"
    VersionRegistry(tmp_path).create(
        lambda folder: None,
        VersionCard(kind="random", snapshot_digest="", config={}, classes=("a",)),
    )
    registry = VersionRegistry(tmp_path / "inside")
    for act in (registry.load, registry.activate, registry.delete):
        with pytest.raises(CorruptVersion):
            act(name)
    assert outside.is_dir()


def test_a_pickle_runs_nowhere(frozen: Path, tmp_path: Path, store: ProjectStore) -> None:
    """Wherever a file of a model, of scores or of tasks is read, a pickled one is refused."""
    proof = tmp_path / "it ran"
    plain = pickle.dumps(Exploit(proof))
    zipped = tmp_path / "weights.pt"
    torch.save({"a": Exploit(proof)}, zipped)
    array = tmp_path / "array.npy"
    np.save(array, np.array([Exploit(proof)], dtype=object), allow_pickle=True)
    archive = tmp_path / "scores.npz"
    np.savez(
        archive,
        allow_pickle=True,
        **{
            key: np.array([Exploit(proof)], dtype=object)
            for key in ("ids", "rarity", "predicted", "confidence", "queue")
        },
    )
    pickle.loads(plain)
    assert proof.exists(), "the exploit itself works"
    proof.unlink()

    for content in (plain, *(path.read_bytes() for path in (zipped, array, archive))):
        for suffix in ("pt", "pth", "safetensors", "bin"):
            file = tmp_path / f"given.{suffix}"
            file.write_bytes(content)
            with pytest.raises(ModelError):
                read_weights(file)
        assert read_checkpoint(tmp_path / "given.safetensors") is None
        for name in ("weights.safetensors", "card.json"):
            before = (frozen / name).read_bytes()
            (frozen / name).write_bytes(content)
            with pytest.raises(ModelError):
                Backbone.load(frozen)
            (frozen / name).write_bytes(before)
        miner = tmp_path / "miner"
        miner.mkdir(exist_ok=True)
        for name in ("miner.json", "miner.safetensors"):
            (miner / name).write_bytes(content)
        with pytest.raises(ModelError):
            load_miner(miner)
        folder = store.path("publications", "name")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scores.json").write_text('{"classes": ["a"], "why": []}')
        (folder / "scores.npz").write_bytes(content)
        assert store.published_scores("name") is None
    assert not proof.exists()


_MEMORY = """
import resource, sys
from pathlib import Path
from models.backbones.backbone import Backbone
from models.errors import ModelError
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
try:
    Backbone.load(Path(sys.argv[1]))
except ModelError:
    print("refused", peak() - before)
"""


def test_a_card_of_a_giant_is_refused_before_memory_is_taken(frozen: Path) -> None:
    path = frozen / "card.json"
    good = json.loads(path.read_text())
    for changed in (
        {**good, "num_outputs": 500_000_000},
        {**good, "recipe": {**good["recipe"], "input_size": 60_000}},
    ):
        path.write_text(json.dumps(changed))
        done = subprocess.run(
            [sys.executable, "-c", _MEMORY, str(frozen)],
            cwd=ROOT, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        said, _, mib = done.stdout.partition(" ")
        assert said == "refused", done.stderr
        assert int(mib) < 300
