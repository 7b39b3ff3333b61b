"""The command line. A command parses, calls one function and shows what came of it.

Nothing heavy is imported before a command needs it: `--help` and `status` answer at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backend import (
    cli_backtest,
    cli_doctor,
    cli_finetune,
    cli_simulate,
    cli_tables,
    cli_versions,
)
from backend.cli_common import (
    AnyProject,
    Json,
    Project,
    clear_errors,
    fail,
    print_json,
    read_settings,
)

if TYPE_CHECKING:
    from backend.labelstudio.connection_record import ConnectionReport

app = typer.Typer(
    name="rarefirst",
    help="Label the rare ones first: a Label Studio ML backend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


app.add_typer(cli_versions.versions, name="versions")
app.command()(cli_versions.queue)
app.command()(cli_doctor.doctor)
app.command()(cli_backtest.backtest)
app.command()(cli_simulate.simulate)
app.command()(cli_finetune.finetune)
app.command()(cli_finetune.evaluate)
app.command()(cli_finetune.review)
app.command("finetune-child", hidden=True)(cli_finetune.finetune_child)


@app.command()
def serve() -> None:
    """Run web and worker until stopped; each is restarted if it dies."""
    from backend.logs import configure_logging
    from backend.serve import PortTaken, serve

    settings = read_settings()
    configure_logging(settings, "serve")
    try:
        serve(settings)
    except PortTaken as error:
        fail(str(error), code=2)


@app.command()
def web() -> None:
    """Run the web part only."""
    import os

    from backend.serve import WEB, PortTaken, check_port

    settings = read_settings()
    try:
        check_port(settings.host, settings.port)
    except PortTaken as error:
        fail(str(error), code=2)
    # Become gunicorn: signals reach it without anybody in between.
    os.execv(WEB[0], WEB)


@app.command()
def worker() -> None:
    """Run the worker only."""
    from backend.worker import main

    main(read_settings())


@app.command()
def connect(
    project: Project,
    url: Annotated[
        str | None,
        typer.Option(help="Our address as Label Studio reaches it; by default from PORT."),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Let the queue replace the scores that a person or another backend set.",
        ),
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Connect a project completely: connection, webhook, sampling, tab. May be run again."""
    with clear_errors():
        from backend.connecting import connect_project

        outcome = connect_project(
            read_settings(), project, own_url=url, dry_run=dry_run, take_over=take_over
        )
        _show_connection(outcome, json=json)


@app.command()
def disconnect(project: Project, dry_run: DryRun = False, json: Json = False) -> None:
    """Put back what `connect` changed in Label Studio."""
    with clear_errors():
        from backend.connecting import disconnect_project

        _show_connection(disconnect_project(read_settings(), project, dry_run=dry_run), json=json)


@app.command()
def status(
    project: AnyProject = None,
    json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again every two seconds until Ctrl-C.")
    ] = False,
) -> None:
    """Tell what is, what the loop does now, what comes next and why not yet."""
    from backend.status import service_status

    if watch and json:
        fail("--watch and --json do not go together; call --json as often as you like", code=2)
    with clear_errors():
        found = service_status(read_settings(), project)
        if project is not None and not found.projects:
            fail(f"project {project} is not connected; `rarefirst status` lists those that are")
        if watch:
            from backend.cli_watch import watch as watch_status

            watch_status(read_settings(), project, console=cli_tables.out())
        elif json:
            print_json(found)
        else:
            cli_tables.out().print(cli_tables.status_table(found, list_images=project is not None))


@app.command()
def score(
    files: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    project: Project,
    json: Json = False,
) -> None:
    """Judge image files with a project's active version, rarest first."""
    with clear_errors():
        from backend.score_files import score_files

        found = score_files(read_settings(), project, files)
        if json:
            print_json(found)
        else:
            cli_tables.out().print(cli_tables.scores_table(found.files, version=found.version))


@app.command()
def pause(project: Project) -> None:
    """Stop working on a project; the published queue stays as it is."""
    with clear_errors():
        from backend.pausing import pause_project

        pause_project(read_settings(), project)
        cli_tables.out().print(f"Project {project} is paused. `rarefirst resume` goes on.")


@app.command()
def resume(project: Project) -> None:
    """Go on with a paused project."""
    with clear_errors():
        from backend.pausing import resume_project

        resume_project(read_settings(), project)
        cli_tables.out().print(f"Project {project} goes on with its next round.")


@app.command(hidden=True)
def bootstrap(
    run_dir: Path,
    parent: Annotated[int, typer.Option(help="Process id of the worker.")],
) -> None:
    """Train a first model: the worker's child process."""
    from backend.logs import configure_logging
    from backend.reconcile.bootstrap_child import main

    configure_logging(read_settings(), "bootstrap")
    with clear_errors():
        raise typer.Exit(main(run_dir, parent=parent))


def _show_connection(report: ConnectionReport, *, json: bool) -> None:
    if json:
        print_json(report)
    else:
        cli_tables.out().print(cli_tables.connection_table(report))
    if report.problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
