from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from benchmarks.sifar import cells, work
from benchmarks.sifar.cells import Cell, CellStore, Result
from benchmarks.sifar.cnn import CnnKey
from benchmarks.sifar.draws import Draw, cnn_key, draw_of
from benchmarks.sifar.entries import ENTRIES, Entry
from benchmarks.sifar.pictures import CLASSES
from benchmarks.sifar.plan import DEVELOP, FEW, FEWER, PLAYED, REPORTED, SINGLE, Plan, costs
from benchmarks.sifar.split import LABELS, NATURAL, tail_of
from benchmarks.sifar.watched import Watched
from benchmarks.sifar.work import CellsFailed, compute
from models.config import MinerConfig
from models.scorers import SCORERS
from models.types import Examples

from .sifar_cells import TAIL, cell, write_features, write_network


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sifar")
    write_features(folder)
    return folder


def test_a_key_holds_all_that_a_cell_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    one = cell("rarefirst")
    others = [
        replace(one, task="rounds"),
        replace(one, frozen="cnn"),
        replace(one, tail="truck,cat"),
        replace(one, draw=11),
        replace(one, labels=4),
        replace(one, entry="random"),
        replace(one, ranker=1),
    ]
    digests = {one.digest, *(other.digest for other in others)}
    assert one.digest == cell("rarefirst").digest
    for change in (
        Entry(MinerConfig(scorer="rarefirst", members=6)),
        Entry(MinerConfig(scorer="rarefirst"), version=ENTRIES["rarefirst"].version + 1),
        Entry(MinerConfig(scorer="rarefirst"), head=50),
    ):
        changed = {**ENTRIES, "rarefirst": change}
        monkeypatch.setattr(cells, "ENTRIES", MappingProxyType(changed))
        digests.add(one.digest)
    monkeypatch.setattr(cells, "ENTRIES", ENTRIES)
    monkeypatch.setattr(cells, "VERSION", 99)
    digests.add(one.digest)
    assert len(digests) == 1 + len(others) + 4


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    store, one = CellStore(tmp_path / "cells"), cell()
    assert store.get(one) is None
    result = Result({"uniform.ap": 0.25}, {"uniform.found": [1.0, 2.0]}, cpu_s=3.5, commit="abc")
    store.put(one, result)
    assert store.get(one) == result
    assert store.get(cell(draw=11)) is None
    store.forget(one)
    assert store.get(one) is None


def test_a_setting_that_changed_makes_a_result_worthless_and_a_new_one_does_not(
    tmp_path: Path,
) -> None:
    store, one = CellStore(tmp_path), cell("rarefirst")
    store.put(one, Result({"uniform.ap": 0.5}))
    told = json.loads(store.path(one).read_text())
    assert told["config"].pop("members") == MinerConfig().members
    store.path(one).write_text(json.dumps(told))
    assert store.get(one) is not None
    told["config"]["give_up_share"] = 0.99
    store.path(one).write_text(json.dumps(told))
    assert store.get(one) is None


def test_the_plan_has_every_scorer_and_no_cell_twice() -> None:
    planned = Plan(*REPORTED).cells()
    assert len(set(planned)) == len(planned)
    ranked = {c.entry for c in planned if c.task == "rank" and c.labels is None}
    assert ranked == {*SCORERS, *SINGLE}
    assert {*FEW, *PLAYED} <= set(ENTRIES)
    assert set(FEWER) <= set(FEW)
    # The published method with five seeds of the ranker on the same labels.
    single = [c for c in planned if c.entry == SINGLE[0] and c.frozen == "eff"]
    assert {(c.draw, c.ranker) for c in single} == {(0, seed) for seed in range(5)}
    assert {c.labels for c in planned if c.entry == "rarefirst"} == {None, 0, 1, 4, 20, 58}


def test_what_is_reported_is_not_developed_on() -> None:
    assert not set(REPORTED[0]) & set(DEVELOP[0])
    assert not set(REPORTED[1]) & set(DEVELOP[1])
    assert not {tail_of(names) for names in REPORTED[0]} & {tail_of(n) for n in DEVELOP[0]}


def test_cells_of_a_draw_share_its_network() -> None:
    seen = Cell("rank", "cnn", TAIL, 13, None, "random", 13)
    assert cnn_key(seen) == CnnKey(tail_of(TAIL), 1)
    assert cnn_key(replace(seen, labels=0)) == CnnKey(tail_of(TAIL), 0, blind=True)


