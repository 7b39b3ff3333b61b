from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.rebalancing import Combined, Strategy, Task
from models.rebalancing.class_balanced import ClassBalanced
from models.rebalancing.difficulty import Difficulty
from models.rebalancing.erm import Erm
from models.recipes.labeled_pictures import LabeledPictures
from models.recipes.review_labels import MOST, Review, review_labels
from models.types import FloatArray

NAMES = ("one", "seven", "eight")
ROWS = np.array([0, 2, 3, 5])
SHARES = np.array([[0.1, 0.7, 0.2], [0.4, 0.6, 0.0], [0.3, 0.0, 0.7], [0.35, 0.6, 0.05]])


def _labels(count: int = 6) -> LabeledPictures:
    nobody = np.zeros(count, dtype=bool)
    return LabeledPictures(
        pictures=torch.zeros(count, 3, 2, 2, dtype=torch.uint8),
        targets=np.zeros(count, dtype=np.int64),
        ids=np.arange(count, dtype=np.int64) + 70,
        class_names=NAMES,
        tail=(2,),
        held_out=nobody,
        seen=nobody,
        validation=nobody,
    )


def _review(strategy: Strategy, shares: FloatArray = SHARES) -> Review:
    return review_labels(_labels(), ROWS, shares, strategy=strategy, out_of_sample=True)


def _difficulty(probabilities: torch.Tensor, targets: torch.Tensor) -> Difficulty:
    strategy = Difficulty()
    task = Task(
        inputs=torch.zeros(len(targets), 1),
        targets=targets,
        class_names=NAMES,
        epochs=1,
        batch=2,
        seed=0,
        device=torch.device("cpu"),
        run_dir=Path(),
    )
    strategy.begin(task)
    strategy.on_epoch_end(0, probabilities)
    return strategy


def test_by_loss_those_are_named_of_which_another_class_is_likelier() -> None:
    review = _review(Erm())
    assert (review.by, review.out_of_sample) == ("loss", True)
    assert [(s.id, s.label, s.instead) for s in review.suspects] == [
        (70, "one", "seven"),
        (73, "one", "eight"),
        (75, "one", "seven"),
        (72, "one", "seven"),
    ]
    first = review.suspects[0]
    assert (first.label_share, first.instead_share) == (0.1, 0.7)
    assert first.score == pytest.approx(-np.log(0.1))
    sure = np.tile([0.9, 0.05, 0.05], (4, 1))
    assert _review(Erm(), sure).suspects == ()


def test_a_share_of_0_has_a_finite_loss() -> None:
    shares = SHARES.copy()
    shares[1] = [0.0, 1.0, 0.0]
    assert _review(Erm(), shares).suspects[0].score == pytest.approx(-np.log(1e-12))


@pytest.mark.parametrize("combined", [False, True])
def test_by_difficulty_those_are_named_that_are_harder_than_neutral(combined: bool) -> None:
    # The fifth row is one that a strategy added: it is no label of anybody.
    said = torch.tensor(
        [[0.2, 0.7, 0.1], [0.8, 0.1, 0.1], [0.3, 0.3, 0.4], [0.9, 0.1, 0], [0, 1, 0]]
    )
    strategy = _difficulty(said, torch.zeros(5, dtype=torch.int64))
    review = _review(Combined(strategy, ClassBalanced()) if combined else strategy)
    assert review.by == "difficulty"
    assert [s.id for s in review.suspects] == [70, 73]
    expected = strategy.difficulties[[0, 2]].tolist()
    assert [s.score for s in review.suspects] == pytest.approx(expected)
    assert all(s.score > 1 for s in review.suspects)


def test_a_page_of_them_is_enough() -> None:
    labels, count = _labels(200), 200
    shares = np.tile([0.1, 0.9, 0.0], (count, 1))
    review = review_labels(labels, np.arange(count), shares, strategy=Erm(), out_of_sample=False)
    assert [s.id for s in review.suspects] == list(range(70, 70 + MOST))
    assert Review.model_validate_json(review.model_dump_json()) == review
