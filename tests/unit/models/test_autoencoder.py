from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.autoencoder import LogitAutoencoder, softmax, widths
from models.config import AutoencoderConfig
from models.errors import ShapeError

QUICK = AutoencoderConfig(members=2, min_steps=1500, epochs=1)


def _auroc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    ranks = scores.argsort().argsort()
    count = positive.sum()
    return float(
        (ranks[positive].sum() - count * (count - 1) / 2) / (count * (len(scores) - count))
    )


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(2, (2, 1)), (5, (5, 4)), (10, (10, 9)), (30, (10, 9)), (1000, (128, 64))],
)
def test_the_bottleneck_is_narrower_than_the_input(classes: int, expected: tuple[int, int]) -> None:
    assert widths(classes) == expected


def test_a_constant_is_learned() -> None:
    logits = np.tile(np.arange(10.0), (64, 1))
    assert LogitAutoencoder.fit(logits, config=QUICK).errors(logits).max() < 1e-4


def test_a_line_is_learned_in_logit_space() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 1)) * np.linspace(-1, 1, 10)
    config = AutoencoderConfig(space="logit", members=3, min_steps=4000, epochs=1)
    model = LogitAutoencoder.fit(logits, config=config)
    spread = ((softmax(logits) - softmax(logits).mean(axis=0)) ** 2).sum(axis=1).mean()
    assert model.errors(logits).mean() < 0.01 * spread


@pytest.mark.parametrize("space", ["prob", "logit"])
def test_one_in_a_hundred_stands_out(space: str) -> None:
    rng = np.random.default_rng(0)
    rare = np.arange(1000) % 100 == 0
    logits = rng.normal(scale=0.5, size=(1000, 10))
    logits[~rare, 0] += 5
    logits[rare, 7] += 5
    config = AutoencoderConfig.model_validate({**QUICK.model_dump(), "space": space})
    model = LogitAutoencoder.fit(logits[~rare], config=config)
    assert _auroc(model.errors(logits), rare) > 0.95


def test_the_error_is_what_it_is_said_to_be() -> None:
    """All weights zero: the output is the last bias."""
    layers = [np.zeros((1, 3, 2), np.float32), np.zeros((1, 3, 1), np.float32)]
    layers += [np.zeros((1, 2, 2), np.float32), np.zeros((1, 3, 2), np.float32)]
    layers[3][0, 2] = [0.0, 40.0]
    logits = np.asarray([[40.0, 0.0]])
    # softmax e_1 against softmax e_2: the largest squared distance there is.
    assert LogitAutoencoder(tuple(layers), space="logit").errors(logits)[0] == pytest.approx(2)
    layers[3][0, 2] = [0.0, 0.5]
    prob = LogitAutoencoder(tuple(layers), space="prob").errors(logits)[0]
    assert prob == pytest.approx((1 + 0.25) / 2)


def test_training_is_gradient_descent_on_the_mean_square() -> None:
    """The hand-written gradient against a numerical one, seen through one step of Adam."""
    import torch

    from models import autoencoder

    rng = np.random.default_rng(0)
    layers = autoencoder._initial(4, 1, rng)
    inputs = rng.normal(size=(1, 4)).astype(np.float32)
    config = AutoencoderConfig(learning_rate=1e-3)
    trained = autoencoder._train(
        layers, inputs, steps=1, config=config, rng=np.random.default_rng(1)
    )
    tensors = [torch.tensor(layer, requires_grad=True) for layer in layers]
    x = torch.tensor(inputs)[None]
    h = x
    for number, tensor in enumerate(tensors):
        h = torch.cat([h, torch.ones(1, len(inputs), 1)], dim=2) @ tensor
        h = h.relu() if number < 3 else h
    ((h - x) ** 2).mean().backward()  # type: ignore[no-untyped-call]
    for layer, new, tensor in zip(layers, trained, tensors, strict=True):
        assert tensor.grad is not None
        gradient = tensor.grad.numpy()
        # Adam's first step is the sign of the gradient times the step size.
        clear = np.abs(gradient) > 1e-5
        step = (new - layer)[clear]
        np.testing.assert_allclose(step, -1e-3 * np.sign(gradient[clear]), rtol=2e-2)


def test_seed_state_and_spread() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(80, 4))
    first, again = (LogitAutoencoder.fit(logits, config=QUICK, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.errors(logits), again.errors(logits))
    restored = LogitAutoencoder.from_state(first.state(), space="prob")
    np.testing.assert_array_equal(first.errors(logits), restored.errors(logits))
    assert first.spread(logits).max() > 0
    other = LogitAutoencoder.fit(logits, config=QUICK, seed=4)
    assert not np.array_equal(first.errors(logits), other.errors(logits))


def test_adding_a_constant_to_all_logits_changes_nothing_in_prob_space() -> None:
    logits = np.random.default_rng(0).normal(size=(40, 5))
    model = LogitAutoencoder.fit(logits, config=QUICK)
    np.testing.assert_allclose(model.errors(logits + 3), model.errors(logits), atol=1e-6)


def test_bad_logits_are_refused() -> None:
    with pytest.raises(ShapeError):
        LogitAutoencoder.fit(np.zeros((3, 1)))
    with pytest.raises(ShapeError, match="at least one"):
        LogitAutoencoder.fit(np.zeros((0, 3)))
    with pytest.raises(ShapeError, match="NaN"):
        LogitAutoencoder.fit(np.full((3, 3), np.nan))
    model = LogitAutoencoder.fit(np.random.default_rng(0).normal(size=(9, 3)), config=QUICK)
    with pytest.raises(ShapeError):
        model.errors(np.zeros((2, 4)))