def test_a_draw_tells_the_scorer_nothing_of_the_truth(cache: Path) -> None:
    draw = draw_of(cell(), cache)
    assert [len(draw.labeled), *(len(pool) for pool in draw.pools.values())] == [
        sum(LABELS),
        24_000,
        sum(NATURAL),
    ]
    assert (draw.targets[draw.labeled.examples.ids] == draw.labeled.targets).all()
    assert draw.tail == tail_of(TAIL)
    for pool in draw.pools.values():
        rare = np.isin(draw.targets[pool.ids], draw.tail)
        # Neither the order of rows nor that of ids puts the rare ones anywhere.
        places, by_id = np.flatnonzero(rare), np.flatnonzero(rare[np.argsort(pool.ids)])
        for where in (places, by_id):
            assert abs(where.mean() / len(pool) - 0.5) < 4 / np.sqrt(12 * len(where))
    # The priors are those of the labels, which the scorer has anyway.
    priors = draw.classes.class_priors
    assert priors is not None
    assert priors[draw.tail[0]] == pytest.approx(5 / (sum(LABELS) + len(CLASSES)))


def test_knows_which_labels_the_network_was_trained_on(cache: Path) -> None:
    write_network(cache, CnnKey(tail_of(TAIL), 0))
    same, other = (draw_of(replace(cell(draw=draw), frozen="cnn"), cache) for draw in (0, 2))
    assert same.trained_on == len(same.labeled)
    # Of the largest classes all pictures that can be labeled were drawn both times.
    assert len(other.labeled) * 0.75 < other.trained_on < len(other.labeled)
    assert same.labeled.examples.logits is not None
    assert draw_of(cell(), cache).trained_on == 0
    mined = other.provenance(mined=3).unbiased
    assert mined is not None
    assert len(mined) == len(other.labeled) + 3
    assert mined.sum() == len(other.labeled)


def test_a_blind_network_has_a_head_over_the_others(cache: Path) -> None:
    key = CnnKey(tail_of(TAIL), 0, blind=True)
    write_network(cache, key)
    one = Cell("rank", "cnn", TAIL, 11, 0, "entropy", 11)
    labeled = draw_of(one, cache).labeled
    assert labeled.examples.logits is None
    assert labeled.head is not None
    assert labeled.head.label.tolist() == key.outputs
    # Features and head are random here: so is the order.
    figures = work.compute_cell(one, cache, "").figures
    assert figures["uniform.ap"] == pytest.approx(0.2, abs=0.02)
    assert "tail" in work.compute_cell(replace(one, entry="tail_mass"), cache, "").refused


def test_no_tail_label_leaves_the_rest_alone(cache: Path) -> None:
    none = draw_of(replace(cell(), labels=0), cache)
    assert not np.isin(none.labeled.targets, none.tail).any()
    assert len(none.labeled) == sum(LABELS[2:])


def test_ranks_both_pools(cache: Path) -> None:
    result = work.compute_cell(cell("tail_mass"), cache, "abc")
    assert result.figures["uniform.ap"] > result.figures["natural.ap"] > 0.1
    assert result.figures["uniform.p@50"] > 0.5
    assert 0 <= result.figures["natural.recall@2000.rarer"] <= 1
    assert result.curves["uniform.found"][-1] == 4800
    assert result.curves["natural.found"][-1] <= sum(NATURAL[:2])
    assert result.commit == "abc"


def test_a_head_has_no_figures_of_the_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = work.compute_cell(cell(), cache, "").figures
    for head in (2000, 9000):
        entry = Entry(MinerConfig(scorer="random"), head=head)
        monkeypatch.setattr("benchmarks.sifar.ranking.ENTRIES", {"random": entry})
        figures = work.compute_cell(cell(), cache, "").figures
        assert "uniform.ap" not in figures
        assert figures["uniform.p@2000"] == whole["uniform.p@2000"]
        # AUC and F end at a budget of 9,000 and its fraction of the natural pool.
        assert figures.get("uniform.auc") == (whole["uniform.auc"] if head == 9000 else None)
        assert figures.get("natural.average_f") == (
            whole["natural.average_f"] if head == 9000 else None
        )


