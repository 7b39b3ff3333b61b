from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import sifar10
from benchmarks.sifar.aggregate import ALL, Case, Spread, gather
from benchmarks.sifar.cells import Cell, CellStore, Result
from benchmarks.sifar.goals import RIVALS, Goal, goals, short
from benchmarks.sifar.plan import DEVELOP
from benchmarks.sifar.ranking import CURVE_AT

from .sifar_cells import cell, ranked, write_features

TAILS = ("cat,truck", "deer,horse")


def stored(tmp_path: Path, results: dict[Cell, Result]) -> CellStore:
    store = CellStore(tmp_path / "cells")
    for one, result in results.items():
        store.put(one, result)
    return store


def test_means_and_spreads(tmp_path: Path) -> None:
    values = {TAILS[0]: (0.5, 0.6, 0.7), TAILS[1]: (0.1, 0.2, 0.3)}
    results = {
        cell("rarefirst", tail=tail, draw=draw): ranked(ap)
        for tail, some in values.items()
        for draw, ap in enumerate(some, start=10)
    }
    lines = gather([*results, cell("random")], stored(tmp_path, results))
    one = lines[Case("rank", "eff", None, "rarefirst", TAILS[0])].figures["uniform.ap"]
    assert (one.mean, one.sd, one.least, one.most) == pytest.approx((0.6, 0.1, 0.5, 0.7))
    over_all = lines[Case("rank", "eff", None, "rarefirst")].figures["uniform.ap"]
    # The choices differ by .4; the spread is that of the draws.
    assert (over_all.mean, over_all.sd, over_all.n) == pytest.approx((0.4, 0.1, 6))
    assert Case("rank", "eff", None, "random") not in lines


def test_one_draw_has_no_spread() -> None:
    one = Spread.of([[0.5], [0.7]])
    assert one.mean == pytest.approx(0.6)
    assert math.isnan(one.sd)
    assert short(one, "uniform.ap") == ".600"
    assert short(Spread(45.25, 2.04, 43, 47, 5), "natural.found@500") == "45.2 +- 2.0"
    assert short(Spread(1.0, 0.0, 1, 1, 5), "uniform.p@50") == "1.000 +- .000"


def test_a_refusal_leaves_no_figures(tmp_path: Path) -> None:
    results = {cell("direct"): Result(refused="no tail label")}
    line = gather(list(results), stored(tmp_path, results))[Case("rank", "eff", None, "direct")]
    assert line.refused == "no tail label"
    assert not line.figures


def find(some: list[Goal], words: str) -> Goal:
    return next(goal for goal in some if words in goal.case)


@pytest.mark.parametrize(("recall", "ap", "met"), [(0.31, 0.73, True), (0.31, 0.71, False)])
def test_a_goal_needs_all_its_figures(
    tmp_path: Path, recall: float, ap: float, *, met: bool
) -> None:
    figures = {"uniform.recall@2000.rarer": recall}
    results = {cell("rarefirst", draw=draw): ranked(ap, **figures) for draw in (10, 11)}
    found = goals(gather(list(results), stored(tmp_path, results)), TAILS, tmp_path / "none")
    goal = find(found, "recall of the rarer")
    assert goal.reached[ALL].met is met
    assert goal.reached[ALL].words == f".310 +- .000 / .{round(ap * 1000)} +- .000"
    assert goal.reached[TAILS[1]].met is None
    assert find(found, "no tail label").reached[ALL].met is None


@pytest.mark.parametrize(("rival", "met"), [(40.0, True), (54.0, False), (70.0, False)])
def test_ahead_means_beyond_both_spreads(tmp_path: Path, rival: float, *, met: bool) -> None:
    results = {}
    for entry in ("rarefirst", *RIVALS):
        for draw, off in ((10, -2.0), (11, 2.0)):
            found = (rival if entry == "direct_on_tail" else 20.0) + off
            found = 58.0 + off if entry == "rarefirst" else found
            figures = {"found.mean": found, "found.round5": found}
            for one in (cell(entry, task="rounds", draw=draw),):
                results[one] = results[replace(one, frozen="cnn")] = Result(figures)
    found = goals(gather(list(results), stored(tmp_path, results)), TAILS, tmp_path / "none")
    reached = find(found, "against GALAXY").reached
    assert reached[TAILS[0]].met is met
    assert f"58.0 +- 2.8 to {max(rival, 20):.1f} +- 2.8 (direct_on_tail)" in reached[ALL].words
    one_draw = [one for one in results if one.draw == 10]
    found = goals(gather(one_draw, stored(tmp_path, {})), TAILS, tmp_path / "none")
    assert find(found, "against GALAXY").reached[ALL].met is None
    assert reached[TAILS[1]].met is None


