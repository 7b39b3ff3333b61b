from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from backend.errors import BackendError
from backend.settings import Settings
from backend.simulation import games
from backend.simulation.data import ExportOptions
from backend.simulation.replay import SimulationPlan, replay
from backend.simulation.report import SimulationReport
from models.types import Progress
from tests.unit.backend.simulation.squares_on_disk import square, write_squares

TINY = "tests.unit.models.own_networks:TinyNetwork"
QUICK = SimulationPlan(scorers=("tail_mass", "entropy"), start=24, rounds=3, batch=4, repeats=2)


@pytest.fixture
def tiny(settings: Settings) -> Settings:
    return settings.model_copy(update={"backbone": TINY})


def _replay(
    settings: Settings, dataset: Path, plan: SimulationPlan = QUICK, **changes: object
) -> SimulationReport:
    report, _ = replay(settings, dataset, plan.model_copy(update=changes))
    return report


def test_a_folder_from_end_to_end(tmp_path: Path, tiny: Settings) -> None:
    folder = write_squares(tmp_path / "squares", red=40, green=40, blue=8)
    out = tmp_path / "out"
    watched: dict[str, list[tuple[int, int]]] = {}

    def watch(name: str) -> Progress:
        told = watched.setdefault(name, [])
        return lambda done, total, message="": told.append((done, total))

    report, where = replay(tiny, folder, QUICK, out=out, watch=watch)
    assert where == out
    assert report.classes == {"blue": 8, "green": 40, "red": 40}
    assert (report.tail, report.tail_from) == (("blue",), "skewness")
    assert report.start == {"blue": 2, "green": 11, "red": 11}
    assert (report.pool, report.rare, report.total) == (64, {"blue": 6}, 6)
    assert report.labels == (4, 8, 12)
    mass, entropy, chance = report.orders
    assert [order.scorer for order in report.orders] == ["tail_mass", "entropy", "random"]
    # Blue is plain to see: the first six labels are the six.
    assert [interval.mean for interval in mass.found] == [4, 6, 6]
    assert mass.found_by_repeat == ((4, 6, 6), (4, 6, 6))
    assert mass.by_class["blue"] == mass.found
    half = mass.savings[0]
    assert (half.share, half.rare, half.reached) == (0.5, 3, 2)
    assert half.labels is not None
    assert half.labels.mean == 3
    assert half.saved is not None
    assert half.saved.mean == half.random.mean - 3 > 5
    assert chance.savings[0].saved is not None
    assert chance.savings[0].saved.mean == 0
    assert entropy.found[-1].mean < 6

    stored = json.loads((out / "simulate.json").read_text())
    assert SimulationReport.model_validate(stored) == report
    assert (out / "simulate.png").read_bytes().startswith(b"\x89PNG")
    assert "rarefirst" not in (out / "simulate.html").read_text()[-3000:]
    assert [told[-1] for told in watched.values()] == [(88, 88), (9, 9), (9, 9)]


