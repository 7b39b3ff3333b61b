"""From a data set to a report, a picture and a page."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from backend.errors import BackendError
from backend.files import write_atomically
from backend.settings import Settings
from backend.simulation import DEFAULT_SCORERS
from backend.simulation.data import Data, ExportOptions, class_names, opened, with_tail
from backend.simulation.features import Features
from backend.simulation.frozen import SimulatedModel
from backend.simulation.games import BASELINE, Conditions, play
from backend.simulation.images import LabeledImages
from backend.simulation.kept import Game, KeptGames
from backend.simulation.report import SimulationReport, UnreadImage, order_report
from models.config import MinerConfig
from models.plots.found_html import write_html
from models.plots.found_png import write_png
from models.scorers import SCORERS
from models.types import Progress, no_progress

# With fewer labels most of the rare ones stay unfound, and nothing is learned of savings.
_ENOUGH_SHARE, _ENOUGH_LABELS = 5, 2000

#: Makes the progress of a part of the work that has a name.
Watch = Callable[[str], Progress]


class SimulationPlan(BaseModel):
    """What is to be replayed."""

    model_config = ConfigDict(frozen=True)

    scorers: tuple[str, ...] = Field(
        DEFAULT_SCORERS, description="random order is played whether it is among them or not"
    )
    tail: tuple[str, ...] = Field((), description="rare classes; empty: by the settings")
    start: int | None = Field(
        None,
        ge=0,
        description="labels at the start; None: as many as train a first model and 4 for each "
        "class, at most a quarter of the images",
    )
    rounds: int = Field(20, ge=1)
    batch: int | None = Field(
        None,
        ge=1,
        description="labels a round; None: fit_every_labels, or more where all rounds would label "
        "less than a fifth of the pool, up to 2,000",
    )
    repeats: int = Field(5, ge=1)
    seed: int | None = Field(None, ge=0, le=2**32 - 1, description="None: the settings'")


def replay(
    settings: Settings,
    dataset: Path,
    plan: SimulationPlan,
    *,
    out: Path | None = None,
    export: ExportOptions | None = None,
    watch: Watch = lambda name: no_progress,
) -> tuple[SimulationReport, Path]:
    """Replay labeling, and write ``simulate.json``, ``simulate.png`` and ``simulate.html``.

    Args:
        settings: the service's: frozen model, tail, limits, data directory.
        dataset: a folder of class folders, a zip file of such, or an exported project.
        plan: what is to be replayed.
        out: folder for the files and the finished games; by default one named after the data set
            in the data directory.
        export: how an export is read.
        watch: who is told how far things are.
    Returns: the report, and the folder.

    Raises:
        BackendError: if the data set cannot be replayed, saying why.
        ModelError: if the frozen model cannot be had.
    """
    scorers = _known_scorers(plan.scorers)
    folder = out or settings.data_dir / "simulate" / "results" / _name_of(dataset)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(
            f"{folder} cannot be made ({error.strerror}); name another --out"
        ) from error
    if not os.access(folder, os.W_OK):
        raise BackendError(f"{folder} cannot be written to; name another --out")
    with opened(dataset, settings, export or ExportOptions()) as found:
        names = class_names(dataset, found)
        model = SimulatedModel(settings, names)
        features = model.read(found.images, watch("images"))
        readable = [found.images[row] for row in features.rows.tolist()]
        data = with_tail(readable, names, plan.tail, settings)
        conditions = _conditions(data, plan, settings, trains=model.trains)
        games = _games(conditions, plan.repeats, scorers, model, features, folder, watch)
    report = _report(conditions, plan, found, features, model.words, dataset, games)
    write_atomically(folder / "simulate.json", report.model_dump_json(indent=2))
    name = dataset.resolve().name  # also of "."
    title = f"Rare ones found of {report.total}, in a pool of {report.pool:,} ({name})"
    write_png(folder / "simulate.png", report.curves(), title=title, total=report.total)
    write_html(folder / "simulate.html", report.curves(), title=title, total=report.total)
    return report, folder


def _known_scorers(names: Sequence[str]) -> tuple[str, ...]:
    """Each once, random order last."""
    unknown = [name for name in names if name not in SCORERS]
    if unknown:
        raise BackendError(
            f"found scorers {', '.join(unknown)}; expected some of {', '.join(SCORERS)}"
        )
    return (*dict.fromkeys(name for name in names if name != BASELINE), BASELINE)


def _conditions(
    data: Data, plan: SimulationPlan, settings: Settings, *, trains: bool
) -> Conditions:
    start = plan.start
    if start is None:
        wanted = max(settings.bootstrap_min_labels, 4 * data.classes.size)
        start = min(wanted, len(data.images) // 4)
    if trains and start < settings.bootstrap_min_labels:
        raise BackendError(
            f"{settings.backbone} has no weights and would be trained on {start} labels, at least "
            f"{settings.bootstrap_min_labels} are needed: raise --start, or take a pretrained "
            "model (RAREFIRST_BACKBONE=resnet18 RAREFIRST_WEIGHTS=DEFAULT)"
        )
    pool = len(data.images) - start
    enough = min(pool // _ENOUGH_SHARE, _ENOUGH_LABELS)
    batch = plan.batch or max(settings.fit_every_labels, -(-enough // plan.rounds))
    conditions = Conditions(
        data=data,
        config=MinerConfig(recalibration=settings.recalibration),
        start=start,
        batch=batch,
        rounds=min(plan.rounds, -(-pool // batch)),
        seed=settings.seed if plan.seed is None else plan.seed,
    )
    left = data.of_tail(data.counts() - data.counts(conditions.start_rows(0)))
    if not sum(left.values()):
        raise BackendError(
            f"none of {', '.join(left)} is left to be found in the pool of {pool}; lower --start"
        )
    return conditions


def _games(
    conditions: Conditions,
    repeats: int,
    scorers: Sequence[str],
    model: SimulatedModel,
    features: Features,
    folder: Path,
    watch: Watch,
) -> list[dict[str, Game]]:
    """Games by scorer, repeat by repeat."""
    data, kept = conditions.data, KeptGames(folder / "games")
    given = None if model.trains else model.given(features)
    games = []
    for repeat in range(repeats):
        name = f"repeat {repeat + 1} of {repeats}"
        frozen = given or model.trained(
            data.images,
            data.targets,
            conditions.start_rows(repeat),
            training=watch(f"{name}: first model"),
            embedding=watch(f"{name}: images"),
        )
        progress = watch(f"{name}: games")
        games.append(play(conditions, scorers, frozen, repeat, kept=kept, progress=progress))
    return games


def _report(
    conditions: Conditions,
    plan: SimulationPlan,
    found: LabeledImages,
    features: Features,
    frozen_model: str,
    dataset: Path,
    games: Sequence[dict[str, Game]],
) -> SimulationReport:
    data, every = conditions.data, conditions.data.counts()
    start = data.counts(conditions.start_rows(0))
    rare, pool = data.of_tail(every - start), int((every - start).sum())
    labels = tuple(min(n * conditions.batch, pool) for n in range(1, conditions.rounds + 1))
    orders = tuple(
        order_report(
            [played[scorer] for played in games],
            [played[BASELINE] for played in games],
            targets=data.targets,
            tail=data.tail,
            labels=labels,
            rare=rare,
        )
        for scorer in games[0]
    )
    return SimulationReport(
        dataset=str(dataset),
        kind=found.kind,
        classes=data.by_name(every),
        tail=tuple(data.tail),
        tail_from=data.tail_from,
        left_out=dict(sorted(found.left_out.items())),
        unread=tuple(
            UnreadImage(file=found.images[row].name, reason=reason)
            for row, reason in sorted(features.failures.items())
        ),
        frozen_model=frozen_model,
        start=data.by_name(start),
        pool=pool,
        rare=rare,
        labels=labels,
        rounds=conditions.rounds,
        batch=conditions.batch,
        repeats=plan.repeats,
        seed=conditions.seed,
        orders=orders,
        notes=tuple(_notes(plan, conditions, data.of_tail(start), rare, pool)),
    )


def _notes(
    plan: SimulationPlan,
    conditions: Conditions,
    start: dict[str, int],
    rare: dict[str, int],
    pool: int,
) -> Iterator[str]:
    """What a person should know of the conditions."""
    if conditions.rounds < plan.rounds:
        yield f"the pool of {pool} is empty after {conditions.rounds} of {plan.rounds} rounds"
    blind = [name for name, count in start.items() if not count]
    if blind:
        yield f"no label of {', '.join(blind)} at the start: it must be found before it is learned"
    gone = [name for name, count in rare.items() if not count]
    if gone:
        yield f"all of {', '.join(gone)} is labeled at the start: none is left to be found"


def _name_of(dataset: Path) -> str:
    """A folder's name after the data set's."""
    return re.sub(r"[^\w.-]+", "-", dataset.resolve().stem).strip("-.") or "data"
