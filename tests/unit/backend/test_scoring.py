"""/predict: one result a task, in order, within its time, whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.errors import LabelStudioUnavailable, MediaError, Unauthorized
from backend.jobs import Jobs
from backend.judging import Judged, Judges, NothingToJudgeWith
from backend.project_settings import FILE, ProjectSettings
from backend.projects import ProjectStore
from backend.schemas import PredictRequest
from backend.scoring import Scoring
from backend.settings import Settings
from models.types import Judgement
from tests.recorded import CLASSES

CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="choice" toName="image">'
    + "".join(f'<Choice value="{name}"/>' for name in CLASSES)
    + "</Choices></View>"
)


BOXES = CONFIG.replace("Choices", "RectangleLabels").replace("Choice ", "Label ")


@dataclass
class FakeJudge:
    """Judges images by their bytes: rarity is their length over a hundred.

    Attributes:
        boxes: (J, 6) what it sees in every image; None where it draws none.
    """

    version: str = "v0007"
    classes: tuple[str, ...] = CLASSES
    tail: tuple[str, ...] = ("ship",)
    entered: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event | None = None
    boxes: NDArray[np.float32] | None = None

    def judge(
        self,
        ids: Sequence[int],
        load: Callable[[int], bytes],
        *,
        max_pixels: int,
        batch: int,
        threads: int,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Judged:
        self.entered.set()
        if self.go_on is not None:
            self.go_on.wait(10)
        good: dict[int, float] = {}
        failures: dict[int, str] = {}
        for image in ids:
            if should_stop():
                break
            try:
                good[image] = len(load(image)) / 100
            except MediaError as error:
                failures[image] = str(error)
        count = len(good)
        judgement = Judgement(
            ids=np.asarray(list(good), dtype=np.int64),
            rarity=np.asarray(list(good.values()), dtype=np.float64),
            predicted=np.full(count, 3, dtype=np.int64),
            confidence=np.full(count, 0.9),
            boxes=None if self.boxes is None else np.stack([self.boxes] * count),
        )
        return Judged(judgement if count else None, failures)


class FakeFetcher:
    """Bytes by address; an address that begins with ``bad`` cannot be read."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.fetched: list[str] = []

    def fetch(self, uri: str, *, task_id: int, project_key: str) -> bytes:
        time.sleep(self.seconds)
        if uri.startswith("bad"):
            raise MediaError("truncated file")
        self.fetched.append(uri)
        if uri.startswith("away"):
            raise LabelStudioUnavailable("Label Studio does not answer")
        if uri.startswith("refused"):
            raise Unauthorized("the token is refused", status=401)
        return b"x" * int(uri)


def ask(*tasks: tuple[int, str], config: str = CONFIG) -> PredictRequest:
    return PredictRequest.model_validate(
        {
            "tasks": [{"id": number, "data": {"image": uri}} for number, uri in tasks],
            "project": "1.1795231806",
            "label_config": config,
        }
    )


@pytest.fixture
def judge() -> FakeJudge:
    return FakeJudge()


@pytest.fixture
def scoring(settings: Settings, jobs: Jobs, judge: FakeJudge) -> Scoring:
    made = Scoring(settings, jobs, judges=Judges(lambda store, version: judge))  # type: ignore[arg-type, return-value]
    made._media = FakeFetcher()  # type: ignore[assignment]
    return made


def scores(results: list[dict[str, object]]) -> list[object]:
    return [result["score"] for result in results]


def test_published_tasks_are_answered_from_the_publication(
    scoring: Scoring, publish: Callable[..., object], judge: FakeJudge
) -> None:
    publish([10, 11, 12], [0.25, 0.75, 0.5])
    results = scoring.predict(ask((12, "1"), (10, "1"), (11, "1")))
    assert scores(results) == [0.5, 0.75, 0.25]
    assert {result["model_version"] for result in results} == {"rarefirst-v0007-abc123"}
    assert all(result["result"] == [] for result in results)
    assert not judge.entered.is_set()


def test_other_tasks_are_judged_now_in_their_places(
    scoring: Scoring, publish: Callable[..., object]
) -> None:
    publish([10], [0.25])
    results = scoring.predict(ask((98, "30"), (10, "1"), (99, "80")))
    assert scores(results) == pytest.approx([0.7, 0.75, 0.2])


