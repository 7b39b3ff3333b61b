"""A version in memory, and `rarefirst score` that judges files with it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from backend.cli import app
from backend.errors import BackendError, MediaError
from backend.judging import Judge, NothingToJudgeWith
from backend.projects import ProjectStore
from backend.score_files import image_files
from backend.settings import Settings
from models.backbones import Backbone, BackboneSpec, load_backbone
from models.backbones.detector import DetectorSpec, load_detector
from models.config import MinerConfig
from models.recipes.fit_miner import fit_miner
from models.registry import VersionCard, VersionRegistry
from models.tasks.base import CLASSIFICATION, DETECTION, task_of
from models.types import ClassSpace, Examples, Judgement, LabeledExamples
from tests.recorded import CLASSES, LABEL_STUDIO


class Miner:
    """Says of each image what its original logits say; keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: list[Examples] = []

    def judge(self, examples: Examples) -> Judgement:
        self.seen.append(examples)
        count = len(examples)
        logits = examples.logits
        return Judgement(
            ids=examples.ids,
            rarity=np.linspace(0.0, 1.0, count),
            predicted=np.zeros(count, np.int64) if logits is None else logits.argmax(axis=1),
            confidence=np.full(count, 0.5),
        )


def backbone(names: tuple[str, ...]) -> Backbone:
    spec = BackboneSpec(
        architecture="cnn4", weights="none", num_classes=len(names), class_names=names, seed=3
    )
    return load_backbone(spec)


def judge_of(names: tuple[str, ...], miner: Miner) -> Judge:
    return Judge(
        version="v0001",
        classes=CLASSES,
        tail=("ship",),
        backbone=backbone(names),
        miner=miner,
        task=task_of(CLASSIFICATION),
    )


def picture(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 40), (shade, 255 - shade, 90)).save(out, "PNG")
    return out.getvalue()


def test_logits_come_in_the_order_of_the_labels() -> None:
    one, other = Miner(), Miner()
    turned = (CLASSES[2], CLASSES[0], CLASSES[3], CLASSES[1])
    images = {5: picture(10), 7: picture(200)}
    for names, miner in ((CLASSES, one), (turned, other)):
        judged = judge_of(names, miner).judge(
            [7, 5], images.__getitem__, max_pixels=10_000, batch=1, threads=2
        )
        assert judged.judgement is not None
        assert judged.judgement.ids.tolist() == [7, 5]
    plain, moved = one.seen[0].logits, other.seen[0].logits
    assert plain is not None
    assert moved is not None
    # Same seed, same network: class `name` sits in another column of the turned one.
    assert moved == pytest.approx(plain[:, [turned.index(name) for name in CLASSES]])


def test_a_head_over_other_classes_is_no_original_head() -> None:
    miner = Miner()
    judge_of(("a", "b"), miner).judge(
        [1], lambda _: picture(1), max_pixels=10_000, batch=4, threads=1
    )
    assert miner.seen[0].logits is None


def test_a_bad_image_is_reported_and_the_others_judged() -> None:
    def load(image: int) -> bytes:
        if image == 2:
            raise MediaError("nobody has it")
        return {1: picture(9), 3: b"no image", 4: b"", 5: picture(9)[:60]}[image]

    judged = judge_of(CLASSES, Miner()).judge(
        [1, 2, 3, 4, 5], load, max_pixels=10_000, batch=2, threads=2
    )
    assert judged.judgement is not None
    assert judged.judgement.ids.tolist() == [1]
    assert set(judged.failures) == {2, 3, 4, 5}
    assert judged.failures[2] == "nobody has it"


def test_nothing_readable_is_no_judgement() -> None:
    judged = judge_of(CLASSES, Miner()).judge(
        [1], lambda _: b"x", max_pixels=10, batch=2, threads=2
    )
    assert judged.judgement is None
    assert list(judged.failures) == [1]


