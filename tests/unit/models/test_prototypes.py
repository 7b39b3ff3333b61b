from __future__ import annotations

import numpy as np
import torch

from models.class_means import ClassMeans
from models.prototypes import PrototypeAutoencoder
from models.types import FloatArray, numbered
from models.whitening import Whitened

WIDTH = 12


def _fitted() -> tuple[PrototypeAutoencoder, ClassMeans, Whitened, FloatArray]:
    """Two common classes; the pool holds a third. Returns: and the centers."""
    rng = np.random.default_rng(0)
    centers = 5 * np.eye(3, WIDTH)
    targets = np.repeat([0, 1], 200)
    truth = np.repeat([0, 1, 2], [900, 900, 200])
    labeled, pool = (
        (centers[of] + rng.normal(size=(len(of), WIDTH))).astype(np.float32)
        for of in (targets, truth)
    )
    space = Whitened.fit(labeled, targets, numbered(pool), num_classes=3)
    means = ClassMeans.fit(
        space.at(labeled),
        targets,
        space,
        num_classes=3,
        tail=(2,),
        expected=lambda means, counts: np.zeros(WIDTH),
    )
    autoencoder = PrototypeAutoencoder.fit(
        means, space, columns=np.asarray([0, 1]), shares=np.asarray([0.5, 0.5])
    )
    return autoencoder, means, space, centers


def test_common_classes_are_drawn_and_others_are_not() -> None:
    autoencoder, _, _, centers = _fitted()
    features = torch.from_numpy(centers.astype(np.float32))
    sure = torch.tensor([[9.0, -9, 0], [-9, 9, 0], [-50, -50, 50]])
    errors = autoencoder.errors(features, sure).numpy()
    assert errors[2] > 10 * errors[:2].max()


def test_the_error_is_what_it_says() -> None:
    autoencoder, means, space, _ = _fitted()
    rng = np.random.default_rng(1)
    features = rng.normal(size=(7, WIDTH)).astype(np.float32)
    logits = rng.normal(size=(3, 7))
    parts = autoencoder.axes.shape[1]
    code = np.exp(logits[:2]) / np.exp(logits[:2]).sum(axis=0)
    drawn = code.T @ means.means[:2, :parts]
    counts = space.shown[:parts] / space.variance[:parts]
    told = (((space.at(features)[:, :parts] - drawn) ** 2) * counts).sum(axis=1)
    found = autoencoder.errors(torch.from_numpy(features), torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(found, told, rtol=1e-4)


def test_it_is_kept() -> None:
    autoencoder, _, _, _ = _fitted()
    again = PrototypeAutoencoder.from_state(autoencoder.state())
    features = torch.ones((2, WIDTH))
    logits = torch.ones((3, 2))
    torch.testing.assert_close(
        again.errors(features, logits), autoencoder.errors(features, logits), rtol=0, atol=0
    )
