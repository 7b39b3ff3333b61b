"""`rarefirst versions` and `rarefirst queue`, as they are typed, on three versions of a project."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from backend import pinning
from backend.compare_versions import compare_versions, spearman
from backend.projects import ProjectStores
from backend.reconcile.state import LabelSnapshot
from backend.version_differences import label_difference
from tests.unit.backend.reconcile.rounds import Say
from tests.unit.backend.reconcile.squares import Service, begin_squares


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """Three versions: v0003 is active and published, v0002 was before it."""
    service = begin_squares(tmp_path_factory.mktemp("three"))
    service.next_version()
    service.next_version()
    return service


@pytest.fixture
def squares(three: Service, tmp_path: Path, clean_environment: None) -> Service:
    """A copy of them for this test alone."""
    shutil.copytree(three.settings.data_dir, tmp_path / "data")
    settings = three.settings.model_copy(update={"data_dir": tmp_path / "data"})
    return Service(copy.deepcopy(three.label_studio), settings)


def test_list(squares: Service, say: Say) -> None:
    found = json.loads(say("versions", "list", "--json").stdout)
    assert (found["project"], found["pinned"], found["released"]) == (1, None, "")
    assert [row["name"] for row in found["versions"]] == ["v0001", "v0002", "v0003"]
    assert [row["labels"] for row in found["versions"]] == [24, 27, 30]
    assert [row["marks"] for row in found["versions"]] == [
        [],
        ["previous"],
        ["active", "published"],
    ]
    assert all(row["frozen_model_stored"] for row in found["versions"])
    assert all(row["tail"] == ["blue"] for row in found["versions"])
    text = say("versions", "list").stdout
    for words in ("v0001", "active, published", "rarefirst", "autoencoder weight"):
        assert words in text


def test_list_tells_what_is_damaged_and_what_is_pinned(squares: Service, say: Say) -> None:
    store = squares.store
    store.path("versions", "v0001", "miner.json").write_text("{}")
    say("versions", "activate", "v0002")
    found = json.loads(say("versions", "list", "--json").stdout)
    damaged, second, third = found["versions"]
    assert "delete the folder" in damaged["damaged"]
    assert (second["marks"], third["marks"]) == (["active", "pinned", "previous"], ["published"])
    assert found["pinned"]["version"] == "v0002"
    text = say("versions", "list").stdout
    assert "v0001: version v0001 is damaged" in text
    assert "v0002 was activated by hand" in text
    assert json.loads(say("status", "--json").stdout)["projects"][0]["pinned"] == "v0002"
    assert "rarefirst versions follow" in say("status").stdout


def test_show(squares: Service, say: Say) -> None:
    found = json.loads(say("versions", "show", "v0002", "--json").stdout)
    assert found["card"]["parent"] == "v0001"
    assert found["card"]["classes"] == ["red", "green", "blue"]
    assert sum(found["labels_by_class"].values()) == 27
    (publication,) = found["publications"]
    previous = squares.store.publications().previous
    assert previous is not None
    assert (publication["name"], publication["state"]) == (previous.name, "previous")
    assert (publication["tasks"], publication["control"]) == (20, 0)
    (over,) = json.loads(say("versions", "show", "v0001", "--json").stdout)["publications"]
    assert over["state"] == "over"
    assert over["published_at"] is not None, "known from the history of rounds"
    text = say("versions", "show", "v0002").stdout
    for words in ("tail labels", "frozen model", "27: ", previous.name):
        assert words in text


def test_show_of_a_damaged_one_and_of_none(squares: Service, say: Say) -> None:
    squares.store.path("versions", "v0001", "version.json").write_text("{")
    found = json.loads(say("versions", "show", "v0001", "--json").stdout)
    assert found["card"] is None
    assert "cannot be read" in found["version"]["damaged"]
    assert len(found["publications"]) == 1
    assert "damaged" in say("versions", "show", "v0001").stdout
    refused = say("versions", "show", "v0009", fails=True)
    assert "found no version 'v0009'; expected one of v0001, v0002, v0003" in refused.stderr
    assert "Traceback" not in refused.output


def test_compare(squares: Service, say: Say) -> None:
    squares.label_studio.calls.clear()
    found = json.loads(say("versions", "compare", "v0001", "v0003", "--json").stdout)
    assert (found["a"]["name"], found["b"]["name"]) == ("v0001", "v0003")
    assert found["metrics"]["labels"] == {"a": 24.0, "b": 30.0}
    assert found["tail"] == {"a": ["blue"], "b": ["blue"]}
    assert sum(found["labels"]["added"].values()) == 6
    assert (found["labels"]["removed"], found["labels"]["changed"]) == ({}, {})
    order = found["order"]
    assert (order["tasks"], order["why_not"]) == (30, "")
    assert [(it["first"], it["common"] <= it["first"]) for it in order["overlap"]] == [
        (10, True),
        (20, True),
        (50, True),
    ]
    assert order["overlap"][2]["common"] == 30
    assert -1 <= order["spearman"] <= 1
    assert not squares.label_studio.calls, "Label Studio is not asked"
    text = say("versions", "compare", "v0001", "v0003").stdout
    assert "first 10: " in text
    assert "Spearman" in text


def test_a_version_is_like_itself(squares: Service, say: Say) -> None:
    found = compare_versions(squares.settings, 1, "v0002", "v0002")
    assert found.order.spearman == pytest.approx(1.0)
    assert [it.common for it in found.order.overlap] == [10, 20, 30]
    assert found.labels.same == 27
    assert all(pair.same for pair in found.metrics.values())


def test_compare_across_frozen_models(squares: Service, say: Say) -> None:
    settings = squares.settings.model_copy(update={"backbone": "resnet32"})
    service = Service(squares.label_studio, settings)
    service.next_version()
    found = json.loads(say("versions", "compare", "v0003", "v0004", "--json").stdout)
    assert found["frozen_model"]["architecture"] == {"a": "cnn4", "b": "resnet32"}
    assert found["frozen_model"]["active"] == {"a": False, "b": True}
    assert found["order"]["tasks"] == 27
    assert found["order"]["spearman"] is not None
    store = service.store
    (active,) = [
        path
        for path in store.path("mirror").glob("features_*")
        if found["b"]["frozen_model"] in path.name
    ]
    for path in active.rglob("*.lance"):
        path.write_bytes(b"torn")
    assert "cannot be read" in say("versions", "compare", "v0003", "v0004", fails=True).stderr


def test_activate_follow_and_delete_as_they_are_typed(squares: Service, say: Say) -> None:
    text = say("versions", "activate", "v0001").stdout.replace("\n", " ")
    assert "v0001 is the active version of project 1" in text
    assert "once the worker runs" in text
    pin = pinning.pinned(squares.store)
    assert pin is not None
    assert pin.version == "v0001"
    squares.round()
    done = json.loads(say("versions", "activate", "v0001", "--json").stdout)
    assert (done["in_place"], done["served"], done["worker_alive"]) == (True, True, False)
    assert "serves its order already" in say("versions", "activate", "v0001").stdout
    say("pause")
    squares.store.path("publication.json").unlink()
    assert "The project is paused" in say("versions", "activate", "v0001").stdout
    say("resume")
    assert json.loads(say("versions", "follow", "--json").stdout)["version"] == "v0001"
    assert "follows its labels already" in say("versions", "follow").stdout
    assert "is active" in say("versions", "delete", "v0001", fails=True).stderr
    assert "is deleted" in say("versions", "delete", "v0002").stdout
    names = [
        row["name"] for row in json.loads(say("versions", "list", "--json").stdout)["versions"]
    ]
    assert names == ["v0001", "v0003"]


def test_queue_tells_what_label_studio_serves(squares: Service, say: Say) -> None:
    squares.label(2)
    squares.round()
    served = squares.served
    found = json.loads(say("queue", "--json", "--limit", "0").stdout)
    assert (found["publication"], found["version"]) == (served.name, "v0003")
    assert (found["size"], found["left"]) == (20, 18)
    stored = {
        task: score
        for task, name, score in squares.label_studio.predictions.values()
        if name == served.name
    }
    assert [entry["task"] for entry in found["tasks"]] == squares.label_studio.stream()
    assert [entry["score"] for entry in found["tasks"]] == [
        stored[entry["task"]] for entry in found["tasks"]
    ]
    assert [entry["position"] for entry in found["tasks"]] == list(range(1, 19))
    assert {entry["reason"] for entry in found["tasks"]} == {"tail blue"}
    assert all(0 <= entry["rarity"] <= 1 for entry in found["tasks"])
    assert all(entry["predicted"] in ("red", "green", "blue") for entry in found["tasks"])
    text = say("queue", "--limit", "3").stdout
    assert "18 of 20 tasks left" in text
    assert text.count("tail blue") == 3


def test_queue_without_stored_scores_still_tells_the_order(squares: Service, say: Say) -> None:
    squares.store.path("publications", squares.served.name, "scores.npz").write_bytes(b"")
    found = json.loads(say("queue", "--json").stdout)
    assert [entry["task"] for entry in found["tasks"]] == squares.label_studio.stream()
    assert {entry["score"] for entry in found["tasks"]} == {None}
    assert say("queue").exit_code == 0


def test_queue_before_anything_is_published(tmp_path: Path, say: Say) -> None:
    assert "project 1 is not connected" in say("queue", fails=True).stderr
    store = ProjectStores(tmp_path / "data", "http://label-studio.test").create(1, 7, "squares")
    text = say("queue").stdout.replace("\n", " ")
    assert "nothing is published" in text
    assert "rarefirst status" in text
    found = json.loads(say("queue", "--json").stdout)
    assert (found["publication"], found["tasks"]) == ("", [])
    assert "the loop did not look" in found["next"]
    store.path("paused").touch()
    assert "paused" in say("queue").stdout
    assert "no version yet" in say("versions", "list").stdout


def test_label_difference() -> None:
    before = LabelSnapshot(ids=(1, 2, 3), labels=("a", "b", "a"), classes=("a", "b", "c"))
    after = LabelSnapshot(ids=(2, 3, 4, 5), labels=("a", "a", "c", "c"), classes=("a", "b", "c"))
    found = label_difference(before, after)
    assert (found.added, found.removed) == ({"c": 2}, {"a": 1})
    assert (found.changed, found.same) == ({"b -> a": 1}, 1)


def test_rank_correlation() -> None:
    rising = np.asarray([0.1, 0.2, 0.3, 0.9])
    assert spearman(rising, rising**3) == pytest.approx(1.0)
    assert spearman(rising, -rising) == pytest.approx(-1.0)
    # Ties at their mean rank: ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4.
    assert spearman(np.asarray([0.0, 0.0, 0.5, 0.6]), rising) == pytest.approx(0.9486833)
    assert spearman(np.zeros(4), rising) is None
    assert spearman(rising[:1], rising[:1]) is None