def test_an_unreadable_image_gets_the_last_place_and_a_reason(
    scoring: Scoring,
    publish: Callable[..., object],
    store: ProjectStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish([10], [0.25])
    results = scoring.predict(ask((98, "bad"), (99, "80"), (97, "")))
    assert scores(results) == pytest.approx([1.0, 0.2, 1.0])
    assert "truncated file" in caplog.text
    assert "no address under 'image'" in caplog.text
    assert store.hinted_at("changed") is not None


@pytest.mark.parametrize(
    ("uri", "reason"),
    [("away", "Label Studio does not answer"), ("refused", "the token is refused")],
)
def test_what_was_judged_is_kept_when_label_studio_goes_away(
    scoring: Scoring,
    publish: Callable[..., object],
    caplog: pytest.LogCaptureFixture,
    uri: str,
    reason: str,
) -> None:
    publish([10], [0.25])
    fetcher = FakeFetcher()
    scoring._media = fetcher  # type: ignore[assignment]
    results = scoring.predict(ask((97, "30"), (98, uri), (99, "80")))
    assert scores(results) == pytest.approx([0.7, 1.0, 1.0])
    assert fetcher.fetched == ["30", uri]  # nobody waits for it again and again
    assert f"2 because {reason}" in caplog.text


def test_what_is_not_done_in_time_gets_the_last_place(
    settings: Settings, scoring: Scoring, publish: Callable[..., object]
) -> None:
    publish([10], [0.25])
    scoring._media = FakeFetcher(seconds=0.25)  # type: ignore[assignment]
    began = time.monotonic()
    results = scoring.predict(ask(*((100 + n, "50") for n in range(100))))
    assert time.monotonic() - began < settings.predict_budget_s + 1
    done = [score for score in scores(results) if score == 0.5]
    assert 0 < len(done) < 20
    assert scores(results).count(1.0) == 100 - len(done)


@pytest.mark.parametrize("config", ["", "<View/>", "not xml"])
def test_a_label_config_that_is_not_served_harms_nothing(
    scoring: Scoring, publish: Callable[..., object], config: str
) -> None:
    publish([10], [0.25])
    results = scoring.predict(ask((10, "1"), (99, "80"), config=config))
    assert scores(results) == [0.75, 1.0]


def test_without_a_publication_all_get_the_last_place(
    scoring: Scoring, jobs: Jobs, store: ProjectStore
) -> None:
    results = scoring.predict(ask((1, "10"), (2, "20")))
    assert scores(results) == [1.0, 1.0]
    assert results[0]["model_version"] == jobs.unpublished


def test_an_unknown_project_is_answered_and_asked_after(
    scoring: Scoring, recorder: object, jobs: Jobs
) -> None:
    results = scoring.predict(ask((1, "10"), (2, "20"), (3, "1")))
    assert scores(results) == [1.0, 1.0, 1.0]
    assert getattr(recorder, "calls", None) == [("register", 1)]


def test_a_version_that_cannot_be_loaded_gets_the_last_place(
    settings: Settings, jobs: Jobs, publish: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    def load(store: ProjectStore, version: str) -> object:
        raise NothingToJudgeWith(f"version {version} cannot be loaded: torn file")

    publish([10], [0.25])
    scoring = Scoring(settings, jobs, judges=Judges(load))  # type: ignore[arg-type]
    assert scores(scoring.predict(ask((10, "1"), (99, "80")))) == [0.75, 1.0]
    assert "torn file" in caplog.text


def test_judging_leaves_threads_for_quick_answers(
    settings: Settings, jobs: Jobs, publish: Callable[..., object], judge: FakeJudge
) -> None:
    publish([10], [0.25])
    judge.go_on = threading.Event()
    one_of_two = settings.model_copy(update={"threads": 2})
    scoring = Scoring(one_of_two, jobs, judges=Judges(lambda store, version: judge))  # type: ignore[arg-type, return-value]
    scoring._media = FakeFetcher()  # type: ignore[assignment]
    slow = threading.Thread(target=scoring.predict, args=(ask((99, "80")),))
    slow.start()
    assert judge.entered.wait(10)
    assert scores(scoring.predict(ask((98, "30")))) == [1.0]  # at once, not after the other
    judge.go_on.set()
    slow.join(10)


def test_a_new_publication_is_told_at_once(
    scoring: Scoring, publish: Callable[..., object]
) -> None:
    publish([10], [0.25])
    scoring.predict(ask((10, "1")))
    publish([10], [0.75], name="rarefirst-v0008-def456")
    (result,) = scoring.predict(ask((10, "1")))
    assert result["score"] == 0.25
    assert result["model_version"] == "rarefirst-v0008-def456"


def test_a_pre_annotation_where_the_settings_ask_for_one(
    settings: Settings, jobs: Jobs, publish: Callable[..., object]
) -> None:
    publish([10, 11], [0.25, 0.5])
    scoring = Scoring(settings.model_copy(update={"preannotate": True}), jobs)
    (result,) = scoring.predict(ask((11, "1")))
    assert result["result"] == [
        {
            "from_name": "choice",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": ["cat"]},
            "score": 0.75,
        }
    ]


def test_a_project_may_ask_for_pre_annotations_itself(
    settings: Settings, jobs: Jobs, store: ProjectStore, publish: Callable[..., object]
) -> None:
    publish([10, 11], [0.25, 0.5])
    scoring = Scoring(settings, jobs)

    def regions() -> int:
        (result,) = scoring.predict(ask((11, "1")))
        found = result["result"]
        assert isinstance(found, list)
        return len(found)

    assert regions() == 0
    store.write(FILE, ProjectSettings(overrides={"preannotate": True}))
    assert regions() == 1
    store.write(FILE, ProjectSettings())
    assert regions() == 0


@pytest.mark.parametrize(
    ("threshold", "shown"), [("0.74", True), ("0.75", True), ("0.76", False), ("half", True)]
)
def test_an_unsure_class_is_not_shown(
    settings: Settings,
    jobs: Jobs,
    publish: Callable[..., object],
    threshold: str,
    shown: bool,
) -> None:
    publish([11], [0.5])
    scoring = Scoring(settings.model_copy(update={"preannotate": True}), jobs)
    config = CONFIG.replace("<Choices ", f'<Choices model_score_threshold="{threshold}" ')
    (result,) = scoring.predict(ask((11, "1"), config=config))
    assert result["score"] == 0.5
    assert bool(result["result"]) is shown


def box_of(region: object) -> tuple[object, ...]:
    """Class and x, y, width, height in percents of one region."""
    assert isinstance(region, dict)
    assert (region["from_name"], region["type"]) == ("choice", "rectanglelabels")
    value = region["value"]
    place = (round(value[name], 3) for name in ("x", "y", "width", "height"))
    return (*value["rectanglelabels"], *place, round(region["score"], 3))


def test_boxes_published_and_judged_now_are_shown_alike(
    settings: Settings, jobs: Jobs, judge: FakeJudge, publish: Callable[..., object]
) -> None:
    seen = np.zeros((3, 6), dtype=np.float32)
    seen[0] = 0.1, 0.2, 0.3, 0.6, 3, 0.9
    seen[1] = 0.5, 0.5, 1.0, 1.0, 1, 0.1  # too unsure to be shown
    publish([10, 11], [0.25, 0.5], boxes=np.stack([np.zeros_like(seen), seen]))
    judge.boxes = seen
    asking = settings.model_copy(update={"preannotate": True})
    scoring = Scoring(asking, jobs, judges=Judges(lambda store, version: judge))  # type: ignore[arg-type, return-value]
    scoring._media = FakeFetcher()  # type: ignore[assignment]
    results = scoring.predict(ask((10, "1"), (11, "1"), (99, "80"), (98, "bad"), config=BOXES))
    assert scores(results) == pytest.approx([0.75, 0.5, 0.2, 1.0])
    regions = [result["result"] for result in results]
    assert all(isinstance(some, list) for some in regions)
    shown = [[box_of(region) for region in some] for some in regions]  # type: ignore[attr-defined]
    ship = ("ship", 10.0, 20.0, 20.0, 40.0, 0.9)
    assert shown == [[], [ship], [ship], []]


@pytest.mark.parametrize(("config", "boxes"), [(BOXES, None), (CONFIG, np.ones((2, 3, 6)) / 2)])
def test_nothing_is_shown_of_another_kind_of_labels(
    settings: Settings,
    jobs: Jobs,
    publish: Callable[..., object],
    config: str,
    boxes: NDArray[np.float64] | None,
) -> None:
    """Between a changed label config and the publication that follows it."""
    publish([10, 11], [0.25, 0.5], boxes=boxes)
    scoring = Scoring(settings.model_copy(update={"preannotate": True}), jobs)
    results = scoring.predict(ask((10, "1"), (11, "1"), config=config))
    assert scores(results) == [0.75, 0.5]
    assert [result["result"] for result in results] == [[], []]


def test_without_pre_annotations_no_box_is_shown(
    scoring: Scoring, publish: Callable[..., object]
) -> None:
    publish([10, 11], [0.25, 0.5], boxes=np.ones((2, 3, 6)) / 2)
    results = scoring.predict(ask((10, "1"), (11, "1"), config=BOXES))
    assert [result["result"] for result in results] == [[], []]


def test_a_version_is_loaded_once(store: ProjectStore) -> None:
    loaded: list[str] = []

    def load(store: ProjectStore, version: str) -> FakeJudge:
        loaded.append(version)
        time.sleep(0.05)
        return FakeJudge(version=version)

    judges = Judges(load)  # type: ignore[arg-type]
    threads = [threading.Thread(target=judges.of, args=(store, "v1")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == ["v1"]
    for number in range(2, 7):
        judges.of(store, f"v{number}")
    judges.of(store, "v1")
    assert loaded.count("v1") == 2  # a few are kept, not all
