"""The command line. A command parses, calls one function and shows what came of it.

Nothing heavy is imported before a command needs it: `--help` and `status` answer at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from pydantic import BaseModel, ValidationError

from backend import cli_tables
from backend.errors import BackendError, MissingConfiguration
from backend.settings import Settings
from models.errors import ModelError

if TYPE_CHECKING:
    from backend.labelstudio.connection_record import ConnectionReport

logger = logging.getLogger(__name__)

app = typer.Typer(
    name="rarefirst",
    help="Label the rare ones first: a Label Studio ML backend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Project = Annotated[int, typer.Option("--project", "-p", help="Label Studio's project id.")]
AnyProject = Annotated[
    int | None, typer.Option("--project", "-p", help="Only this project; all by default.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@app.command()
def serve() -> None:
    """Run web and worker until stopped; each is restarted if it dies."""
    from backend.logs import configure_logging
    from backend.serve import PortTaken, serve

    settings = _settings()
    configure_logging(settings, "serve")
    try:
        serve(settings)
    except PortTaken as error:
        _fail(str(error), code=2)


@app.command()
def web() -> None:
    """Run the web part only."""
    import os

    from backend.serve import WEB, PortTaken, check_port

    settings = _settings()
    try:
        check_port(settings.host, settings.port)
    except PortTaken as error:
        _fail(str(error), code=2)
    # Become gunicorn: signals reach it without anybody in between.
    os.execv(WEB[0], WEB)


@app.command()
def worker() -> None:
    """Run the worker only."""
    from backend.worker import main

    main(_settings())


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
    with _clear_errors():
        from backend.connecting import connect_project

        outcome = connect_project(
            _settings(), project, own_url=url, dry_run=dry_run, take_over=take_over
        )
        _show_connection(outcome, json=json)


@app.command()
def disconnect(project: Project, dry_run: DryRun = False, json: Json = False) -> None:
    """Put back what `connect` changed in Label Studio."""
    with _clear_errors():
        from backend.connecting import disconnect_project

        _show_connection(disconnect_project(_settings(), project, dry_run=dry_run), json=json)


@app.command()
def status(project: AnyProject = None, json: Json = False) -> None:
    """Tell what is, what the loop does now, what comes next and why not yet."""
    from backend.status import service_status

    with _clear_errors():
        found = service_status(_settings(), project)
        if project is not None and not found.projects:
            _fail(f"project {project} is not connected; `rarefirst status` lists those that are")
        if json:
            _print_json(found)
        else:
            cli_tables.out().print(cli_tables.status_table(found))


@app.command()
def score(
    files: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    project: Project,
    json: Json = False,
) -> None:
    """Judge image files with a project's active version, rarest first."""
    with _clear_errors():
        from backend.score_files import score_files

        found = score_files(_settings(), project, files)
        if json:
            _print_json(found)
        else:
            cli_tables.out().print(cli_tables.scores_table(found.files, version=found.version))


@app.command()
def pause(project: Project) -> None:
    """Stop working on a project; the published queue stays as it is."""
    with _clear_errors():
        from backend.pausing import pause_project

        pause_project(_settings(), project)
        cli_tables.out().print(f"Project {project} is paused. `rarefirst resume` goes on.")


@app.command()
def resume(project: Project) -> None:
    """Go on with a paused project."""
    with _clear_errors():
        from backend.pausing import resume_project

        resume_project(_settings(), project)
        cli_tables.out().print(f"Project {project} goes on with its next round.")


@app.command(hidden=True)
def bootstrap(run_dir: Path) -> None:
    """Train a first model: the worker's child process."""
    from backend.logs import configure_logging
    from backend.reconcile.bootstrap_child import main

    configure_logging(_settings(), "bootstrap")
    with _clear_errors():
        raise typer.Exit(main(run_dir))


def _show_connection(report: ConnectionReport, *, json: bool) -> None:
    if json:
        _print_json(report)
    else:
        cli_tables.out().print(cli_tables.connection_table(report))
    if report.problems:
        raise typer.Exit(1)


def _settings() -> Settings:
    """The settings of the environment; what is wrong with them is said variable by variable."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        _fail(f"the environment's settings are wrong: {wrong}", code=2)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn errors that a person can mend into one sentence on standard error, exit code 1."""
    try:
        yield
    except MissingConfiguration as error:
        _fail(f"{error}")
    except (BackendError, ModelError) as error:
        _fail(str(error))


def _fail(message: str, *, code: int = 1) -> NoReturn:
    cli_tables.err().print(f"rarefirst: {message}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def _print_json(value: BaseModel) -> None:
    # Not through rich, which would wrap lines.
    typer.echo(value.model_dump_json(indent=2))


if __name__ == "__main__":
    app()
