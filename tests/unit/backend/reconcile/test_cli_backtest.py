"""`rarefirst backtest` as it is typed, on a stored project; and what `scorer: auto` leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import backend.backtest
from backend.backtest import backtest_project
from backend.projects import ProjectStores
from backend.reconcile.actions import fit
from backend.reconcile.context import Tail
from backend.reconcile.ledger import Ledger
from backend.reconcile.made_with import miner_config
from backend.reconcile.state import SyncState
from backend.settings import Settings
from backend.stored_labels import stored_labels
from models.config import MinerConfig
from models.registry import VersionRegistry
from models.scorers import SCORERS
from tests.unit.backend.reconcile.rounds import Say, settings_of, squares
from tests.unit.backend.reconcile.squares import Service

BLUE = tuple(range(0, 120, 8))


def small(settings: Settings) -> MinerConfig:
    """A miner whose autoencoders are trained for a moment."""
    return miner_config(settings).model_copy(update={"autoencoder_steps": 100, "members": 2})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """120 squares, 90 of them labeled; 12 of those are blue. `auto` chose the scorer."""
    settings = settings_of(
        data_dir=tmp_path_factory.mktemp("labeled"),
        top_k=20,
        tail_min_labels=10,
        tail_threshold=0.5,
        scorer="auto",
    )
    service = Service(squares(120, blue=BLUE, labeled=90), settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "miner_config", small)
        service.round()
    return service


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend.backtest, "miner_config", small)
    monkeypatch.setattr(fit, "miner_config", small)


@pytest.fixture
def project(made: Service, tmp_path: Path, clean_environment: None) -> Service:
    """A copy of it for this test alone."""
    shutil.copytree(made.settings.data_dir, tmp_path / "data")
    return Service(
        made.label_studio, made.settings.model_copy(update={"data_dir": tmp_path / "data"})
    )


def test_backtest_for_people_and_for_machines(project: Service, say: Say) -> None:
    before = sorted(path.name for path in project.store.root.rglob("*"))
    project.label_studio.calls.clear()
    words = ("backtest", "--scorers", "random, tail_mass,rarefirst", "--repeats", "3")
    found = json.loads(say(*words, "--json").stdout)
    assert (found["project"], found["scorer"]) == (1, "rarefirst")
    assert found["tail"] == ["blue"]
    assert found["labels_by_class"]["blue"] == 12
    report = found["report"]
    assert (report["labels"], report["tail_labels"], report["repeats"]) == (90, 12, 3)
    assert (report["hidden_rare"], report["default"]) == (6, "rarefirst")
    assert report["mined_share"] == 0, "all labels came before our first queue"
    by_name = {result["scorer"]: result for result in report["results"]}
    assert set(by_name) == {"random", "tail_mass", "rarefirst"}
    assert by_name["rarefirst"]["recall_by_class"]["blue"]["mean"] > 0.9
    assert by_name["rarefirst"]["coverage"]["mean"] > by_name["random"]["coverage"]["mean"] + 0.3
    text = say(*words).stdout
    for part in (
        "Backtest of project 1",
        "90 labels, 12 of them rare (blue 12)",
        "against rarefirst",
        "random order",
        report["conclusion"],
    ):
        assert part in text
    assert not project.label_studio.calls, "Label Studio is not asked"
    assert sorted(path.name for path in project.store.root.rglob("*")) == before


def test_a_project_of_boxes_is_refused(project: Service, say: Say) -> None:
    sync = project.store.read("sync.json", SyncState)
    assert sync is not None
    project.store.write("sync.json", sync.model_copy(update={"task": "detection"}))
    said = say("backtest", fails=True)
    assert "draws boxes (RectangleLabels); backtest replays projects of Choices only" in said.output


def test_all_scorers_take_part_by_default(project: Service) -> None:
    told: list[str] = []
    found = backtest_project(
        project.settings,
        1,
        repeats=2,
        progress=lambda done, total, message="": told.append(f"{done}/{total} {message}"),
    )
    names = [result.scorer for result in found.report.results]
    assert sorted(names) == sorted(SCORERS)
    assert len(told) == 2 * len(names)
    assert found.scorer == "auto"


def test_what_is_stored_is_what_a_fit_learns_from(project: Service) -> None:
    stored = stored_labels(project.store, project.settings)
    truth = project.label_studio.truth
    names = stored.classes.names
    told = dict(zip(stored.labeled.examples.ids.tolist(), stored.labeled.targets, strict=True))
    assert told == {i: names.index(truth[i]) for i in list(truth)[:90]}
    assert stored.classes.tail == (names.index("blue"),)
    assert stored.classes.class_priors is not None
    assert stored.classes.class_priors[names.index("blue")] == pytest.approx(13 / 93)
    # Labels that our queue chose say nothing of how rare a class is.
    mined = list(truth)[:30]
    project.store.path("ledger.jsonl").unlink()
    Ledger(project.store.path("ledger.jsonl")).append(
        "q", kind="rarefirst", task_ids=mined, control_ids=()
    )
    again = stored_labels(project.store, project.settings)
    fair = again.provenance.unbiased
    assert fair is not None
    assert (~fair).sum() == 30
    assert np.isin(again.labeled.examples.ids[~fair], mined).all()
    found = backtest_project(project.settings, 1, scorers=["random"], repeats=2)
    assert found.report.mined_share == pytest.approx(4 / 12)


def test_errors_say_what_was_found_and_what_to_do(
    project: Service, say: Say, tmp_path: Path
) -> None:
    refused = say("backtest", "--scorers", "best", fails=True).stderr
    assert "found scorers 'best'; expected some of rarefirst" in refused
    assert "Traceback" not in refused
    project.store.write("tail.json", Tail(names=("red",)))
    one = say("backtest", "--scorers", "random", "--repeats", "2")
    assert "found" not in one.stderr
    # Nothing is advised against a scorer that was not looked at.
    assert "The project's scorer, rarefirst, was not among them." in one.stdout
    assert "RAREFIRST_SCORER" not in one.stdout
    project.store.write("tail.json", Tail())
    assert "no class is in the tail" in say("backtest", fails=True).stderr
    project.store.path("sync.json").unlink()
    assert "`rarefirst status`" in say("backtest", fails=True).stderr
    shutil.rmtree(tmp_path / "data")
    assert "project 1 is not connected" in say("backtest", fails=True).stderr
    ProjectStores(tmp_path / "data", "http://label-studio.test").create(1, 7, "squares")
    assert "no labels with features are stored yet" in say("backtest", fails=True).stderr


def test_too_few_labels(tmp_path: Path, say: Say) -> None:
    few = squares(60, blue=(3, 17, 30, 50), labeled=24)
    settings = settings_of(data_dir=tmp_path / "data", tail_min_labels=10, tail_threshold=0.5)
    Service(few, settings.model_copy(update={"scorer": "auto"})).round()
    refused = say("backtest", fails=True).stderr.replace("\n", " ")
    assert "found 2 labels of tail classes that have two at least (blue 2); expected 6" in refused
    assert "label 4 more" in refused
    shown = say("versions", "show", "v0001").stdout
    assert "auto: rarefirst, since scorers cannot be compared yet: found 2 labels" in shown


def test_versions_show_tells_how_auto_chose(project: Service, say: Say) -> None:
    card = json.loads(say("versions", "show", "v0001", "--json").stdout)["card"]
    assert card["config"]["scorer"] == "auto"
    assert card["kind"] in {"rarefirst", "tail_mass", "tail_mass_rc", "paper"}
    assert card["choice"].startswith(f"auto: {card['kind']}, ")
    assert "hold-outs of 90 labels, 12 of them rare" in card["choice"]
    assert 0.5 < card["metrics"]["backtest_rarefirst"] <= 1
    text = say("versions", "show", "v0001").stdout
    assert "chosen by" in text
    assert "backtest rarefirst" in text
    registry = VersionRegistry(project.store.path("versions"))
    assert registry.load("v0001").card.choice == card["choice"]
    # A choice is no problem to mend.
    assert "auto:" not in say("status").stdout