def test_a_detector_is_asked_for_few_images_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes far more memory for each, and what it said comes to the miner as it is."""
    spec = DetectorSpec(class_names=CLASSES, input_size=64, seed=1)
    detector, miner = load_detector(spec), Miner()
    sizes: list[int] = []
    embed = detector.embed

    def counted(batch: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        sizes.append(len(batch))
        return embed(batch)

    monkeypatch.setattr(detector, "embed", counted)
    judge = Judge(
        version="v0001",
        classes=CLASSES[:2],
        tail=(),
        backbone=detector,
        miner=miner,
        task=task_of(DETECTION),
    )
    ids = list(range(20))
    judged = judge.judge(ids, lambda i: picture(i), max_pixels=10_000, batch=64, threads=1)
    assert judged.judgement is not None
    assert judged.judgement.ids.tolist() == ids
    assert sizes == [16, 4]
    logits = miner.seen[0].logits
    assert logits is not None
    assert logits.shape == (20, detector.slots * (6 + len(CLASSES)))


def test_files_and_folders_are_found_once_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt", "deep/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = image_files([tmp_path / "b.png", tmp_path])
    assert [path.name for path in found] == ["b.png", "a.JPG", "c.webp"]
    with pytest.raises(BackendError, match="does not exist"):
        image_files([tmp_path / "none.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackendError, match="no image files"):
        image_files([tmp_path / "empty"])


@pytest.fixture
def runner(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("RAREFIRST_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", LABEL_STUDIO)
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner()


def test_score_shows_files_rarest_first_and_why_one_is_not_read(
    runner: CliRunner, store: ProjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "load", lambda *_, **__: judge_of(CLASSES, Miner()))
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(picture(number * 80))
    (folder / "torn.png").write_bytes(picture(1)[:50])
    result = runner.invoke(app, ["score", str(folder), "--project", "1", "--json"])
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said["version"] == "v0001"
    names = [Path(score["file"]).name for score in said["files"]]
    assert names == ["2.png", "1.png", "0.png", "torn.png"]
    assert [score["rarity"] for score in said["files"]] == [1.0, 0.5, 0.0, None]
    assert said["files"][0]["predicted"] in CLASSES
    assert said["files"][3]["error"]
    text = runner.invoke(app, ["score", str(folder), "--project", "1"]).stdout
    assert text.index("2.png") < text.index("0.png") < text.index("torn.png")


def test_score_before_a_first_version_says_so(
    runner: CliRunner, store: ProjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object, **__: object) -> Judge:
        raise NothingToJudgeWith("no version was fitted yet; `rarefirst status` says why")

    monkeypatch.setattr(Judge, "load", nothing)
    (tmp_path / "a.png").write_bytes(picture(1))
    result = runner.invoke(app, ["score", str(tmp_path / "a.png"), "--project", "1"])
    assert result.exit_code == 1
    assert "no version was fitted yet" in result.stderr


@pytest.fixture
def version(store: ProjectStore) -> Path:
    """A whole version of the project: a frozen model and a fitted miner, as the loop makes them."""
    frozen = backbone(CLASSES)
    frozen.save(store.path("backbones", frozen.fingerprint[:16]))
    random = np.random.default_rng(0)
    features = random.normal(size=(24, frozen.feature_size)).astype(np.float32)
    logits = random.normal(size=(24, len(CLASSES))).astype(np.float32)
    targets = np.arange(12, dtype=np.int64) % 2
    miner = fit_miner(
        LabeledExamples(Examples(np.arange(12), features[:12], logits[:12]), targets),
        Examples(np.arange(12, 24), features[12:], logits[12:]),
        classes=ClassSpace(CLASSES),
        config=MinerConfig(),
        seed=0,
    )
    registry = VersionRegistry(store.path("versions"))
    made = registry.create(
        miner.save,
        VersionCard(
            kind=miner.kind,
            snapshot_digest="",
            config={},
            classes=CLASSES,
            backbone_fingerprint=frozen.fingerprint,
        ),
    )
    registry.activate(made.name)
    return made.path


def test_a_stored_version_is_loaded_and_judges(store: ProjectStore, version: Path) -> None:
    for name in (None, version.name):
        judge = Judge.load(store, name)
        assert judge.version == version.name
        judged = judge.judge(
            [4, 2], lambda image: picture(image * 50), max_pixels=10_000, batch=2, threads=1
        )
        assert judged.judgement is not None
        assert judged.judgement.ids.tolist() == [4, 2]
        assert all(0 <= value <= 1 for value in judged.judgement.rarity)


def test_a_version_that_is_torn_or_gone_is_named(store: ProjectStore, version: Path) -> None:
    with pytest.raises(NothingToJudgeWith, match="v0099 cannot be loaded"):
        Judge.load(store, "v0099")
    torn = next(path for path in version.iterdir() if path.suffix == ".safetensors")
    torn.write_bytes(torn.read_bytes()[:-4])
    with pytest.raises(NothingToJudgeWith, match="digest"):
        Judge.load(store, version.name)


def test_no_version_yet_says_where_to_look(store: ProjectStore) -> None:
    with pytest.raises(NothingToJudgeWith, match="rarefirst status"):
        Judge.load(store, None)


def test_a_frozen_model_that_is_gone_is_named(store: ProjectStore, version: Path) -> None:
    shutil.rmtree(store.path("backbones"))
    with pytest.raises(NothingToJudgeWith, match="cannot be loaded"):
        Judge.load(store, version.name)
