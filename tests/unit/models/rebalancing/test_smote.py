from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from models.errors import ConfigError
from models.rebalancing import smote
from models.rebalancing.smote import Smote, nearest
from tests.unit.models.rebalancing.small_runs import features_of, pictures_of, targets_of


def _made(
    counts: tuple[int, ...], *, pictures: bool = False, neighbours: int = 5, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    targets = targets_of(counts)
    inputs = pictures_of(targets) if pictures else features_of(targets)
    strategy = Smote(neighbours=neighbours)
    out, labels = strategy.prepare_examples(inputs, targets, classes=len(counts), seed=seed)
    return inputs, targets, out, labels


def _off_every_segment(point: Tensor, ends: Tensor) -> float:
    """Least distance of a point to a segment of two of (M, D) ends."""
    first, last = ends[:, None].double(), ends[None].double()
    along = last - first
    length = (along**2).sum(-1).clamp_min(1e-12)
    share = (((point.double() - first) * along).sum(-1) / length).clamp(0, 1)
    foot = first + share[..., None] * along
    return float((point.double() - foot).norm(dim=-1).min())


@pytest.mark.parametrize("pictures", [False, True])
def test_every_class_is_filled_up_and_the_given_ones_stay(pictures: bool) -> None:
    inputs, targets, out, labels = _made((24, 9, 3), pictures=pictures)
    assert torch.bincount(labels).tolist() == [24, 24, 24]
    assert out.dtype == inputs.dtype
    assert out.shape == (72, *inputs.shape[1:])
    assert torch.equal(out[:36], inputs)
    assert torch.equal(labels[:36], targets)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=4).map(tuple),
    st.integers(1, 8),
    st.integers(0, 100),
    st.booleans(),
)
def test_new_points_lie_between_two_of_their_class(
    counts: tuple[int, ...], neighbours: int, seed: int, pictures: bool
) -> None:
    inputs, targets, out, labels = _made(
        counts, pictures=pictures, neighbours=neighbours, seed=seed
    )
    # Rounding moves each pixel by half at most.
    off = 0.5 * inputs[0].numel() ** 0.5 if pictures else 1e-4
    for point, label in zip(out[len(inputs) :], labels[len(inputs) :], strict=True):
        own = inputs[targets == label].flatten(1).float()
        flat = point.flatten().float()
        slack = 0.5 if pictures else 1e-5
        assert (flat >= own.amin(dim=0) - slack).all()
        assert (flat <= own.amax(dim=0) + slack).all()
        assert _off_every_segment(flat, own) <= off


def test_pictures_are_rounded_not_cut() -> None:
    dark, light = (torch.full((1, 3, 2, 2), value, dtype=torch.uint8) for value in (0, 1))
    inputs = torch.cat([dark, light, dark.repeat(2000, 1, 1, 1)])
    targets = torch.tensor([1, 1] + [0] * 2000)
    out, _ = Smote().prepare_examples(inputs, targets, classes=2, seed=0)
    assert float(out[2002:].float().mean()) == pytest.approx(0.5, abs=0.05)


def test_only_near_neighbours_are_mixed() -> None:
    near = torch.tensor([[0.0], [1.0], [2.0]])
    far = torch.tensor([[100.0], [101.0], [102.0]])
    inputs = torch.cat([near, far, torch.zeros(400, 1)])
    targets = torch.tensor([1] * 6 + [0] * 400)
    out, _ = Smote(neighbours=2).prepare_examples(inputs, targets, classes=2, seed=0)
    new = out[406:]
    assert ((new <= 2) | (new >= 100)).all()
    # With all five neighbours the gap is bridged.
    out, _ = Smote(neighbours=5).prepare_examples(inputs, targets, classes=2, seed=0)
    assert ((out[406:] > 2) & (out[406:] < 100)).any()


@pytest.mark.parametrize("pictures", [False, True])
def test_a_single_example_is_copied(pictures: bool) -> None:
    inputs, targets, out, labels = _made((10, 1), pictures=pictures)
    own = inputs[targets == 1]
    assert (out[labels == 1] == own).all()
    assert int((labels == 1).sum()) == 10


def test_a_class_without_labels_stays_empty() -> None:
    *_, labels = _made((10, 0, 4))
    assert torch.bincount(labels, minlength=3).tolist() == [10, 0, 10]


def test_equal_counts_are_left_alone() -> None:
    inputs, targets, out, labels = _made((6, 6, 6))
    assert torch.equal(out, inputs)
    assert torch.equal(labels, targets)


def test_the_seed_decides() -> None:
    first, again, other = (_made((24, 9, 3), seed=seed)[2] for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_neighbours_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    points = torch.randn(60, 5)
    # The points themselves come first there.
    oracle = NearestNeighbors(n_neighbors=5).fit(points).kneighbors(points, return_distance=False)
    assert nearest(points, 4).tolist() == oracle[:, 1:].tolist()
    monkeypatch.setattr(smote, "_MOST_DISTANCES", 60 * 7)
    assert nearest(points, 4).tolist() == oracle[:, 1:].tolist()


def test_distances_of_points_far_from_the_origin_are_exact_enough() -> None:
    torch.manual_seed(0)
    points = torch.randn(60, 5).mul(64).round() / 64
    assert torch.equal(nearest(points + 4096, 3), nearest(points, 3))


def test_twins_are_neighbours_of_each_other_not_of_themselves() -> None:
    points = torch.tensor([[0.0, 0.0], [0.0, 0.0], [5.0, 5.0]])
    assert nearest(points, 1).squeeze(1).tolist()[:2] == [1, 0]


@pytest.mark.parametrize("neighbours", [0, -1, 2.5])
def test_neighbours_that_cannot_be_are_refused(neighbours: int) -> None:
    with pytest.raises(ConfigError, match="neighbours"):
        Smote(neighbours=neighbours)
