"""`rarefirst finetune`, `evaluate`, `review`: train the frozen model, see what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from backend import cli_tables
from backend.cli_common import Json, Project, clear_errors, fail, print_json, read_settings

Strategy = Annotated[
    str | None,
    typer.Option(help="models/rebalancing; by default RAREFIRST_FINETUNE_STRATEGY."),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="By default RAREFIRST_FINETUNE_EPOCHS.")]


def finetune(
    project: Annotated[
        int | None, typer.Option("--project", "-p", help="Label Studio's project id.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="In place of a project: a folder with a folder of images for each class, or a zip "
            "file of such."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --data: folder of the run; the same again goes on.")
    ] = None,
    strategy: Strategy = None,
    epochs: Epochs = None,
    tail: Annotated[str, typer.Option(help="With --data: rare classes, comma-separated.")] = "",
    backbone: Annotated[
        str | None, typer.Option(help="With --data: by default RAREFIRST_BACKBONE.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="With --data: DEFAULT, a file, none, or the folder `candidate` of another run."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what would be trained, and whether it is due."),
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the one that runs.")] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait for it; `status` tells how far it is.")
    ] = False,
    json: Json = False,
) -> None:
    """Fine-tune the frozen model on the labels, rare classes made to count; see the verdict.

    Of a project, the worker does it and this command follows; Ctrl-C ends the following only.
    """
    if (project is None) == (data is None):
        fail("name either --project or --data", code=2)
    if data is not None:
        if out is None:
            fail("name the folder of the run with --out", code=2)
        if dry_run or cancel or no_wait:
            fail("--dry-run, --cancel and --no-wait go with --project only", code=2)
        with clear_errors():
            _files(data, out, strategy, epochs, tail, backbone, weights, json=json)
        return
    if out is not None or tail or backbone is not None or weights is not None:
        fail("--out, --tail, --backbone and --weights go with --data only", code=2)
    assert project is not None  # one of the two is there
    with clear_errors():
        if dry_run:
            _preview(project, strategy, epochs, json=json)
        elif cancel:
            _cancel(project, no_wait=no_wait, json=json)
        else:
            _ask(project, strategy, epochs, no_wait=no_wait, json=json)


def evaluate(project: Project, json: Json = False) -> None:
    """Judge every kept version by the labels that are held out; list the fine-tunes."""
    with clear_errors():
        from backend.evaluate_versions import evaluate_project

        found = evaluate_project(read_settings(), project)
        if json:
            print_json(found)
        else:
            from backend.cli_finetune_tables import evaluation_tables

            cli_tables.out().print(evaluation_tables(found), markup=False)


def review(
    project: Project,
    tab: Annotated[
        bool, typer.Option("--tab", help="Make a tab with these tasks in Label Studio.")
    ] = False,
    json: Json = False,
) -> None:
    """The labels that the last fine-tune doubts: perhaps they are wrong, perhaps only hard."""
    with clear_errors():
        from backend.review import review_project

        found = review_project(read_settings(), project, tab=tab)
        if json:
            print_json(found)
        else:
            from backend.cli_finetune_tables import review_table

            cli_tables.out().print(review_table(found), markup=False)


def finetune_child(
    run_dir: Path,
    parent: Annotated[int, typer.Option(help="Process id of the worker.")],
) -> None:
    """Train and judge: the worker's child process."""
    from backend.logs import configure_logging
    from backend.reconcile.finetune_child import main

    settings = read_settings()
    configure_logging(settings, "finetune")
    raise typer.Exit(main(run_dir, parent=parent, settings=settings))


def _files(
    data: Path,
    out: Path,
    strategy: str | None,
    epochs: int | None,
    tail: str,
    backbone: str | None,
    weights: str | None,
    *,
    json: bool,
) -> None:
    from backend.cores import wait_without_spinning

    wait_without_spinning()
    from backend.finetune_files import FilesFinetune, finetune_files

    wanted = FilesFinetune(
        data=data,
        out=out,
        tail=tuple(name.strip() for name in tail.split(",") if name.strip()),
        strategy=strategy,
        epochs=epochs,
        backbone=backbone,
        weights=weights,
    )
    with _bar() as told:
        outcome = finetune_files(
            read_settings(),
            wanted,
            progress=lambda done, total, message="": told(done, total, message),
        )
    if json:
        print_json(outcome)
        return
    from backend.cli_finetune_tables import verdict_table

    cli_tables.out().print(verdict_table(outcome), markup=False)
    cli_tables.out().print(f"the trained network: {out / 'candidate'}", soft_wrap=True)


def _preview(project: int, strategy: str | None, epochs: int | None, *, json: bool) -> None:
    from backend.finetune_request import preview

    found = preview(read_settings(), project, strategy=strategy, epochs=epochs)
    if json:
        print_json(found)
    else:
        from backend.cli_finetune_tables import preview_table

        cli_tables.out().print(preview_table(found), markup=False)


def _cancel(project: int, *, no_wait: bool, json: bool) -> None:
    from backend.finetune_request import cancel_finetune, follow

    settings = read_settings()
    asked = cancel_finetune(settings, project)
    if asked.run is not None and asked.worker_alive and not asked.paused and not no_wait:
        with _bar() as told:
            asked = follow(settings, project, told=told).model_copy(update={"cancels": True})
    if json:
        print_json(asked)
    else:
        from backend.cli_finetune_tables import asked_words

        cli_tables.out().print(asked_words(asked), markup=False)


def _ask(
    project: int, strategy: str | None, epochs: int | None, *, no_wait: bool, json: bool
) -> None:
    from backend.finetune_request import ask_for_finetune, follow, outcome_of_asked

    settings = read_settings()
    asked = ask_for_finetune(settings, project, strategy=strategy, epochs=epochs)
    if not no_wait:
        with _bar() as told:
            asked = follow(settings, project, told=told)
    if json:
        print_json(asked)
    else:
        from backend.cli_finetune_tables import asked_words, verdict_table

        cli_tables.out().print(asked_words(asked), markup=False)
        outcome = outcome_of_asked(asked)
        if outcome is not None:
            cli_tables.out().print(verdict_table(outcome), markup=False)
    if asked.run is not None and asked.run.state in {"failed", "cancelled", "superseded"}:
        raise typer.Exit(1)


@contextmanager
def _bar() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on standard error that says how far it is."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=cli_tables.err(), transient=True) as bars:
        bar = bars.add_task("", total=None)

        def told(done: int, total: int, message: str) -> None:
            bars.update(bar, completed=done, total=total or None, description=message)

        yield told