def test_a_refusal_is_a_result(cache: Path) -> None:
    result = work.compute_cell(replace(cell("tail_mass_rc"), labels=0), cache, "")
    assert "label" in result.refused
    assert not result.figures


def test_plays_five_rounds(cache: Path) -> None:
    figures = work.compute_cell(cell("tail_mass", task="rounds"), cache, "").figures
    found = [figures[f"found.round{turn}"] for turn in range(1, 6)]
    assert found == sorted(found)
    assert figures["found.share"] == pytest.approx(found[-1] / 74)
    together = figures["recall.rarer"] * NATURAL[0] + figures["recall.rare"] * NATURAL[1]
    assert together == pytest.approx(found[-1])


def test_knows_whether_the_pool_was_looked_at() -> None:
    pool = Examples(np.arange(3), np.zeros((3, 2), dtype=np.float16))
    watched = Watched(pool)
    assert not watched.looked
    assert watched.slice(1, 3).ids.tolist() == [1, 2]
    assert watched.looked
    again = Watched(pool)
    assert len(again) == 3
    assert again.looked


def test_a_killed_run_goes_on_where_it_stopped(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = [cell("random", draw=draw) for draw in (20, 21, 22)]
    store, computed, killed = CellStore(cache / "cells"), list[int](), list[int]()

    def task(one: Cell, draw: Draw) -> Result:
        if one.draw == 21 and not killed:
            killed.append(one.draw)
            raise KeyboardInterrupt
        computed.append(one.draw)
        return Result({"uniform.ap": 0.2})

    monkeypatch.setattr(work, "TASKS", {"rank": task})
    with pytest.raises(KeyboardInterrupt):
        compute(planned, dict.fromkeys(planned, 1.0), cache, workers=0)
    missing = [one for one in planned if store.get(one) is None]
    assert [one.draw for one in missing] == [21, 22]
    compute(missing, dict.fromkeys(missing, 1.0), cache, workers=0)
    assert computed == [20, 21, 22]


def test_a_cell_that_fails_does_not_end_the_run(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = [cell("random", draw=draw) for draw in (30, 31)]
    store = CellStore(cache / "cells")

    def task(one: Cell, draw: Draw) -> Result:
        if one.draw == 30:
            raise ZeroDivisionError("by nothing")
        return Result({"uniform.ap": 0.2})

    monkeypatch.setattr(work, "TASKS", {"rank": task})
    with pytest.raises(
        CellsFailed, match="draw-30/random/ranker-30: ZeroDivisionError: by nothing"
    ):
        compute(planned, dict.fromkeys(planned, 1.0), cache, workers=0)
    assert [store.get(one) is None for one in planned] == [True, False]


def test_costs_are_those_of_cells_alike(tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    for draw, seconds in ((10, 2.0), (11, 4.0)):
        store.put(cell("random", draw=draw), Result(cpu_s=seconds))
    planned = [cell("random", draw=draw) for draw in (10, 11, 12)]
    known = [*planned, replace(planned[2], labels=4), cell("rarefirst", task="rounds")]
    expected = costs(known, store)
    assert expected[planned[2]] == 3
    assert expected[known[3]] == 3
    assert expected[known[4]] == 30


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_nothing_running_and_is_finished_by_the_next(
    tmp_path: Path,
) -> None:
    write_features(tmp_path)
    command = [sys.executable, "-m", "benchmarks.sifar10", "--develop", "--cache", str(tmp_path)]
    command += ["--cells", "rank/eff/cat-truck/labels-default/*", "--only", "tail_mass,random"]
    command += ["--draws", "10", "11", "12"]
    store = tmp_path / "cells"
    run = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 300
        while not list(store.glob("*.json")) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        run.kill()
        run.communicate()
    first = {path: path.stat().st_mtime_ns for path in store.glob("*.json")}
    assert 0 < len(first) < 6
    time.sleep(5)
    assert len(list(store.glob("*.json"))) <= len(first) + 2
    subprocess.run(command, check=True, capture_output=True)
    after = {path: path.stat().st_mtime_ns for path in store.glob("*.json")}
    assert len(after) == 6
    assert all(after[path] == at for path, at in first.items())
    assert json.loads((tmp_path / "develop.json").read_text())["cells_missing"] == 0
