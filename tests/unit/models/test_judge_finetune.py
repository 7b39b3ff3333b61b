from __future__ import annotations

import numpy as np
import pytest

from models.class_metrics import ClassMetrics
from models.errors import ShapeError
from models.recipes.judge_finetune import Verdict, judge_finetune, refuse, too_few

NAMES = ("ok", "scratch", "defect")


def _figures(
    correct: tuple[int, int, int],
    counts: tuple[int, int, int] = (100, 20, 15),
    tail: tuple[int, ...] = (2,),
) -> ClassMetrics:
    confusion = np.diag(correct)
    for k in range(3):  # what is not found is taken for the next class
        confusion[k, (k + 1) % 3] += counts[k] - correct[k]
    return ClassMetrics.from_confusion(confusion, class_names=NAMES, tail=tail)


def test_a_rise_without_a_fall_is_promoted() -> None:
    verdict = judge_finetune(_figures((90, 10, 6)), _figures((90, 12, 12)), compared="held-out")
    assert verdict.promoted
    assert verdict.compared == "held-out"
    assert verdict.reasons == (
        "promoted: balanced accuracy rose from .60 to .77 (135 examples)",
        "recall of defect rose from .40 to .80 (15 examples)",
    )


def test_a_tail_class_that_falls_beyond_its_interval_decides() -> None:
    verdict = judge_finetune(_figures((50, 5, 12)), _figures((100, 20, 6)), compared="held-out")
    assert verdict.after is not None
    assert verdict.before is not None
    assert verdict.after.balanced_accuracy > verdict.before.balanced_accuracy
    assert not verdict.promoted
    assert verdict.reasons == (
        "rejected: recall of defect fell from .80 to .40 (15 examples, interval .52 to .96)",
    )


def test_a_fall_within_the_interval_is_chance() -> None:
    assert judge_finetune(
        _figures((50, 5, 12)), _figures((100, 20, 8)), compared="held-out"
    ).promoted


def test_the_lower_end_itself_is_not_beyond() -> None:
    # 1 of 15 has a lower end of .0017: none found falls beyond it, which no rise makes up for.
    old, new = _figures((50, 5, 1)), _figures((100, 20, 0))
    assert not judge_finetune(old, new, compared="held-out").promoted
    assert judge_finetune(_figures((50, 5, 0)), new, compared="held-out").promoted


def test_a_common_class_may_fall() -> None:
    old, new = _figures((100, 10, 5)), _figures((70, 15, 12))
    assert judge_finetune(old, new, compared="held-out").promoted


def test_without_a_rise_nothing_is_promoted() -> None:
    same = _figures((90, 10, 6))
    verdict = judge_finetune(same, same, compared="held-out")
    assert not verdict.promoted
    assert verdict.reasons == ("rejected: balanced accuracy stayed at .60 (135 examples)",)
    verdict = judge_finetune(same, _figures((80, 10, 6)), compared="held-out")
    assert verdict.reasons == ("rejected: balanced accuracy fell from .60 to .57 (135 examples)",)


def test_a_small_rise_is_told_with_enough_places() -> None:
    counts = (10_000, 20, 15)
    verdict = judge_finetune(
        _figures((9000, 10, 6), counts), _figures((9001, 10, 6), counts), compared="held-out"
    )
    assert verdict.reasons[0] == (
        "promoted: balanced accuracy rose from .60000 to .60003 (10035 examples)"
    )


def test_both_reasons_are_told() -> None:
    verdict = judge_finetune(_figures((90, 10, 12)), _figures((90, 10, 2)), compared="held-out")
    assert [reason.split(" fell")[0] for reason in verdict.reasons] == [
        "rejected: recall of defect",
        "balanced accuracy",
    ]


def test_four_examples_of_a_tail_class_say_nothing() -> None:
    counts = (100, 20, 4)
    verdict = judge_finetune(
        _figures((50, 5, 1), counts), _figures((99, 19, 4), counts), compared="cross-validation"
    )
    assert not verdict.promoted
    assert verdict.compared == "nothing"
    assert verdict.reasons == ("rejected: defect has 4 examples to compare on, 5 are needed",)


def test_too_few_is_told_by_class() -> None:
    counts = np.array([50, 1, 0])
    assert too_few(counts, class_names=NAMES, tail=(2, 1)) == (
        "scratch has 1 example to compare on, 5 are needed",
        "defect has 0 examples to compare on, 5 are needed",
    )
    assert too_few(np.array([0, 5, 5]), class_names=NAMES, tail=(1, 2)) == ()


def test_without_a_tail_all_examples_together_must_do() -> None:
    assert too_few(np.array([2, 2, 0]), class_names=NAMES, tail=()) == (
        "found 4 examples to compare on, 5 are needed",
    )
    assert too_few(np.array([5, 0, 0]), class_names=NAMES, tail=()) == ()
    counts = (100, 20, 15)
    old, new = _figures((50, 5, 12), counts, ()), _figures((100, 20, 2), counts, ())
    assert judge_finetune(old, new, compared="held-out").promoted


def test_absent_common_classes_are_told() -> None:
    counts = (100, 0, 15)
    verdict = judge_finetune(
        _figures((90, 0, 6), counts), _figures((90, 0, 12), counts), compared="held-out"
    )
    assert verdict.promoted
    assert verdict.reasons[-1].startswith("scratch has no example here")


def test_figures_of_other_examples_are_refused() -> None:
    old = _figures((90, 10, 6))
    with pytest.raises(ShapeError, match="different examples"):
        judge_finetune(old, _figures((90, 10, 6), (100, 20, 16)), compared="held-out")
    with pytest.raises(ShapeError, match="tail"):
        judge_finetune(old, _figures((90, 10, 6), tail=()), compared="held-out")


def test_a_refusal_says_why_and_comes_back_from_its_file() -> None:
    verdict = refuse(("the training diverged", "twice"), before=_figures((90, 10, 6)))
    assert not verdict.promoted
    assert verdict.reasons == ("rejected: the training diverged", "twice")
    assert verdict.compared == "nothing"
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
