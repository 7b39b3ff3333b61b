"""Features in half precision, batch by batch: the same as all at once, and nothing copied whole."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from models import streaming
from models.class_means import TEMPER
from models.config import MinerConfig
from models.errors import ShapeError
from models.recalibration import RecalibrationLayer
from models.recipes.fit_miner import Miner, fit_miner
from models.scorers.rarefirst import RareFirst
from models.streaming import Stacked, batch_rows, feature_batches, tensor_of
from models.types import ClassSpace, Examples, LabeledExamples

WIDTH = 12


def _examples(count: int, seed: int = 0, dtype: type = np.float16) -> Examples:
    features = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(dtype)
    return Examples(np.arange(count, dtype=np.int64) + 1000, features)


def _layer(classes: int, seed: int) -> RecalibrationLayer:
    rng = np.random.default_rng(seed)
    return RecalibrationLayer(rng.normal(size=(WIDTH, classes)), rng.normal(size=classes))


def _small_batches(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(streaming, "_LEAST", 1)
    monkeypatch.setattr(streaming, "_MOST", rows)


@pytest.mark.parametrize("count", [0, 1, 7, 64, 65])
@pytest.mark.parametrize("classes", [(2,), (3, 20), (1000,)])
def test_layers_in_one_product_are_the_layers(
    count: int, classes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    _small_batches(monkeypatch, 8)
    layers = [_layer(k, seed) for seed, k in enumerate(classes)]
    examples = _examples(count)
    seen = 0
    for start, parts in Stacked(layers).batches(examples):
        rows = examples.features[start : start + parts[0].shape[1]].astype(np.float64)
        assert start == seen
        for layer, logits in zip(layers, parts, strict=True):
            np.testing.assert_allclose(
                logits.numpy(), (rows @ layer.weight + layer.bias).T, atol=1e-4
            )
        seen += len(rows)
    assert seen == count


def test_a_view_is_read_where_it_points_to(monkeypatch: pytest.MonkeyPatch) -> None:
    _small_batches(monkeypatch, 4)
    examples = _examples(30)
    # A piece in order, then leaps: both ways of reading.
    view = examples.take(np.r_[5:14, 29, 0, 7, 7]).take(np.r_[0:12])
    read = np.concatenate([batch.clone().numpy() for _, batch in feature_batches(view, 4)])
    np.testing.assert_array_equal(read, view.dense().features.astype(np.float32))
    assert np.shares_memory(view.features, examples.features)
    assert view.dense().ids.tolist() == [*range(1005, 1014), 1029, 1000, 1007]


def test_a_slice_of_a_view_is_one_too() -> None:
    examples = _examples(20)
    for whole in (examples, examples.take(np.arange(19, 3, -2))):
        piece = whole.slice(2, 5)
        np.testing.assert_array_equal(piece.ids, whole.ids[2:5])
        np.testing.assert_array_equal(piece.dense().features, whole.dense().features[2:5])
        assert np.shares_memory(piece.features, examples.features)


def test_arrays_that_may_not_be_written_are_read_in_place() -> None:
    features = np.ones((3, 2), dtype=np.float16)
    features.setflags(write=False)
    assert tensor_of(features).data_ptr() == features.ctypes.data


def test_a_batch_fits_the_cache_however_wide() -> None:
    assert batch_rows(512, 32) * 4 * (512 + 64) <= 5 * 2**20
    assert batch_rows(4) == batch_rows(1) == 8192
    assert batch_rows(10**6, 10**4) == 64


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(bad: float) -> None:
    examples = _examples(20)
    examples.features[7, 3] = bad
    with pytest.raises(ShapeError, match=r"1 examples are NaN or infinite \(ids \[1007\]\)"):
        list(Stacked([_layer(3, 0)]).batches(examples))


# A whole miner ----------------------------------------------------------------------------------


def _world(
    classes: int, count: int, *, tail: tuple[int, ...] = (0, 1)
) -> tuple[LabeledExamples, Examples, ClassSpace]:
    rng = np.random.default_rng(3)
    centers = 1.5 * rng.normal(size=(classes, WIDTH))
    targets = np.repeat(np.arange(classes), 20)
    features = (centers[targets] + rng.normal(size=(len(targets), WIDTH))).astype(np.float16)
    pool_targets = rng.integers(classes, size=count)
    pool = (centers[pool_targets] + rng.normal(size=(count, WIDTH))).astype(np.float16)
    labeled = LabeledExamples(Examples(np.arange(len(targets)), features), targets)
    ids = rng.permutation(count).astype(np.int64) + 10_000
    return labeled, Examples(ids, pool), ClassSpace(tuple(map(str, range(classes))), tail)


def _miner(classes: int, count: int = 500, weight: float = 0.0) -> tuple[Miner, Examples]:
    labeled, pool, space = _world(classes, count)
    config = MinerConfig(autoencoder_steps=150, members=2)
    miner = fit_miner(labeled, pool, classes=space, config=config, seed=0)
    assert isinstance(miner.scorer, RareFirst)
    miner.scorer.weigh(weight)
    return miner, pool


@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("classes", [3, 12])
def test_batches_do_not_change_what_is_said(
    classes: int, weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    miner, pool = _miner(classes, weight=weight)
    rows = np.arange(0, 500, 3)
    whole, queue = miner.rescore(pool, rows, budget=40, seed=0)
    single = Examples(pool.ids, pool.features.astype(np.float32))
    for batch in (1, 7, 128):
        _small_batches(monkeypatch, batch)
        for examples in (pool, single):
            said, again = miner.rescore(examples, rows, budget=40, seed=0)
            np.testing.assert_allclose(said.rarity, whole.rarity, atol=1e-6)
            np.testing.assert_allclose(said.confidence, whole.confidence, atol=1e-6)
            np.testing.assert_array_equal(said.predicted, whole.predicted)
            np.testing.assert_array_equal(again.ids, queue.ids)
            assert again.reasons == queue.reasons


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_rescoring_is_judging_and_ranking(weight: float) -> None:
    miner, pool = _miner(5, weight=weight)
    rows = np.flatnonzero(np.arange(500) % 4 != 1)
    judged, queue = miner.rescore(pool, rows, budget=60, seed=0)
    np.testing.assert_array_equal(judged.rarity, miner.judge(pool).rarity)
    alone = miner.queue(pool.take(rows), budget=60, seed=0)
    np.testing.assert_array_equal(queue.ids, alone.ids)
    assert queue.reasons == alone.reasons


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_head_of_the_queue_is_that_of_the_whole_order(weight: float) -> None:
    """Leaving out what cannot come to the head, the one-class error included, changes nothing."""
    miner, pool = _miner(4, weight=weight)
    scorer = miner.scorer
    assert isinstance(scorer, RareFirst)
    everything = scorer.order(pool, len(pool))
    for budget in (1, 13, 200):
        head = miner.queue(pool, budget=budget, seed=0)
        np.testing.assert_array_equal(head.ids, everything.ids[:budget])


def test_copies_of_an_example_come_in_the_order_of_ids_and_later() -> None:
    """Equal features must not be torn apart by rounding that depends on where they stand."""
    miner, pool = _miner(3, count=333)
    double = Examples(
        np.concatenate([pool.ids, pool.ids + 10**6]), np.concatenate([pool.features] * 2)
    )
    queue = miner.queue(double, budget=200, seed=0).ids
    # The best hundred, then their copies: see models/scorers/duplicates.py.
    assert len(set(queue.tolist())) == 200
    assert (queue[:100] < 10**6).all()
    assert set(queue[100:].tolist()) == set((queue[:100] + 10**6).tolist())
    np.testing.assert_array_equal(miner.queue(double, budget=70, seed=0).ids, queue[:70])


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("classes", [2, 40])
def test_hardly_any_pool(count: int, classes: int) -> None:
    labeled, pool, space = _world(classes, max(count, 1), tail=(0,))
    config = MinerConfig(autoencoder_steps=50, members=1)
    miner = fit_miner(labeled, pool, classes=space, config=config, seed=0)
    judged, queue = miner.rescore(pool.take(np.arange(count)), np.arange(count), budget=5, seed=0)
    assert len(judged.rarity) == len(queue.ids) == count


def test_a_thousand_classes() -> None:
    labeled, pool, space = _world(1000, 64, tail=tuple(range(0, 1000, 10)))
    scorer = RareFirst(MinerConfig()).fit(labeled, pool, classes=space, seed=0)
    queue = scorer.rank(pool, budget=30, seed=0)
    assert len(set(queue.ids.tolist())) == 30
    logits = torch.from_numpy(scorer.layer.logits(pool.features)).T.double()
    rarity, odds = scorer.weigh_up(logits)
    tail = list(space.tail)
    temper = float(scorer.state()["queue"][2])
    assert 0 < temper <= TEMPER
    tempered = torch.softmax(temper * logits, dim=0)
    np.testing.assert_allclose(rarity.numpy(), tempered[tail].sum(dim=0).numpy(), atol=1e-9)
    shares = torch.softmax(logits, dim=0)
    exact = torch.log(shares[tail]) - torch.log1p(-shares[tail])
    np.testing.assert_allclose(odds[:-1].numpy(), exact.numpy(), atol=1e-6)
    whole = shares[tail].sum(dim=0)
    np.testing.assert_allclose(odds[-1].numpy(), torch.logit(whole).numpy(), atol=1e-6)


MEMORY = """
import numpy as np
from models.config import MinerConfig
from models.recipes.fit_miner import fit_miner
from models.types import ClassSpace, Examples, LabeledExamples

