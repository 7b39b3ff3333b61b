"""Real trainings on scikit-learn's digits: what is promoted, and what a kill leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from models.backbones import Backbone, BackboneSpec, load_backbone
from models.config import FinetuneConfig
from models.errors import ConfigError, NotEnoughLabels, ShapeError
from models.files import write_text
from models.held_out_split import validation
from models.networks.cosine_head import CosineLinear, last_linear
from models.recipes import finetune_backbone as recipe
from models.recipes import finetune_outcome
from models.recipes.evaluate import embed_pictures, evaluate, pictures_of
from models.recipes.finetune_backbone import finetune_backbone
from models.recipes.finetune_outcome import Outcome
from models.recipes.judge_finetune import Verdict
from models.recipes.new_head import with_new_head
from models.recipes.review_labels import Review
from models.types import Progress, no_progress

NAMES = ("one", "seven", "eight")
CONFIG = FinetuneConfig(
    epochs=4, min_steps=0, batch=32, learning_rate=2e-3, augmentation="none", checkpoint_every_s=0
)
SHORT = CONFIG.model_copy(update={"epochs": 2})
COSINE = SHORT.model_copy(update={"strategy": "ldam"})


class _KilledError(Exception):
    """Stands for kill -9 in the middle of the run."""


@dataclass(frozen=True)
class World:
    """Labeled digits."""

    images: list[Image.Image]
    targets: np.ndarray
    ids: np.ndarray
    held_out: np.ndarray
    seen: np.ndarray

    def run(
        self,
        backbone: Backbone,
        folder: Path,
        *,
        config: FinetuneConfig = CONFIG,
        progress: Progress = no_progress,
        **changes: Any,
    ) -> Outcome:
        """Fine-tune on them."""
        return finetune_backbone(
            backbone,
            self.images,
            changes.pop("targets", self.targets),
            ids=self.ids,
            class_names=NAMES,
            tail=changes.pop("tail", (2,)),
            held_out=self.held_out,
            seen=changes.pop("seen", self.seen),
            config=config,
            run_dir=folder,
            seed=changes.pop("seed", 0),
            progress=progress,
        )


def _world(held_out_eights: int = 8) -> World:
    digits = load_digits()
    rows = np.concatenate(
        [np.flatnonzero(digits.target == k)[:n] for k, n in ((1, 44), (7, 44), (8, 28))]
    )
    pixels = (digits.images[rows] * 15.9).astype(np.uint8)
    targets = np.searchsorted([1, 7, 8], digits.target[rows])
    held_out = np.zeros(len(rows), dtype=bool)
    for k, count in enumerate((10, 10, held_out_eights)):
        held_out[np.flatnonzero(targets == k)[:count]] = True
    return World(
        [Image.fromarray(p) for p in pixels],
        targets,
        rows.astype(np.int64) + 1000,
        held_out,
        np.zeros(len(rows), dtype=bool),
    )


@pytest.fixture(scope="module")
def world() -> World:
    return _world()


@pytest.fixture(scope="module")
def untrained() -> Backbone:
    """With a head over the classes that says nothing."""
    spec = BackboneSpec(architecture="cnn4", num_classes=3, class_names=NAMES, seed=1)
    return load_backbone(spec)


@pytest.fixture(scope="module")
def small() -> Iterator[Backbone]:
    """A network so small that many runs of it take no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        spec = BackboneSpec(
            architecture="own_networks:make_network", num_classes=3, class_names=NAMES, seed=1
        )
        yield load_backbone(spec)


