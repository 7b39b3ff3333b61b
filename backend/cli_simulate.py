"""`rarefirst simulate`: would it have helped? Labeling replayed on data with known labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backend import cli_tables
from backend.cli_common import Json, clear_errors, print_json, read_settings
from backend.simulation import DEFAULT_SCORERS

if TYPE_CHECKING:
    from backend.simulation.replay import Watch


def simulate(
    dataset: Annotated[
        Path,
        typer.Argument(
            help="A folder with a folder of images for each class, a zip file of such, or a "
            "Label Studio project exported as JSON."
        ),
    ],
    scorers: Annotated[
        str,
        typer.Option(help="Which to compare, comma-separated (models/scorers); random always is."),
    ] = ",".join(DEFAULT_SCORERS),
    tail: Annotated[
        str,
        typer.Option(
            help="Rare classes, comma-separated; by default RAREFIRST_TAIL_CLASSES, else those "
            "that hold few of all labels."
        ),
    ] = "",
    start: Annotated[
        int | None, typer.Option(min=0, help="Labels to start from, each class by its share.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Fits of a game.")] = 20,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Labels between two fits; by default RAREFIRST_FIT_EVERY_LABELS, or more so that "
            "all rounds label a fifth of the pool (at most 2,000).",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Games of each, from other labels.")] = 5,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="By default RAREFIRST_SEED.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Of an export: folder that its images lie in.")
    ] = None,
    image_key: Annotated[
        str, typer.Option(help="Of an export: key of the image in the tasks' data.")
    ] = "",
    control: Annotated[str, typer.Option(help="Of an export: name of the Choices tag.")] = "",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for what is found; by default one in the data directory."),
    ] = None,
    json: Json = False,
) -> None:
    """Replay labeling on images whose labels are known, and say what each order finds how soon."""
    with clear_errors():
        from backend.cores import wait_without_spinning

        wait_without_spinning()
        from backend.simulation.data import ExportOptions
        from backend.simulation.replay import SimulationPlan, replay

        settings = read_settings()
        plan = SimulationPlan(
            scorers=_names(scorers),
            tail=_names(tail),
            start=start,
            rounds=rounds,
            batch=batch,
            repeats=repeats,
            seed=seed,
        )
        export = ExportOptions(images=images, image_key=image_key, control=control)
        with _progress() as watch:
            report, folder = replay(settings, dataset, plan, out=out, export=export, watch=watch)
        if json:
            print_json(report)
            return
        from backend.cli_simulation_tables import simulation_tables

        cli_tables.out().print(simulation_tables(report), markup=False)
        cli_tables.out().print(
            f"written: {folder}/simulate.json, simulate.png, simulate.html",
            markup=False,
            soft_wrap=True,
        )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@contextmanager
def _progress() -> Iterator[Watch]:
    """A bar with the time that is left for each part of the work, on standard error."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from models.types import Progress as Told

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[message]}", markup=False),
    )
    with Progress(*columns, console=cli_tables.err()) as bars:

        def watch(name: str) -> Told:
            bar = bars.add_task(name, total=None, message="")

            def tell(done: int, total: int, message: str = "") -> None:
                bars.update(bar, completed=done, total=total, message=message)

            return tell

        yield watch