def peak():
    # Not getrusage: what it says of a child begins with the parent's peak.
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

rng = np.random.default_rng(0)
some = rng.normal(size=(1000, 256)).astype(np.float16)
labeled = LabeledExamples(Examples(np.arange(90), some[:90]), np.repeat([0, 1, 2], 30))
miner = fit_miner(
    labeled,
    Examples(np.arange(1000), some),
    classes=ClassSpace(("a", "b", "c"), (2,)),
    config=MinerConfig(autoencoder_steps=20, members=1),
    seed=0,
)
miner.scorer.weigh(0.5)
miner.rescore(Examples(np.arange(1000), some), np.arange(1000), budget=10, seed=0)
features = np.empty((150_000, 256), dtype=np.float16)
for start in range(0, len(features), 1000):
    features[start : start + 1000] = np.roll(some, start // 1000, axis=1)
examples = Examples(np.arange(len(features)), features)
pool = np.arange(100, len(features))
before = peak()
miner.rescore(examples, pool, budget=300, seed=0)
print((peak() - before) / features.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_no_second_copy_of_the_features_is_made() -> None:
    """The rise of peak memory while 77 MB of features are rescored, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True
    )
    # A copy in single precision would be 2, a copy of the rows 1, a mask of finite entries 0.5.
    assert float(done.stdout) < 0.3, done.stdout


DIVERSITY_MEMORY = """
import numpy as np
from models.scorers.diversity import farthest_first
from models.types import Examples

def peak():
    # Not getrusage: what it says of a child begins with the parent's peak.
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

rng = np.random.default_rng(0)
some = rng.normal(size=(1000, 512)).astype(np.float16)
farthest_first(Examples(np.arange(1000), some), some[:30].astype(np.float32), 10)
features = np.empty((150_000, 512), dtype=np.float16)
for start in range(0, len(features), 1000):
    features[start : start + 1000] = np.roll(some, start // 1000, axis=1)
examples = Examples(np.arange(len(features)), features)
before = peak()
farthest_first(examples, some[:30].astype(np.float32), 10)
print(1 + (peak() - before) / features.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_diversity_holds_its_projection_once() -> None:
    """Peak over 154 MB of features: 64 dimensions in single precision are a quarter of it."""
    done = subprocess.run(
        [sys.executable, "-c", DIVERSITY_MEMORY], check=True, capture_output=True, text=True
    )
    assert float(done.stdout) < 1.3, done.stdout