def test_a_second_run_plays_nothing_again(
    tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_squares(tmp_path / "squares", red=40, green=40, blue=8)
    first = _replay(tiny, folder)

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("played again")

    with monkeypatch.context() as patch:
        patch.setattr(games, "simulate", never)
        assert _replay(tiny, folder) == first
        with pytest.raises(AssertionError, match="played again"):
            _replay(tiny, folder, batch=5)  # other conditions, another game
        patch.setattr(games, "code_digest", lambda: "other code")
        with pytest.raises(AssertionError, match="played again"):
            _replay(tiny, folder)


def test_a_run_that_was_stopped_goes_on(
    tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_squares(tmp_path / "squares", red=40, green=40, blue=8)
    whole = _replay(tiny, folder)
    kept = sorted((tiny.data_dir / "simulate" / "results" / "squares" / "games").iterdir())
    assert len(kept) == 6
    kept[0].unlink()
    kept[3].write_text(kept[3].read_text()[:50])
    played: list[str] = []
    real = games.simulate

    def counted(*args: object, **kwargs: object) -> object:
        played.append("one")
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(games, "simulate", counted)
    again = _replay(tiny, folder)
    assert len(played) == 2
    assert [order.found for order in again.orders] == [order.found for order in whole.orders]


def test_a_zip_plays_what_its_folder_plays(tmp_path: Path, tiny: Settings) -> None:
    folder = write_squares(tmp_path / "squares", red=20, green=20, blue=4)
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "squares")
    unpacked = _replay(tiny, folder, repeats=1)
    report = _replay(tiny, Path(packed), repeats=1)
    assert (report.kind, report.classes) == ("zip", unpacked.classes)
    assert [order.found for order in report.orders] == [order.found for order in unpacked.orders]


def test_what_is_no_data_set(tmp_path: Path, tiny: Settings) -> None:
    (tmp_path / "notes.txt").write_text("cat: 3")
    with pytest.raises(BackendError, match="cannot be read as JSON"):
        _replay(tiny, tmp_path / "notes.txt")


def test_a_folder_that_cannot_be_written_to_is_said_before_any_work(
    tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path or mode != os.W_OK)
    with pytest.raises(BackendError, match="cannot be written to; name another --out"):
        replay(tiny, tmp_path / "nothing", QUICK, out=tmp_path)


def test_an_export(tmp_path: Path, tiny: Settings) -> None:
    tasks = []
    (tmp_path / "images").mkdir()
    for label, count in (("red", 30), ("blue", 8)):
        for number in range(count):
            name = f"{label}-{number}.png"
            (tmp_path / "images" / name).write_bytes(square(label, number))
            region = {"from_name": "c", "type": "choices", "value": {"choices": [label]}}
            annotation = {"result": [region], "was_cancelled": False}
            task = {"id": len(tasks), "data": {"image": f"/data/upload/1/{name}"}}
            tasks.append({**task, "annotations": [annotation]})
    tasks.append({"id": 99, "data": {"image": "x.png"}, "annotations": []})
    tasks[5]["data"] = {"image": "gone.png"}
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    plan = QUICK.model_copy(update={"tail": ("blue",), "scorers": ()})
    export = ExportOptions(images=tmp_path / "images")
    report, _ = replay(tiny, path, plan, export=export)
    assert (report.kind, report.tail_from) == ("export", "named")
    assert report.classes == {"blue": 8, "red": 29}
    assert report.left_out == {"not annotated": 1}
    assert [(image.file, "no such file" in image.reason) for image in report.unread] == [
        ("task 5, gone.png", True)
    ]
    assert [order.scorer for order in report.orders] == ["random"]


def test_a_pool_smaller_than_the_rounds_ask_for(tmp_path: Path, tiny: Settings) -> None:
    folder = write_squares(tmp_path / "squares", red=20, green=20, blue=4)
    report = _replay(tiny, folder, start=30, rounds=9, batch=6, repeats=1)
    assert report.labels == (6, 12, 14)
    assert "empty after 3 of 9 rounds" in report.notes[0]
    for order in report.orders:
        assert order.found[-1].mean == report.total
        assert all(one.reached == 1 for one in order.savings)


def test_a_class_with_one_image_stays_in_the_pool(tmp_path: Path, tiny: Settings) -> None:
    folder = write_squares(tmp_path / "squares", red=20, green=20, blue=1)
    report = _replay(tiny, folder, rounds=6)
    assert report.start == {"blue": 0, "green": 12, "red": 12}
    assert report.rare == {"blue": 1}
    assert any("no label of blue at the start" in note for note in report.notes)
    found = {order.scorer: order.found[-1].mean for order in report.orders}
    assert found["tail_mass"] <= 1


def test_what_a_scorer_refuses_costs_the_others_nothing(
    tmp_path: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.errors import NotEnoughLabels
    from models.scorers import SCORERS

    def refuse(*args: object, **kwargs: object) -> None:
        raise NotEnoughLabels("found no label that it likes")

    monkeypatch.setattr(SCORERS["entropy"], "fit", refuse)
    folder = write_squares(tmp_path / "squares", red=40, green=40, blue=8)
    report = _replay(tiny, folder, repeats=1)
    assert report.orders[1].refused == "found no label that it likes"
    assert [order.scorer for order in report.played()] == ["tail_mass", "random"]
    assert [curve.name for curve in report.curves()] == ["tail_mass", "random"]


def test_corrupt_images_are_listed_and_left_out(tmp_path: Path, tiny: Settings) -> None:
    folder = write_squares(tmp_path / "squares", red=40, green=40, blue=8)
    (folder / "blue" / "000.png").write_bytes(b"")
    (folder / "red" / "003.png").write_bytes(square("red", 3)[:60])
    report = _replay(tiny, folder, repeats=1, rounds=1)
    assert report.classes == {"blue": 7, "green": 40, "red": 39}
    assert [image.file for image in report.unread] == ["blue/000.png", "red/003.png"]
    assert "an empty file" in report.unread[0].reason


@pytest.mark.parametrize(
    ("counts", "changes", "words"),
    [
        ({"red": 20, "green": 20, "blue": 20}, {}, "no class is rare.*blue 20.*--tail"),
        ({"red": 40, "blue": 8}, {"tail": ("pink",)}, "tail classes pink, expected.*blue, red"),
        ({"red": 40, "blue": 8}, {"tail": ("red", "blue")}, "every class is in the tail"),
        ({"red": 40}, {}, "all 40 labeled images .*'red'"),
        ({}, {}, "no labeled image"),
        (
            {"red": 40, "blue": 8},
            {"scorers": ("best",)},
            "scorers best; expected some of rarefirst",
        ),
        ({"red": 40, "blue": 8}, {"tail": ("blue",), "start": 48}, "none of blue is left"),
        ({"red": 40, "blue": 8}, {"tail": ("blue",), "start": 49}, "expected 0 to 48"),
    ],
)
def test_what_cannot_be_replayed(
    tmp_path: Path, tiny: Settings, counts: dict[str, int], changes: dict[str, object], words: str
) -> None:
    from models.errors import ModelError

    (tmp_path / "squares").mkdir()
    folder = write_squares(tmp_path / "squares", **counts)
    with pytest.raises((BackendError, ModelError), match=words):
        _replay(tiny, folder, **changes)


def test_unreadable_classes_are_not_rare(tmp_path: Path, tiny: Settings) -> None:
    folder = write_squares(tmp_path / "squares", red=20, green=20, blue=1)
    (folder / "blue" / "000.png").write_bytes(b"")
    with pytest.raises(BackendError, match=r"no class is rare.*blue 0"):
        _replay(tiny, folder)
    with pytest.raises(BackendError, match="no image of blue can be read"):
        _replay(tiny, folder, tail=("blue",))
    for path in (folder / "green").iterdir():
        path.write_bytes(b"")
    with pytest.raises(BackendError, match=r"20 images that can be read are of 1 class"):
        _replay(tiny, folder)


def test_the_settings_name_the_tail(tmp_path: Path, tiny: Settings) -> None:
    folder = write_squares(tmp_path / "squares", red=20, green=20, blue=10)
    named = tiny.model_copy(update={"tail_classes": ("green", "blue")})
    assert _replay(named, folder, scorers=(), rounds=1).tail == ("blue", "green")
    without = named.model_copy(update={"not_tail_classes": ("green",)})
    assert _replay(without, folder, scorers=(), rounds=1).tail == ("blue",)
    assert _replay(named, folder, scorers=(), rounds=1, tail=("red",)).tail == ("red",)


def test_without_weights_a_model_is_trained_on_each_start(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_squares(tmp_path / "squares", red=30, green=30, blue=6)
    quick = settings.model_copy(
        update={"backbone": "cnn4", "bootstrap_steps": 3, "bootstrap_min_labels": 24}
    )
    plan = QUICK.model_copy(update={"rounds": 1})
    report = _replay(quick, folder, plan)
    assert report.frozen_model == "cnn4, trained on the labels that each repeat starts from"
    trained = sorted((quick.data_dir / "simulate" / "models").iterdir())
    assert len(trained) == 2
    before = [(path / "metrics.jsonl").stat().st_mtime_ns for path in trained]
    (quick.data_dir / "simulate" / "results" / "squares" / "games" / "entropy-1.json").unlink()
    again = _replay(quick, folder, plan)
    assert [order.found for order in again.orders] == [order.found for order in report.orders]
    assert [(path / "metrics.jsonl").stat().st_mtime_ns for path in trained] == before
    with pytest.raises(BackendError, match=r"trained on 23 labels, at least 24.*--start"):
        _replay(quick, folder, plan, start=23)


def test_the_start_goes_by_the_classes(tmp_path: Path, tiny: Settings) -> None:
    folder = write_squares(tmp_path / "squares", red=90, green=90, blue=10)
    report = _replay(tiny, folder, start=None, rounds=1, batch=None, scorers=())
    assert sum(report.start.values()) == tiny.bootstrap_min_labels
    assert report.batch == 30  # a fifth of the pool in one round
    often = _replay(tiny, folder, start=None, rounds=9, batch=None, scorers=())
    assert often.batch == tiny.fit_every_labels
    small = _replay(tiny, folder, start=0, rounds=1, scorers=("tail_mass",))
    assert sum(small.start.values()) == 0
    assert "too few to mine" in small.orders[0].notes[0]
    assert small.pool == 190
