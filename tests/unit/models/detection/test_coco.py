"""COCO figures: by hand, and the same as pycocotools' own."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from models.detection.boxes import Box, Boxes
from models.detection.coco import BoxMetrics, box_metrics
from models.errors import ShapeError

CUP = Box("cup", 0.1, 0.1, 0.3, 0.5)
OTHER_CUP = Box("cup", 0.6, 0.1, 0.8, 0.5)
SPOON = Box("spoon", 0.1, 0.6, 0.5, 0.9)
NAMES = ("cup", "spoon", "fork")


def found(*boxes: Box, confidence: tuple[float, ...] = ()) -> np.ndarray:
    """Rows for some boxes; the first is the surest where nothing else is said."""
    sure = confidence or tuple(1 - n / 10 for n in range(len(boxes)))
    rows = [
        [*box.corners, NAMES.index(box.label or "cup"), score]
        for box, score in zip(boxes, sure, strict=True)
    ]
    return np.asarray(rows, dtype=np.float32).reshape(-1, 6)


def judged(said: list[np.ndarray], truth: list[Boxes], **more: object) -> BoxMetrics:
    return box_metrics(said, truth, class_names=NAMES, **more)  # type: ignore[arg-type]


def test_all_found_in_their_places_is_one() -> None:
    said = judged([found(CUP, SPOON), found(OTHER_CUP)], [(CUP, SPOON), (OTHER_CUP,)], tail=[1])
    assert [one.ap for one in said.classes] == [pytest.approx(1), pytest.approx(1), None]
    means = [said.mean_ap, said.mean_ap_50, said.mean_ar, said.tail_ap, said.tail_ar]
    assert means == pytest.approx([1] * 5)
    assert [one.boxes for one in said.classes] == [2, 1, 0]
    assert [one.images for one in said.classes] == [2, 1, 0]
    assert said.notes == ("fork has no true box here and is left out of every mean",)
    assert (said.boxes, said.count, said.images) == (3, 3, 2)


def test_nothing_found_is_zero_and_no_truth_is_none() -> None:
    said = judged([found()], [(CUP,)])
    assert (said.classes[0].ap, said.classes[0].ar, said.mean_ap) == (0, 0, 0)
    nothing = judged([found(CUP)], [()], tail=[0])
    assert (nothing.mean_ap, nothing.mean_ar, nothing.tail_ap) == (None, None, None)
    assert (nothing.low, nothing.high) == (0, 1)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # Recalls 0, .01, ..., .50 of 101 are reached at precision 1.
        (found(CUP, Box("cup", 0.1, 0.6, 0.5, 0.9)), 51 / 101),
        # The false one first: at a precision of a half.
        (found(Box("cup", 0.1, 0.6, 0.5, 0.9), CUP), 51 / 101 / 2),
        # A second box on the same cup is a false one, and after a right one it costs nothing.
        (found(CUP, CUP, OTHER_CUP), (51 + 50 * 2 / 3) / 101),
    ],
)
def test_one_of_two(said: np.ndarray, expected: float) -> None:
    assert judged([said], [(CUP, OTHER_CUP)]).classes[0].ap == pytest.approx(expected)


@pytest.mark.parametrize(("overlap", "right"), [(0.49, 0), (0.52, 1), (0.72, 5), (0.94, 9)])
def test_a_shifted_box_counts_up_to_its_overlap(overlap: float, right: int) -> None:
    # Shifted by s of its width w: (w - s) / (w + s) is shared.
    shift = 0.2 * (1 - overlap) / (1 + overlap)
    shifted = Box("cup", CUP.x0 + shift, CUP.y0, CUP.x1 + shift, CUP.y1)
    one = judged([found(shifted)], [(CUP,)]).classes[0]
    assert one.ap == pytest.approx(right / 10)
    assert one.ar == pytest.approx(right / 10)
    assert one.ap_50 == pytest.approx(1.0 if right else 0.0)


def test_a_box_without_label_counts_neither_for_nor_against() -> None:
    unknown = Box(None, 0.55, 0.05, 0.95, 0.95)
    said = found(OTHER_CUP, CUP, Box("cup", 0.6, 0.6, 0.7, 0.7))
    assert judged([said], [(CUP, unknown)]).classes[0].ap == pytest.approx(1)
    assert judged([said], [(CUP, unknown)]).classes[0].found == 1
    assert judged([said], [(CUP,)]).classes[0].ap == pytest.approx(1 / 2)
    of_no_class = Box("plate", 0.55, 0.05, 0.95, 0.95)
    assert judged([said], [(CUP, of_no_class)]).classes[0].ap == pytest.approx(1)


def test_a_row_without_confidence_is_no_box() -> None:
    said = found(Box("cup", 0, 0, 0.1, 0.1), CUP, confidence=(0.0, 0.5))
    one = judged([said], [(CUP,)]).classes[0]
    assert (one.ap, one.found) == (pytest.approx(1), 1)


def random_world(seed: int) -> tuple[list[np.ndarray], list[Boxes]]:
    rng = np.random.default_rng(seed)
    truth, said = [], []
    for _ in range(12):
        corners = rng.uniform(0, 0.6, (rng.integers(0, 6), 2))
        sizes = rng.uniform(0.1, 0.4, corners.shape)
        labels = rng.choice([*NAMES[:2], None], len(corners), p=[0.6, 0.3, 0.1])
        boxes = tuple(
            Box(label, x, y, x + w, y + h)
            for label, (x, y), (w, h) in zip(labels, corners, sizes, strict=True)
        )
        truth.append(boxes)
        rows = [
            [*(np.asarray(box.corners) + rng.normal(0, 0.03, 4)), rng.integers(0, 3)]
            for box in boxes
            for _ in range(2)
        ]
        rows = [[min(r[0], r[2]), min(r[1], r[3]), max(r[0], r[2]), max(r[1], r[3]), r[4],
                 rng.choice([0.2, 0.5, 0.7, rng.uniform(0.1, 1)])] for r in rows]  # fmt: skip
        said.append(np.asarray(rows, dtype=np.float64).reshape(-1, 6))
    return said, truth


def by_pycocotools(said: list[np.ndarray], truth: list[Boxes]) -> tuple[np.ndarray, np.ndarray]:
    """AP and AR of each class, -1 where there is no true box."""
    annotations = []
    for n, boxes in enumerate(truth):
        for box in boxes:
            of = [NAMES.index(box.label)] if box.label else range(len(NAMES))
            annotations += [
                {
                    "id": len(annotations) + 1 + k,
                    "image_id": n,
                    "category_id": k,
                    "bbox": [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0],
                    "area": box.area,
                    "iscrowd": int(box.label is None),
                }
                for k in of
            ]
            for number, annotation in enumerate(annotations):
                annotation["id"] = number + 1
    there = COCO()
    there.dataset = {
        "images": [{"id": n} for n in range(len(truth))],
        "categories": [{"id": k} for k in range(len(NAMES))],
        "annotations": annotations,
    }
    rows = [
        [n, r[0], r[1], r[2] - r[0], r[3] - r[1], r[5], r[4]]
        for n, one in enumerate(said)
        for r in one
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        there.createIndex()
        there.dataset["info"] = {}
        judge = COCOeval(there, there.loadRes(np.asarray(rows)), "bbox")
        judge.evaluate()
        judge.accumulate()
    return judge.eval["precision"][..., 0, 2].mean(axis=(0, 1)), judge.eval["recall"][
        ..., 0, 2
    ].mean(axis=0)


@pytest.mark.parametrize("seed", range(5))
def test_the_figures_are_pycocotools_own(seed: int) -> None:
    said, truth = random_world(seed)
    ours = judged(said, truth)
    ap, ar = by_pycocotools(said, truth)
    assert [-1 if one.ap is None else one.ap for one in ours.classes] == pytest.approx(list(ap))
    assert [-1 if one.ar is None else one.ar for one in ours.classes] == pytest.approx(list(ar))


def test_intervals_hold_the_figure_and_are_seeded() -> None:
    said, truth = random_world(3)
    one, again, other = (judged(said, truth, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert (one.low, one.high) != (other.low, other.high)
    for figures in one.classes[:2]:
        assert figures.ap is not None
        assert 0 <= figures.low < figures.ap < figures.high <= 1
    assert judged(said, truth, resamples=0).classes[0].low == 0


def test_an_image_drawn_twice_counts_as_two_images() -> None:
    from models.detection.coco import _Matches

    said, truth = random_world(4)
    times = np.array([2, 0, 1, 3, 1, 0, 1, 1, 2, 0, 1, 0])
    rows = [np.asarray(one, dtype=np.float64) for one in said]
    rows = [np.column_stack([one[:, :5], one[:, 5] + np.arange(len(one)) * 1e-6]) for one in rows]
    drawn = _Matches.of(rows, truth, 0, NAMES).averages(times)
    doubled = [n for n, count in enumerate(times) for _ in range(count)]
    copied = _Matches.of([rows[n] for n in doubled], [truth[n] for n in doubled], 0, NAMES)
    # Between the copies of a box the precision of a copied image takes a step more.
    assert drawn == pytest.approx(copied.averages(np.ones(len(doubled), dtype=int)), abs=0.02)


def test_it_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    judged([found(CUP)], [(CUP,)])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("said", "truth", "more", "words"),
    [
        ([], [], {}, "found boxes of 0 images"),
        ([found(CUP)], [(CUP,), ()], {}, "found boxes of 1 images and true ones of 2"),
        ([np.zeros((2, 5))], [()], {}, r"found boxes \(2, 5\)"),
        ([np.full((1, 6), np.nan)], [()], {}, "finite"),
        ([np.array([[0, 0, 1, 1, 3, 0.5]])], [()], {}, r"outside \[0, 3\)"),
        ([found(CUP)], [(CUP,)], {"tail": [3]}, "found tail classes"),
    ],
)
def test_what_does_not_fit_is_refused(
    said: list[np.ndarray], truth: list[Boxes], more: dict[str, object], words: str
) -> None:
    with pytest.raises(ShapeError, match=words):
        judged(said, truth, **more)
