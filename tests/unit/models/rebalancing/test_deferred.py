from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.errors import ConfigError
from models.rebalancing.class_balanced import ClassBalanced
from models.rebalancing.deferred import Drs, Drw
from models.rebalancing.ldam import Ldam
from models.rebalancing.resample import Resample
from tests.unit.models.rebalancing.small_runs import SKEWED, begun, task_of


@pytest.mark.parametrize(
    ("epochs", "start"), [(200, 160), (20, 16), (5, 4), (3, 2), (2, 1), (1, 0)]
)
def test_it_begins_at_four_fifths_and_in_the_last_epoch_at_the_latest(
    epochs: int, start: int
) -> None:
    assert task_of(SKEWED, epochs=epochs).from_epoch(0.8) == start
    for strategy in (Drs(), Drw(), Ldam()):
        assert begun(strategy, SKEWED, epochs=epochs).mature_epoch() == start


def test_a_share_of_one_is_never_and_zero_is_at_once() -> None:
    never, at_once = Drs(deferred=1.0), Drs(deferred=0.0)
    begun(never, SKEWED, epochs=4)
    begun(at_once, SKEWED, epochs=4)
    assert [never.make_sampler(epoch) for epoch in range(4)] == [None] * 4
    assert never.mature_epoch() == at_once.mature_epoch() == 0
    assert at_once.make_sampler(0) is not None


def test_drs_is_resample_from_then_on() -> None:
    drs, resample = Drs(), Resample()
    begun(drs, SKEWED, epochs=400)
    begun(resample, SKEWED, epochs=400)
    assert drs.make_sampler(319) is None
    late, always = drs.make_sampler(399), resample.make_sampler(0)
    assert late is not None
    assert always is not None
    assert torch.equal(late, always)


def test_drw_is_class_balanced_from_then_on() -> None:
    drw, balanced = Drw(), ClassBalanced()
    begun(drw, SKEWED, epochs=400)
    begun(balanced, SKEWED, epochs=400)
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    early = drw.make_criterion(319)(logits, targets)
    # LDAM's code fails from epoch 320 on.
    late = [drw.make_criterion(epoch)(logits, targets) for epoch in (320, 399)]
    assert torch.equal(early, F.cross_entropy(logits, targets))
    assert late[0] == late[1] == balanced.make_criterion(0)(logits, targets) != early


@pytest.mark.parametrize("make", [Drs, Drw, Ldam])
@pytest.mark.parametrize("deferred", [-0.1, 1.1, float("nan")])
def test_a_share_that_cannot_be_is_refused(make: type[Drs | Drw], deferred: float) -> None:
    with pytest.raises(ConfigError, match="deferred"):
        make(deferred=deferred)
