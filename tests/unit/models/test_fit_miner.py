from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.config import MinerConfig
from models.errors import ConfigError, CorruptVersion, ShapeError
from models.label_head import LabelHead
from models.recipes.fit_miner import Miner, fit_miner
from models.scorers import SCORERS
from models.types import ClassSpace, Examples, LabeledExamples

NAMES = ("a", "b", "c")
CONFIG = MinerConfig(autoencoder_steps=200, members=2)


def _labeled(counts: tuple[int, int, int], *, logits: bool = False) -> LabeledExamples:
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(3), counts)
    features = (rng.normal(size=(len(targets), 5)) + 3 * np.eye(3, 5)[targets]).astype(np.float32)
    ids = np.arange(len(targets), dtype=np.int64)
    return LabeledExamples(Examples(ids, features, features[:, :3] if logits else None), targets)


def _pool(*, logits: bool = False) -> Examples:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(60, 5)) + 3 * np.eye(3, 5)[np.repeat([0, 1, 2], [26, 26, 8])]
    features = features.astype(np.float16)
    return Examples(
        np.arange(100, 160), features, features[:, :3].astype(np.float32) if logits else None
    )


def _fit(
    counts: tuple[int, int, int],
    tail: tuple[int, ...] = (2,),
    config: MinerConfig = CONFIG,
    *,
    logits: bool = False,
) -> Miner:
    return fit_miner(
        _labeled(counts, logits=logits),
        _pool(logits=logits),
        classes=ClassSpace(NAMES, tail),
        config=config,
        seed=0,
    )


def test_a_miner_judges_and_orders() -> None:
    miner = _fit((30, 30, 4))
    assert (miner.kind, miner.explanation) == ("rarefirst", "")
    judged = miner.judge(_pool())
    assert judged.rarity.shape == judged.predicted.shape == judged.confidence.shape == (60,)
    assert judged.rarity.min() >= 0
    assert judged.rarity.max() <= 1
    assert judged.rarity[52:].mean() > 5 * judged.rarity[:52].mean()
    assert (judged.predicted[:52] == np.repeat([0, 1], 26)).mean() > 0.9
    assert miner.queue(_pool(), budget=3, seed=0).reasons == ("tail c",) * 3
    assert miner.metrics["tail_labels"] == 4


@pytest.mark.parametrize("scorer", ["rarefirst", "entropy"])
def test_who_never_judges_orders_all_the_same(scorer: str) -> None:
    config = CONFIG.model_copy(update={"scorer": scorer})
    whole = _fit((30, 30, 4), config=config)
    bare = fit_miner(
        _labeled((30, 30, 4)),
        _pool(),
        classes=ClassSpace(NAMES, (2,)),
        config=config,
        seed=0,
        judges=False,
    )
    queues = [miner.queue(_pool(), budget=60, seed=0).ids.tolist() for miner in (whole, bare)]
    assert queues[0] == queues[1]
    assert bare.judge(_pool()).confidence.tolist() == [0.0] * 60
    assert (bare.judge(_pool()).rarity.max() > 0) == (scorer == "rarefirst")
    assert whole.judge(_pool()).rarity.max() > 0


@pytest.mark.parametrize(
    ("counts", "tail", "said"),
    [
        ((30, 30, 4), (), "no class is in the tail"),
        ((4, 4, 2), (2,), "10 labels are too few"),
        ((30, 0, 0), (2,), "of one class"),
        ((0, 0, 0), (2,), "0 labels are too few"),
    ],
)
@pytest.mark.parametrize("logits", [False, True])
def test_what_cannot_be_mined_is_spread(
    counts: tuple[int, int, int], tail: tuple[int, ...], said: str, logits: bool
) -> None:
    miner = _fit(counts, tail, logits=logits)
    assert miner.kind == "diversity"
    assert said in miner.explanation
    judged = miner.judge(_pool(logits=logits))
    assert judged.rarity.tolist() == [0.0] * 60
    assert (judged.confidence.max() > 0) == (logits or np.count_nonzero(counts) > 1)
    assert len(miner.queue(_pool(logits=logits), budget=7, seed=0).ids) == 7


def test_a_tail_class_without_labels_is_named() -> None:
    miner = _fit((30, 30, 0), (2,))
    assert miner.kind == "rarefirst"
    assert "no label of c yet" in miner.explanation
    assert "looks like no labeled class" in miner.explanation


@pytest.mark.parametrize("name", sorted(SCORERS))
@pytest.mark.parametrize("logits", [False, True])
def test_what_is_saved_is_what_was_fitted(name: str, logits: bool, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"scorer": name})
    miner = _fit((30, 30, 4), config=config, logits=logits)
    miner.save(tmp_path / "miner")
    loaded = Miner.load(tmp_path / "miner")
    assert (loaded.kind, loaded.metrics, loaded.classes) == (
        miner.kind,
        miner.metrics,
        miner.classes,
    )
    before, after = (m.judge(_pool(logits=logits)) for m in (miner, loaded))
    np.testing.assert_array_equal(before.rarity, after.rarity)
    np.testing.assert_array_equal(before.predicted, after.predicted)
    queues = [m.queue(_pool(logits=logits), budget=9, seed=1) for m in (miner, loaded)]
    np.testing.assert_array_equal(queues[0].ids, queues[1].ids)
    assert queues[0].reasons == queues[1].reasons


def test_a_diversity_miner_without_any_label_is_saved_too(tmp_path: Path) -> None:
    miner = _fit((0, 0, 0), ())
    miner.save(tmp_path)
    assert len(Miner.load(tmp_path).queue(_pool(), budget=5, seed=0).ids) == 5


def test_damaged_files_are_said_to_be_damaged(tmp_path: Path) -> None:
    _fit((30, 30, 4)).save(tmp_path)
    tensors = tmp_path / "miner.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:100])
    with pytest.raises(CorruptVersion, match="delete the folder"):
        Miner.load(tmp_path)
    with pytest.raises(CorruptVersion):
        Miner.load(tmp_path / "nothing")


def test_an_unknown_scorer_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match="rarefirst, paper"):
        _fit((30, 30, 4), config=CONFIG.model_copy(update={"scorer": "best"}))


def test_features_of_another_backbone_are_refused() -> None:
    miner = _fit((30, 30, 4))
    narrow = Examples(np.arange(3), np.zeros((3, 2), dtype=np.float32))
    with pytest.raises(ShapeError, match="another frozen model"):
        miner.judge(narrow)


def test_the_frozen_models_own_head_is_kept_and_a_plain_one_is_not_taken_for_it(
    tmp_path: Path,
) -> None:
    labeled = _labeled((30, 30, 4))
    weight = np.eye(5, 4, dtype=np.float32)
    own = LabelHead(weight, np.zeros(4, dtype=np.float32), np.asarray([0, 1, 2, 2]), num_labels=3)
    miner = fit_miner(
        LabeledExamples(labeled.examples, labeled.targets, own),
        _pool(),
        classes=ClassSpace(NAMES, (2,)),
        config=CONFIG,
        seed=0,
    )
    miner.save(tmp_path)
    for found in (miner.own_head, Miner.load(tmp_path).own_head):
        assert found is not None
        assert found.num_labels == 3
        np.testing.assert_array_equal(found.weight, own.weight)
        np.testing.assert_array_equal(found.label, own.label)
    assert _fit((30, 30, 4)).own_head is None
    assert _fit((30, 30, 4), logits=True).own_head is None
