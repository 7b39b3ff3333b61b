"""Fine-tunes on the project of coloured squares: a service that is due one, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from backend.finetunes import Finetune, Finetunes
from backend.projects import ProjectStore
from backend.reconcile import finetune_children as children
from models.backbones import Backbone
from tests.unit.backend.reconcile import tiny_network
from tests.unit.backend.reconcile.rounds import settings_of, squares
from tests.unit.backend.reconcile.squares import Service

#: Held out, by the ids that these squares get: enough for a judgement without cross-validation.
_AWAY = (7, 13, 31, 33, 38)
BLUE = (*_AWAY, *range(0, 36, 4), 63, 65, 70, 75)
LABELED = 60


def due_squares(data_dir: Path, **changes: object) -> Service:
    """80 squares, 60 labeled, 14 of these blue; a fine-tune is due with the first round."""
    usual = {
        "data_dir": data_dir,
        "label_studio_api_key": "not-a-token",
        "top_k": 20,
        "tail_classes": ("blue",),
        "backbone": tiny_network.ADDRESS,
        "finetune": "on",
        "finetune_device": "cpu",
        "finetune_layers": "all",
        "finetune_epochs": 5,
        "finetune_min_steps": 40,
        "finetune_learning_rate": 0.02,
        "finetune_every_labels": 40,
        "finetune_min_tail_labels": 5,
    }
    return Service(squares(80, blue=BLUE, labeled=LABELED), settings_of(**{**usual, **changes}))


def current(store: ProjectStore) -> Finetune:
    """The run that is not over; there must be one."""
    found = Finetunes(store).current()
    assert found is not None
    return found


def last(store: ProjectStore) -> Finetune:
    """The newest run."""
    return Finetunes(store).all()[-1]


def end(store: ProjectStore, *, promoted: bool) -> str:
    """What a child process leaves behind that came to its end; the candidate's fingerprint."""
    run = current(store)
    about = run.run
    assert about is not None
    folder = run.path / "candidate"
    if not folder.exists():
        tuned = Backbone.load(store.path("backbones", about.incumbent[:16]))
        network = tuned.network
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.01 * run.number)
        Backbone(network, spec=tuned.spec, recipe=tuned.recipe, class_names=about.classes).save(
            folder
        )
    fingerprint = Backbone.load(folder).fingerprint
    figures = {"balanced_accuracy": 0.5}
    verdict = {
        "promoted": promoted,
        "reasons": ["promoted: it is better" if promoted else "rejected: it is worse"],
        "compared": "held-out",
        "before": figures,
        "after": figures,
    }
    outcome = {"verdict": verdict, "candidate": fingerprint}
    (run.path / "outcome.json").write_text(json.dumps(outcome))
    (run.path / "verdict.json").write_text(json.dumps(verdict))
    child = children._children.get(run.path)
    if child is not None:
        child.kill()
        child.wait()
    return fingerprint
