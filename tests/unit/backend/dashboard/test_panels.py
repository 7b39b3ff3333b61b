"""What each panel makes of the stores' files."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from backend.dashboard.classes import classes_panel
from backend.dashboard.comparison import comparison
from backend.dashboard.figures import found_figure, loss_figure, precision_figure
from backend.dashboard.finetunes import finetune_cards
from backend.dashboard.found import found_panel, thinned, wilson
from backend.dashboard.pictures import Pictures
from backend.dashboard.precision import precision_panel
from backend.dashboard.project import project_page
from backend.dashboard.queue import queue_panel, why_words
from backend.dashboard.review import review_panel
from backend.dashboard.words import amount, duration, figure, share
from backend.mirror import Mirror, MirroredTask
from backend.projects import ProgressNote, ProjectStore
from backend.reports import ProjectReport, RareEstimate, RareLeftReport, RoundEntry
from backend.settings import Settings
from tests.unit.backend.dashboard.kept import EVIL, T0, Kept, png


@pytest.fixture
def boxes(guarded: Settings, store: ProjectStore) -> Kept:
    return Kept(guarded, store, boxes=True).fill()


def history(kept: Kept) -> list[RoundEntry]:
    return kept.store.history(RoundEntry)


def report(kept: Kept) -> ProjectReport:
    found = kept.store.read("report.json", ProjectReport)
    assert found is not None
    return found


def test_classes_are_counted_rare_ones_first(kept: Kept) -> None:
    panel = classes_panel(report(kept), kept.classes, boxes=False, threshold=0.3)
    assert [(row.name, row.labels, row.rare) for row in panel.rows] == [
        ("rare", 10, True),
        ("common", 60, False),
        ("other", 30, False),
    ]
    assert panel.rows[0].ratio == pytest.approx(3 * 1 / 50)
    assert [row.share for row in panel.rows] == pytest.approx([1 / 6, 1, 0.5])
    assert panel.imbalance == 6
    assert all(row.images is None for row in panel.rows)


def test_a_class_without_a_label_is_there(kept: Kept) -> None:
    panel = classes_panel(report(kept), (*kept.classes, "none"), boxes=True, threshold=0.3)
    assert {row.name: (row.labels, row.images) for row in panel.rows}["none"] == (0, 0)
    assert panel.imbalance == 6


def test_nothing_is_known_of_skewness_without_labels() -> None:
    panel = classes_panel(
        ProjectReport(project_id=1, at=T0), ("a", "b"), boxes=False, threshold=0.3
    )
    assert [row.ratio for row in panel.rows] == [None, None]
    assert panel.imbalance is None


def test_found_against_random_order(kept: Kept) -> None:
    panel = found_panel(history(kept), report(kept))
    assert panel.labels == (50, 75, 100)
    (curve,) = panel.curves
    assert curve.found == (1, 6, 10)
    # One was there before the queue; of 50 more labels random order finds 50 times 1/50.
    assert curve.expected(50) == (1, 1, 1)
    assert curve.expected(100) == pytest.approx((2.0, 1.18, 6.25), abs=0.01)
    assert curve.times(100) == pytest.approx(9)
    assert not panel.by_control


def test_the_control_slice_tells_better_how_rare_they_are(kept: Kept) -> None:
    some = RareEstimate(likely=7, low=3, high=15)
    left = RareLeftReport(tasks=350, total=some, by_class={"rare": some})
    kept.report(rare_left=left, tail=("rare", "common"))
    panel = found_panel(history(kept), report(kept))
    assert panel.by_control
    all_, rare, common = panel.curves
    # 9 found since and 7 left, of the 400 tasks that the pool had then.
    assert all_.prevalence == rare.prevalence == 16 / 400
    assert all_.expected(100) == pytest.approx((3.0, 2.5, 4.0))
    assert all_.times(100) == pytest.approx(4.5)
    assert common.prevalence == 0.7  # the slice says nothing of it


def test_each_rare_class_has_a_curve_of_its_own(kept: Kept) -> None:
    kept.report(tail=("rare", "common"))
    all_, rare, common = found_panel(history(kept), report(kept)).curves
    assert (all_.name, rare.name, common.name) == ("", "rare", "common")
    assert rare.found == (1, 6, 10)
    assert common.found == (49, 69, 90)
    assert common.prevalence == 0.7


def test_of_boxes_images_are_counted_not_boxes(boxes: Kept) -> None:
    boxes.report(tail=("rare", "common"))
    known, rounds = report(boxes), history(boxes)
    _, rare, common = found_panel(rounds, known, boxes=True).curves
    assert (rare.found, common.found) == ((1, 6, 10), (5, 5, 5))
    older = [one.model_copy(update={"images_by_class": {}}) for one in rounds]
    assert len(found_panel(older, known, boxes=True).curves) == 1


def test_labels_that_were_taken_back_leave_the_curve(kept: Kept) -> None:
    rounds = history(kept)
    back = rounds[1].model_copy(update={"labels_by_origin": {"initial": 60}, "rare_found": 3})
    panel = found_panel([*rounds, back], report(kept))
    assert panel.labels == (50, 60)
    assert panel.curves[0].found == (1, 3)


def test_without_labels_that_we_did_not_choose_nothing_is_expected(kept: Kept) -> None:
    kept.report(unchosen=0, unchosen_rare=0, unchosen_by_class={})
    (curve,) = found_panel(history(kept), report(kept)).curves
    assert curve.expected(100) is None
    assert curve.times(100) is None


def test_a_long_history_is_thinned_to_its_ends() -> None:
    values = thinned(list(range(10_000)), most=400)
    assert len(values) == 400
    assert (values[0], values[-1]) == (0, 9_999)
    assert values == sorted(set(values))


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (1, 50), (30, 100), (100, 100)])
def test_wilson_is_scipys(hits: int, count: int) -> None:
    exact = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits, count) == pytest.approx((exact.low, exact.high), abs=1e-4)


def test_of_nothing_the_interval_is_everything() -> None:
    assert wilson(0, 0) == (0, 1)


def test_precision_of_each_queue_is_its_last_word(kept: Kept) -> None:
    panel = precision_panel(history(kept), random=0.02)
    (queue,) = panel.queues
    # The third round published: what it says is still of the queue before its own.
    assert (queue.publication, queue.labeled, queue.rare) == ("a-v0001-1", 50, 9)
    assert queue.version == "v0001"
    assert queue.precision == 0.18
    assert panel.random == 0.02
    assert (queue.kind, queue.mined, queue.tail) == ("rarefirst", True, ("rare",))
    assert panel.by_chance(queue) == 1


def test_orders_that_know_nothing_of_the_rare_are_told_apart(kept: Kept) -> None:
    rounds = [one.model_copy(update={"seconds": {}}) for one in history(kept)]
    panel = precision_panel(rounds, random=0.02)
    assert [(one.kind, one.mined) for one in panel.queues] == [
        ("diversity", False),
        ("rarefirst", True),
    ]
    drawn = precision_figure(panel)
    assert isinstance(drawn["data"], list)
    names = [trace["name"] for trace in drawn["data"] if isinstance(trace, dict)]
    assert names == ["rarest first", "no order by rarity", "random order"]
    # Rounds from before this was written down are taken for mined, as most were.
    older = [one.model_copy(update={"queue_kind": "", "tail": ()}) for one in rounds]
    assert [one.mined for one in precision_panel(older, random=None).queues] == [True, True]


def test_a_queue_that_is_served_counts_too(kept: Kept) -> None:
    after = history(kept)[2].model_copy(update={"seconds": {}, "queue_labeled": 4, "queue_rare": 1})
    panel = precision_panel([*history(kept), after], random=None)
    assert [(one.publication, one.labeled) for one in panel.queues] == [
        ("a-v0001-1", 50),
        ("a-v0002-2", 4),
    ]


def test_finetunes_tell_loss_classes_and_reasons(kept: Kept) -> None:
    (card,) = finetune_cards(kept.store)
    assert card.loss == pytest.approx((2.0, 1.0, 2 / 3))  # half a line is left out
    assert (card.state, card.figure, card.reasons) == ("promoted", "recall", ("better at rare",))
    assert (card.labels, card.held_out) == (3, 1)
    first = card.classes[0]
    assert (first.name, first.rare, first.before, first.after) == ("rare", True, 0.4, 0.8)


def test_of_detectors_ap_is_told(boxes: Kept) -> None:
    (card,) = finetune_cards(boxes.store)
    assert card.figure == "AP"
    assert (card.classes[0].before, card.classes[0].examples) == (0.4, 7)


def test_a_damaged_outcome_costs_only_its_figures(kept: Kept) -> None:
    kept.store.path("finetunes", "0001", "outcome.json").write_text("{")
    (card,) = finetune_cards(kept.store)
    assert (card.classes, card.reasons) == ((), ("better at rare",))


def test_the_queue_leaves_out_what_was_labeled(kept: Kept) -> None:
    panel = queue_panel(kept.settings, kept.store, images=True)
    assert [card.task for card in panel.cards] == [5, 6, 7, 8, 9, 10, 11, 12]
    assert [card.position for card in panel.cards] == list(range(1, 9))
    first, last = panel.cards[0], panel.cards[-1]
    assert first.rarity == pytest.approx(0.8)
    assert (first.predicted, first.confidence) == ("rare", 0.75)
    assert (first.why, last.why) == ("the turn of rare", why_words("control"))
    assert [card.task for card in panel.cards if card.picture.there] == [5, 12]  # cached; data:
    assert not any(
        card.picture.there for card in queue_panel(kept.settings, kept.store, images=False).cards
    )


def test_why_a_task_is_rare_is_told_of_the_head(kept: Kept) -> None:
    panel = queue_panel(kept.settings, kept.store, images=True)
    first, third, later = panel.cards[0], panel.cards[2], panel.cards[3]
    assert first.rare == kept.why(5)
    assert third.rare == kept.why(7)
    (near,) = first.near  # one of two is there still
    assert (near.task, near.label, near.distance, near.picture.there) == (4, "rare", 0.5, True)
    assert (later.rare, later.near) == (None, ())
    folder = kept.store.path("publications", "a-v0002-2")
    (folder / "why.json").write_text("{")
    assert queue_panel(kept.settings, kept.store, images=True).cards[0].rare is None
    (folder / "why.json").unlink()
    assert queue_panel(kept.settings, kept.store, images=True).cards[0].rarity is not None


def test_a_queue_whose_head_is_labeled_is_read_on(kept: Kept) -> None:
    done = range(20, 1300)
    tasks = [MirroredTask(i, f"/data/{i}.png", "labeled", "other", 1) for i in done]
    Mirror(kept.store.path("mirror")).upsert(tasks)
    kept.store.path("publications", "a-v0002-2", "scores.npz").unlink()
    published = kept.store.publications()
    assert published.published is not None
    longer = published.published.model_copy(update={"task_ids": (*done, 7, 5)})
    kept.store.write("publication.json", published.model_copy(update={"published": longer}))
    panel = queue_panel(kept.settings, kept.store, images=True)
    assert [(card.task, card.rarity) for card in panel.cards] == [(7, None), (5, None)]


def test_nothing_published_is_no_queue(guarded: Settings, store: ProjectStore) -> None:
    assert queue_panel(guarded, store, images=True).publication == ""


@pytest.mark.parametrize("drawn", [False, True])
def test_doubted_labels_that_still_stand(
    guarded: Settings, store: ProjectStore, drawn: bool
) -> None:
    kept = Kept(guarded, store, boxes=drawn).fill()
    panel = review_panel(kept.settings, kept.store, images=True)
    (card,) = panel.cards
    assert (card.task, card.label) == (4, "2 rare" if drawn else "rare")
    assert (panel.finetune, panel.standing, panel.looked_at, panel.by) == (1, 1, 1, "loss")


def test_no_review_yet(guarded: Settings, store: ProjectStore) -> None:
    assert review_panel(guarded, store, images=True).finetune == 0


def test_small_pictures_are_made_anew(kept: Kept) -> None:
    pictures = Pictures(kept.settings, kept.store)
    for task in (5, 12):
        data = pictures.small(task)
        assert data is not None
        assert data[:2] == b"\xff\xd8"  # a JPEG, whatever was stored
    assert pictures.small(6) is None  # not in the cache
    assert pictures.small(99) is None  # not there at all
    assert Pictures(kept.settings, kept.store, shown=False).small(5) is None


def test_what_is_no_picture_or_too_large_is_none(kept: Kept) -> None:
    Mirror(kept.store.path("mirror")).upsert(
        [
            MirroredTask(5, "data:image/png;base64,AAAA"),
            MirroredTask(6, "data:text/html,<script>alert(1)</script>"),
            MirroredTask(7, "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ]
    )
    pictures = Pictures(kept.settings, kept.store)
    assert [pictures.small(task) for task in (5, 6, 7)] == [None, None, None]
    small = kept.settings.model_copy(update={"max_image_megapixels": 0})
    assert Pictures(small, kept.store).small(12) is None


def test_a_large_picture_comes_small(kept: Kept) -> None:
    from io import BytesIO

    from PIL import Image

    from backend.labelstudio.image_cache import ImageCache, image_key

    cache = ImageCache(kept.settings.data_dir / "images", max_bytes=1 << 22)
    cache.put(image_key(kept.uris[8], kept.store.key), png(side=1500))
    data = Pictures(kept.settings, kept.store).small(8)
    assert data is not None
    assert Image.open(BytesIO(data)).size == (240, 240)


def test_two_versions_side_by_side(kept: Kept) -> None:
    kept.version("v0002", labels=6)
    found = comparison(kept.store, "v0001", "v0002")
    assert (found.metrics["tail_labels"].a, found.metrics["tail_labels"].b) == (4.0, 6.0)
    assert (found.counts["common"].a, found.counts["common"].b) == (3, 5)
    assert set(found.config) == {"alpha"}  # what is the same is left out
    assert found.labels.added == {"common": 2}


def test_a_project_nobody_looked_at_has_a_page(guarded: Settings, store: ProjectStore) -> None:
    page = project_page(guarded, 1)
    assert not page.looked
    assert (page.found.curves, page.precision.queues, page.finetunes) == ((), (), ())


def test_figures_are_plain_and_their_words_no_markup(kept: Kept) -> None:
    panel = precision_panel(
        [one.model_copy(update={"version": EVIL}) for one in history(kept)], random=0.1
    )
    assert "<script" not in str(precision_figure(panel))
    panel_found = found_panel(history(kept), report(kept))
    drawn = found_figure(panel_found, panel_found.curves[0])
    assert isinstance(drawn["data"], list)
    assert len(drawn["data"]) == 3  # interval, random order, found
    (card,) = finetune_cards(kept.store)
    assert str(loss_figure(card)).count("'y': [2.0, 1.0, 0.6667]") == 1


def test_what_is_left_is_told_by_the_pace_so_far(store: ProjectStore) -> None:
    store.note("embed", 0, 100)
    first = store.progress()
    assert first.left_s is None
    store.note("embed", 25, 100)
    again = store.progress()
    assert (again.began, again.began_at) == (first.began, 0)
    assert again.began is not None
    assert again.since is not None
    spent = (again.since - again.began).total_seconds()
    assert again.left_s == pytest.approx(3 * spent)
    store.note("embed", 10, 100)  # from the start: a new count
    assert store.progress().began_at == 10
    assert ProgressNote(doing="embed", done=100, total=100).left_s is None


def test_words() -> None:
    assert [share(x) for x in (None, 0, 0.0123, 0.5, 1)] == [
        "not known",
        "0 %",
        "1.2 %",
        "50 %",
        "100 %",
    ]
    assert [figure(x) for x in (None, True, 0.12345, 3, ["a"], [], {"a": 1})] == [
        "",
        "yes",
        "0.123",
        "3",
        "a",
        "none",
        "a 1",
    ]
    assert [amount(x) for x in (0, 2.34, 23.4)] == ["0", "2.3", "23"]
    assert [duration(x) for x in (5, 200, 7300, 200_000)] == ["5 s", "3 min", "2 h", "2 days"]
