"""Repeat-factor sampling, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.errors import ConfigError
from models.rebalancing import make_strategy
from models.rebalancing.base import Task
from models.rebalancing.repeat_factor import RepeatFactor, repeat_factors
from tests.unit.models.rebalancing.small_runs import begun

# Ten images: the first class in eight, the second in two (one of them with the first), none in one.
PRESENT = torch.tensor([[True, False]] * 7 + [[True, True], [False, True], [False, False]])


def test_the_rarest_class_of_an_image_decides() -> None:
    found = repeat_factors(PRESENT, 0.5)
    assert found.tolist() == pytest.approx([1.0] * 7 + [2.5**0.5] * 2 + [1.0])


def test_a_threshold_below_every_share_repeats_nothing() -> None:
    assert repeat_factors(PRESENT, 0.001).tolist() == [1.0] * 10


def test_by_default_what_is_rarer_than_the_mean_class_is_repeated() -> None:
    # Shares .8 and .2, mean .5: as with the threshold .5, and 1 / sqrt(skewness ratio .4).
    assert repeat_factors(PRESENT).tolist() == repeat_factors(PRESENT, 0.5).tolist()
    assert float(repeat_factors(PRESENT)[8]) == pytest.approx(0.4**-0.5)
    equal = torch.eye(3, dtype=torch.bool)
    assert repeat_factors(equal).tolist() == [1.0] * 3


def test_a_class_that_is_nowhere_changes_nothing() -> None:
    more = torch.cat([PRESENT, torch.zeros(10, 1, dtype=torch.bool)], dim=1)
    assert repeat_factors(more).tolist() == repeat_factors(PRESENT).tolist()
    assert repeat_factors(torch.zeros(4, 2, dtype=torch.bool)).tolist() == [1.0] * 4


def test_images_are_drawn_in_that_proportion(tmp_path: Path) -> None:
    strategy = RepeatFactor(threshold=0.5)
    zeros = torch.zeros(10, dtype=torch.int64)
    strategy.begin(
        Task(
            inputs=torch.zeros(10, 4, 2, 2, dtype=torch.uint8),
            targets=zeros,
            class_names=("right", "wrong"),
            epochs=1,
            batch=2,
            seed=0,
            device=torch.device("cpu"),
            run_dir=tmp_path,
            holds=PRESENT,
        )
    )
    weights = strategy.make_sampler(0)
    assert weights is not None
    torch.manual_seed(0)
    drawn = torch.bincount(torch.multinomial(weights, 100_000, replacement=True), minlength=10)
    expected = repeat_factors(PRESENT, 0.5)
    assert (drawn / drawn.sum()).tolist() == pytest.approx(
        (expected / expected.sum()).tolist(), abs=0.005
    )


def test_of_one_class_an_image_it_is_the_root_of_resampling() -> None:
    strategy = begun(RepeatFactor(), (24, 9, 3))
    weights = strategy.make_sampler(0)
    assert weights is not None
    by_class = [float(weights[strategy.task.targets == k][0]) for k in range(3)]
    assert by_class == pytest.approx([1.0, (12 / 9) ** 0.5, 2.0])
    assert begun(RepeatFactor(), (6, 6, 6)).make_sampler(0) is None


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
def test_a_threshold_that_is_no_share_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="repeat_factor: found threshold"):
        make_strategy("repeat_factor", {"threshold": threshold})