def test_speed_is_read_from_its_own_benchmark(tmp_path: Path) -> None:
    told = {
        "fit_and_rescore": {"seconds": {"median": 0.9}},
        "rescore": {"ratio": {"weight_0": 1.2, "weight_0.5": 2.1}},
        "memory": {"weight_0": {"ratio": 1.1}, "limit": 1.3},
    }
    path = tmp_path / "rescore.json"
    path.write_text(json.dumps(told))
    found = goals({}, TAILS, path)
    assert find(found, "fit + rescore").reached[ALL].met is True
    assert find(found, "rescore 1,000,000").reached[ALL].met is False
    assert find(goals({}, TAILS, tmp_path / "none"), "fit + rescore").reached[ALL].met is None


def full(ap: float, places: int) -> Result:
    figures = {"uniform.ap": ap, "natural.ap": ap, "seconds.fit": 1.0}
    figures |= {"uniform.recall@2000.rarer": 0.3, "natural.recall@500.rarer": 0.4}
    figures |= {"uniform.seconds.rank": 0.1, "natural.seconds.rank": 0.1}
    return Result(figures, {"uniform.found": [float(min(n, 4800)) for n in CURVE_AT[:places]]})


def test_writes_json_page_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = {
        replace(cell(entry, tail=tail, draw=draw), frozen=frozen): full(ap, len(CURVE_AT))
        for entry, ap in (("rarefirst", 0.75), ("random", 0.2))
        for tail in TAILS
        for draw in DEVELOP[1]
        for frozen in ("cnn", "eff")
    }
    store = stored(tmp_path, results)
    monkeypatch.setattr("sys.argv", ["sifar10", "--develop", "--table"])
    given = sifar10.parse(["--develop", "--cache", str(tmp_path)])
    out = tmp_path / "sifar10.json"
    sifar10.write_results(given, sifar10.chosen(given), store, out)
    told = json.loads(out.read_text())
    assert told["cells"] == len(results)
    assert told["command"].endswith("benchmarks.sifar10 --develop --table")
    uniform = told["goals"][0]["reached"]
    assert uniform["all"] == {"words": ".750 +- .000", "met": True}
    rank = told["tasks"]["rank"]
    case = next(c for c in rank["cases"] if c["entry"] == "random" and c["tail"] == "all")
    assert case["cells"] == len(TAILS) * len(DEVELOP[1])
    assert dict(zip(rank["figures"], case["mean"], strict=True))["uniform.ap"] == 0.2
    assert dict(zip(rank["figures"], case["sd"], strict=True))["uniform.ap"] < 1e-9
    page = out.with_suffix(".md").read_text()
    assert "| uniform pool, EFF, AP | .698 (regularised tail mass) | .74 |" in page
    assert page.index("| rarefirst |") < page.index("| random |")
    assert "![sifar10-precision-recall.png]" in page
    assert "| CNN, deer (rarer), rarefirst | .300 +- .000 | .400 +- .000 |  |" in page
    assert (tmp_path / "sifar10-precision-recall.png").read_bytes().startswith(b"\x89PNG")


def test_options_choose_cells() -> None:
    given = sifar10.parse(["--develop", "--cells", "rank/eff/*/draw-10/*", "--only", "random"])
    some = sifar10.chosen(given)
    assert {c.tail for c in some} == set(DEVELOP[0])
    assert {(c.task, c.frozen, c.draw, c.entry) for c in some} == {("rank", "eff", 10, "random")}
    assert sifar10.chosen(sifar10.parse(["--cells", "nothing"])) == []


def test_estimate_computes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_features(tmp_path)
    arguments = ["sifar10", "--develop", "--estimate", "--cache", str(tmp_path), "--only", "random"]
    monkeypatch.setattr("sys.argv", arguments)
    sifar10.main()
    assert "minutes with 2 processes" in capsys.readouterr().err
    assert not (tmp_path / "cells").exists()


def test_a_missing_archive_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["sifar10", "--develop", "--cache", str(tmp_path), "--archive", "none.zip"]
    monkeypatch.setattr("sys.argv", [*arguments, "--only", "random"])
    with pytest.raises(SystemExit, match=r"none.zip is not there; give .* with --archive"):
        sifar10.main()
