from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from models.losses import focal_loss
from models.skewness import skewness_ratios

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LOGITS = arrays(np.float64, (6, 4), elements=st.floats(-30, 30))
TARGETS = arrays(np.int64, 6, elements=st.integers(0, 3))


@given(LOGITS, TARGETS)
def test_gamma_zero_is_cross_entropy(logits: Floats, targets: Ints) -> None:
    z, y = torch.from_numpy(logits), torch.from_numpy(targets)
    assert float(focal_loss(z, y, gamma=0)) == pytest.approx(float(F.cross_entropy(z, y)), abs=1e-9)


@given(LOGITS, TARGETS, st.floats(0, 5))
def test_focal_is_between_zero_and_cross_entropy(
    logits: Floats, targets: Ints, gamma: float
) -> None:
    z, y = torch.from_numpy(logits), torch.from_numpy(targets)
    value = float(focal_loss(z, y, gamma=gamma))
    assert -1e-12 <= value <= float(F.cross_entropy(z, y)) + 1e-9


@given(LOGITS, TARGETS, st.floats(-100, 100))
def test_a_shift_of_all_logits_changes_nothing(logits: Floats, targets: Ints, shift: float) -> None:
    z, y = torch.from_numpy(logits), torch.from_numpy(targets)
    assert float(focal_loss(z + shift, y)) == pytest.approx(float(focal_loss(z, y)), abs=1e-9)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=30).filter(any), st.integers(1, 50))
def test_ratios_sum_to_the_number_of_classes_and_ignore_scale(
    counts: list[int], scale: int
) -> None:
    ratios = skewness_ratios(counts)
    assert ratios.sum() == pytest.approx(len(counts))
    assert skewness_ratios(np.asarray(counts) * scale) == pytest.approx(ratios)