@pytest.fixture(scope="module")
def good(
    world: World, untrained: Backbone, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """A run that came to its end undisturbed."""
    folder = tmp_path_factory.mktemp("good")
    return folder, world.run(untrained, folder)


def test_a_better_candidate_is_promoted(
    world: World, untrained: Backbone, good: tuple[Path, Outcome]
) -> None:
    folder, outcome = good
    verdict = outcome.verdict
    assert verdict.promoted, verdict.reasons
    assert verdict.compared == "held-out"
    assert verdict.reasons[0].startswith("promoted: balanced accuracy rose")
    assert (verdict.held_out, verdict.held_out_by_class) == (
        28,
        {"one": 10, "seven": 10, "eight": 8},
    )
    assert verdict.before is not None
    assert verdict.after is not None
    assert verdict.after.balanced_accuracy > verdict.before.balanced_accuracy + 0.2
    assert (outcome.strategy, outcome.examples, outcome.epochs) == ("balanced_softmax", 88, 4)
    assert Verdict.model_validate_json((folder / "verdict.json").read_bytes()) == verdict
    candidate = Backbone.load(folder / "candidate")
    assert candidate.fingerprint == outcome.candidate != untrained.fingerprint
    assert candidate.class_names == NAMES
    held = np.flatnonzero(world.held_out)
    again = evaluate(
        candidate, [world.images[i] for i in held], world.targets[held], NAMES, tail=(2,)
    )
    assert again == verdict.after


def test_a_finished_run_is_not_done_again(
    world: World, untrained: Backbone, good: tuple[Path, Outcome]
) -> None:
    folder, outcome = good

    def progress(done: int, total: int, message: str = "") -> None:
        raise AssertionError("it trained again")

    assert world.run(untrained, folder, progress=progress) == outcome


def test_nothing_is_fitted_on_what_is_held_out(
    world: World, untrained: Backbone, good: tuple[Path, Outcome], tmp_path: Path
) -> None:
    other = world.targets.copy()
    other[world.held_out] = (other[world.held_out] + 1) % 3
    outcome = world.run(untrained, tmp_path, targets=other)
    assert outcome.candidate == good[1].candidate
    assert outcome.verdict != good[1].verdict


def test_the_incumbent_stays_as_it_is(untrained: Backbone, good: tuple[Path, Outcome]) -> None:
    spec = BackboneSpec(architecture="cnn4", num_classes=3, class_names=NAMES, seed=1)
    assert untrained.fingerprint == load_backbone(spec).fingerprint
    fresh = load_backbone(spec).network.state_dict()
    assert all(torch.equal(v, fresh[k]) for k, v in untrained.network.state_dict().items())
    assert not any(p.requires_grad for p in untrained.network.parameters())


def test_a_spoiled_candidate_is_rejected(
    world: World, good: tuple[Path, Outcome], tmp_path: Path
) -> None:
    incumbent = Backbone.load(good[0] / "candidate")
    outcome = world.run(
        incumbent, tmp_path, config=SHORT.model_copy(update={"learning_rate": 10.0})
    )
    assert not outcome.verdict.promoted
    assert outcome.verdict.compared == "held-out"
    assert "fell from" in outcome.verdict.reasons[0]
    assert outcome.verdict.before == good[1].verdict.after


def test_a_training_that_diverges_is_a_rejection(
    world: World, untrained: Backbone, tmp_path: Path
) -> None:
    config = SHORT.model_copy(update={"learning_rate": 1e30, "optimiser": "sgd"})
    for _ in range(2):
        outcome = world.run(untrained, tmp_path, config=config)
        assert not outcome.verdict.promoted
        assert "diverged" in outcome.verdict.reasons[0]
        assert outcome.candidate is None
        assert outcome.verdict.held_out == 28
    assert not (tmp_path / "candidate").exists()


# By cross-validation ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folded(small: Backbone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("folded")
    return folder, _world(held_out_eights=3).run(small, folder, config=SHORT)


def test_too_few_held_out_are_joined_by_out_of_fold_predictions(
    folded: tuple[Path, Outcome],
) -> None:
    folder, outcome = folded
    verdict = outcome.verdict
    assert verdict.compared == "cross-validation"
    assert verdict.before is not None
    assert verdict.after is not None
    assert [c.count for c in verdict.after.classes] == [44, 44, 28]
    assert verdict.held_out_by_class["eight"] == 3
    assert "eight has 3 examples to compare on, 5 are needed" in verdict.reasons[-1]
    assert all((folder / f"fold-{k}" / "said.safetensors").exists() for k in range(3))
    assert not list(folder.glob("fold-*/checkpoint.safetensors"))
    review = Review.model_validate_json((folder / "review.json").read_bytes())
    assert (review.by, review.out_of_sample) == ("loss", True)


def test_what_the_incumbent_has_seen_is_not_compared(
    small: Backbone, folded: tuple[Path, Outcome], tmp_path: Path
) -> None:
    world = _world(held_out_eights=3)
    seen = np.zeros(len(world.ids), dtype=bool)
    seen[np.flatnonzero((world.targets == 2) & ~world.held_out)[:20]] = True
    seen[np.flatnonzero((world.targets == 0) & world.held_out)[:4]] = True
    outcome = world.run(small, tmp_path, config=SHORT, seen=seen)
    assert outcome.verdict.compared == "cross-validation"
    assert outcome.verdict.after is not None
    assert [c.count for c in outcome.verdict.after.classes] == [40, 44, 8]
    assert outcome.verdict.held_out_by_class == {"one": 6, "seven": 10, "eight": 3}
    assert outcome.candidate == folded[1].candidate


def test_where_nothing_can_be_compared_nothing_is_promoted(
    small: Backbone, folded: tuple[Path, Outcome], tmp_path: Path
) -> None:
    world = _world(held_out_eights=3)
    outcome = world.run(small, tmp_path / "some", config=SHORT, seen=~world.held_out)
    assert not outcome.verdict.promoted
    assert outcome.verdict.compared == "nothing"
    assert outcome.verdict.reasons == (
        "rejected: eight has 3 examples to compare on, 5 are needed",
    )
    assert outcome.verdict.after is not None
    assert outcome.verdict.after.count == 23
    assert outcome.candidate == folded[1].candidate
    none = world.run(
        small, tmp_path / "none", config=SHORT, seen=np.ones(len(world.ids), dtype=bool)
    )
    assert (none.verdict.before, none.verdict.held_out) == (None, 0)
    assert not none.verdict.promoted
    assert not list(tmp_path.glob("*/fold-*"))


def test_cross_validation_that_diverges_is_a_rejection(
    small: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said_of = recipe.said_of

    def spoiled(model: Backbone, labels: Any, rows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            next(model.network.parameters()).fill_(torch.nan)
        return said_of(model, labels, rows)

    monkeypatch.setattr("models.recipes.cross_validate.said_of", spoiled)
    outcome = _world(held_out_eights=3).run(small, tmp_path, config=SHORT)
    assert not outcome.verdict.promoted
    assert outcome.verdict.reasons[0].startswith("rejected: cross-validation failed")
    assert outcome.candidate is not None


# Kills --------------------------------------------------------------------------------------


def _same(one: Path, other: Path) -> None:
    """What two runs left is the same, to the last bit of the weights."""
    for name in ("verdict.json", "review.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    weights = "candidate/weights.safetensors"
    assert (one / weights).read_bytes() == (other / weights).read_bytes()
    outcomes = [
        Outcome.model_validate_json((f / "outcome.json").read_bytes()) for f in (one, other)
    ]
    assert outcomes[0].model_copy(update={"seconds": outcomes[1].seconds}) == outcomes[1]


def test_a_larger_network_resumes_to_the_same_too(
    world: World, untrained: Backbone, good: tuple[Path, Outcome], tmp_path: Path
) -> None:
    def progress(done: int, total: int, message: str = "") -> None:
        if done == 8:  # of twelve steps, after two epochs of three
            raise _KilledError

    with pytest.raises(_KilledError):
        world.run(untrained, tmp_path, progress=progress)
    world.run(untrained, tmp_path)
    _same(good[0], tmp_path)


# Two epochs of three steps make the candidate (of about 93 labels), two of two each fold.
@pytest.mark.parametrize("die_at", [1, 4, 6, 7, 9, 12, 15])
def test_a_run_killed_while_it_trains_resumes_to_the_same(
    small: Backbone, folded: tuple[Path, Outcome], tmp_path: Path, die_at: int
) -> None:
    world, calls = _world(held_out_eights=3), 0

    def progress(done: int, total: int, message: str = "") -> None:
        nonlocal calls
        calls += 1
        assert 0 < done <= total
        if calls == die_at:
            raise _KilledError

    with pytest.raises(_KilledError):
        world.run(small, tmp_path, config=SHORT, progress=progress)
    assert not (tmp_path / "verdict.json").exists()
    world.run(small, tmp_path, config=SHORT)
    _same(folded[0], tmp_path)


def _die_writing(name: str) -> Callable[[Path, str], None]:
    def write_or_die(target: Path, text: str) -> None:
        if target.name == name:
            raise _KilledError
        write_text(target, text)

    return write_or_die


@pytest.mark.parametrize("name", ["review.json", "outcome.json", "verdict.json"])
def test_a_run_killed_between_stages_resumes_to_the_same(
    small: Backbone,
    folded: tuple[Path, Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    world = _world(held_out_eights=3)
    with monkeypatch.context() as patch:
        for module in (recipe, finetune_outcome):
            patch.setattr(module, "write_text", _die_writing(name))
        with pytest.raises(_KilledError):
            world.run(small, tmp_path, config=SHORT)
    assert (tmp_path / "candidate").is_dir()
    assert not (tmp_path / name).exists()
    world.run(small, tmp_path, config=SHORT)
    _same(folded[0], tmp_path)


def test_a_kill_while_the_candidate_is_written_leaves_none(
    world: World,
    untrained: Backbone,
    good: tuple[Path, Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(*args: object, **kwargs: object) -> None:
        raise _KilledError

    with monkeypatch.context() as patch:
        patch.setattr("models.backbones.stored.save_file", die)
        with pytest.raises(_KilledError):
            world.run(untrained, tmp_path)
    assert not (tmp_path / "candidate").exists()
    world.run(untrained, tmp_path)
    _same(good[0], tmp_path)


@pytest.mark.parametrize(
    "damaged",
    [
        "candidate/weights.safetensors",
        "frozen.safetensors",
        "fold-1/said.safetensors",
        "outcome.json",
    ],
)
def test_what_is_damaged_is_made_again(
    small: Backbone, folded: tuple[Path, Outcome], tmp_path: Path, damaged: str
) -> None:
    world = _world(held_out_eights=3)
    world.run(small, tmp_path, config=SHORT)
    (tmp_path / damaged).write_bytes(b"half")
    if damaged != "outcome.json":
        (tmp_path / "verdict.json").unlink()
    world.run(small, tmp_path, config=SHORT)
    _same(folded[0], tmp_path)


def test_a_folder_of_another_run_is_refused(
    world: World, untrained: Backbone, good: tuple[Path, Outcome]
) -> None:
    folder, outcome = good
    other = world.targets.copy()
    other[0] = 2
    for change in ({"seed": 1}, {"targets": other}, {"tail": (1,)}, {"config": SHORT}):
        with pytest.raises(ConfigError, match="take a new folder"):
            world.run(untrained, folder, **change)
    often = CONFIG.model_copy(update={"checkpoint_every_s": 5.0})
    assert world.run(untrained, folder, config=often) == outcome


def test_the_random_state_of_the_caller_is_left_alone(
    world: World, untrained: Backbone, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    world.run(untrained, tmp_path, config=SHORT)
    assert torch.equal(torch.rand(1), expected)


# Heads --------------------------------------------------------------------------------------


def _other_head() -> Backbone:
    """A network whose head is over classes that are not the project's, as ImageNet's is."""
    return load_backbone(BackboneSpec(architecture="resnet18", num_classes=7, input_size=32))


def test_another_head_is_replaced_by_one_over_the_classes(world: World, tmp_path: Path) -> None:
    backbone = _other_head()
    assert backbone.class_names is None
    outcome = world.run(backbone, tmp_path, config=SHORT)
    candidate = Backbone.load(tmp_path / "candidate")
    assert candidate.class_names == NAMES
    assert candidate.spec.head == "linear"
    assert (candidate.input_size, candidate.recipe) == (32, backbone.recipe)
    assert candidate.fingerprint == outcome.candidate
    # The incumbent is judged with a plain head on its features: better than by chance.
    assert outcome.verdict.before is not None
    assert outcome.verdict.before.balanced_accuracy > 0.6
    assert list(backbone.network.state_dict()["fc.bias"].shape) == [7]


def test_the_new_head_begins_where_a_logistic_regression_ends(world: World) -> None:
    backbone = _other_head()
    pictures = pictures_of(backbone, world.images)
    start = with_new_head(backbone, pictures, world.targets, class_names=NAMES)
    features, logits = embed_pictures(start, pictures)
    assert logits is not None
    assert (logits.argmax(axis=1) == world.targets).mean() > 0.95
    np.testing.assert_array_equal(features, embed_pictures(backbone, pictures)[0])


def test_features_may_come_from_another_layer(world: World) -> None:
    spec = BackboneSpec(
        architecture="resnet18", num_classes=7, input_size=32, feature_layer="layer3"
    )
    backbone = load_backbone(spec)
    pictures = pictures_of(backbone, world.images)
    features, _ = embed_pictures(backbone, pictures)
    start = with_new_head(backbone, pictures, world.targets, class_names=NAMES, features=features)
    assert start.spec.feature_layer == "layer3"
    _, logits = embed_pictures(start, pictures)
    assert logits is not None
    assert (logits.argmax(axis=1) == world.targets).mean() > 0.95


def test_a_network_of_the_users_own_gets_a_head_too(world: World, tmp_path: Path) -> None:
    backbone = load_backbone(BackboneSpec(architecture="own_networks:make_network", input_size=32))
    outcome = world.run(backbone, tmp_path, config=SHORT)
    candidate = Backbone.load(tmp_path / "candidate")
    assert candidate.class_names == NAMES
    assert candidate.fingerprint == outcome.candidate


@pytest.mark.parametrize("architecture", ["own_networks:NoLinear", "squeezenet1_1"])
def test_a_head_that_cannot_be_replaced_is_said(
    world: World, tmp_path: Path, architecture: str
) -> None:
    layer = "stem" if "own" in architecture else "features"
    spec = BackboneSpec(architecture=architecture, feature_layer=layer, input_size=32)
    with pytest.raises(ConfigError, match="no Linear"):
        world.run(load_backbone(spec), tmp_path)


def test_a_cosine_head_comes_back_and_is_trained_on(world: World, tmp_path: Path) -> None:
    outcome = world.run(_other_head(), tmp_path / "one", config=COSINE)
    candidate = Backbone.load(tmp_path / "one" / "candidate")
    assert (candidate.spec.head, candidate.spec.head_scale) == ("cosine", 30.0)
    assert isinstance(last_linear(candidate.network)[1], CosineLinear)
    assert candidate.fingerprint == outcome.candidate
    second = world.run(candidate, tmp_path / "two", config=SHORT)
    again = Backbone.load(tmp_path / "two" / "candidate")
    assert again.spec.head == "cosine"
    assert second.verdict.before == outcome.verdict.after


# Validation, reviews, refusals -----------------------------------------------------------------


def test_early_stopping_looks_at_examples_of_its_own(
    world: World, untrained: Backbone, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"patience": 3})
    outcome = world.run(untrained, tmp_path, config=config)
    stops = validation(world.ids) & ~world.held_out
    assert stops.any()
    assert outcome.examples == 88 - stops.sum()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all("validation_balanced_accuracy" in line for line in lines)
    # What stops the training is not learned from.
    other = world.targets.copy()
    other[np.flatnonzero(stops)] = 0
    assert world.run(untrained, tmp_path / "other", config=config, targets=other).examples == (
        outcome.examples
    )


def test_the_hardest_labels_are_listed_for_review(
    world: World, untrained: Backbone, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"strategy": "difficulty", "epochs": 6})
    world.run(untrained, tmp_path, config=config)
    review = Review.model_validate_json((tmp_path / "review.json").read_bytes())
    assert (review.by, review.out_of_sample) == ("difficulty", False)
    scores = [suspect.score for suspect in review.suspects]
    assert scores == sorted(scores, reverse=True)
    assert all(score > 1 for score in scores)
    learned = dict(zip(world.ids.tolist(), world.targets.tolist(), strict=True))
    held = set(world.ids[world.held_out].tolist())
    for suspect in review.suspects:
        assert suspect.id not in held
        assert suspect.label == NAMES[learned[suspect.id]] != suspect.instead


@pytest.mark.slow
def test_wrong_labels_come_first(untrained: Backbone, tmp_path: Path) -> None:
    world = _world(held_out_eights=3)
    targets = world.targets.copy()
    wrong = np.flatnonzero((targets == 0) & ~world.held_out)[:3]
    targets[wrong] = 1
    config = CONFIG.model_copy(update={"strategy": "smote", "epochs": 8})
    world.run(untrained, tmp_path, config=config, targets=targets)
    review = Review.model_validate_json((tmp_path / "review.json").read_bytes())
    assert review.by == "loss"
    assert set(world.ids[wrong].tolist()) <= {s.id for s in review.suspects[:10]}
    assert "one" in {s.instead for s in review.suspects if s.id in world.ids[wrong]}


def test_a_class_without_labels_is_no_obstacle(
    world: World, untrained: Backbone, tmp_path: Path
) -> None:
    some = np.flatnonzero(world.targets != 2)
    part = replace(
        world,
        images=[world.images[i] for i in some],
        targets=world.targets[some],
        ids=world.ids[some],
        held_out=world.held_out[some],
        seen=world.seen[some],
    )
    outcome = part.run(untrained, tmp_path / "common", config=SHORT, tail=())
    assert outcome.verdict.compared == "held-out"
    assert "eight has no example" in outcome.verdict.reasons[-1]
    outcome = part.run(untrained, tmp_path / "tail", config=SHORT)
    assert outcome.verdict.reasons[0].startswith("rejected: eight has 0 examples")


def test_what_cannot_be_trained_on_is_refused(
    world: World, untrained: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(NotEnoughLabels):
        world.run(untrained, tmp_path / "one class", targets=np.zeros_like(world.targets))
    for change in (
        {"targets": world.targets[:-1]},
        {"targets": world.targets + 1},
        {"tail": (3,)},
        {"seen": world.seen[:-1]},
    ):
        with pytest.raises(ShapeError):
            world.run(untrained, tmp_path / "shapes", **change)
    with pytest.raises(ShapeError):
        replace(world, held_out=world.held_out[:-1]).run(untrained, tmp_path / "shapes")
    empty = np.empty(0, dtype=np.int64)
    with pytest.raises(ShapeError, match="no picture"):
        World([], empty, empty, empty.astype(bool), empty.astype(bool)).run(untrained, tmp_path)


def test_only_a_head_over_the_classes_can_be_evaluated(world: World, untrained: Backbone) -> None:
    with pytest.raises(ConfigError, match="one, seven, eight"):
        evaluate(_other_head(), world.images, world.targets, NAMES)
    with pytest.raises(ConfigError, match="tells apart one"):
        evaluate(untrained, world.images, world.targets, ("one", "eight", "seven"))
    with pytest.raises(ShapeError):
        evaluate(untrained, world.images, world.targets[:-1], NAMES)
    with pytest.raises(ShapeError):
        evaluate(untrained, [], [], NAMES)
