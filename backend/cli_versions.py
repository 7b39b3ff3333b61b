"""`rarefirst versions` and `rarefirst queue`: look at what orders the queue, and take it back."""

from __future__ import annotations

from typing import Annotated

import typer

from backend import cli_tables
from backend.cli_common import Json, Project, clear_errors, print_json, read_settings

versions = typer.Typer(
    help="Look at the model versions of a project; activate an older one, delete one.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="A version such as v0003; `versions list` names them.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=0, help="Tasks to show; 0: all.")]


@versions.command("list")
def list_(project: Project, json: Json = False) -> None:
    """All versions, oldest first, and which of them is active, pinned and published."""
    with clear_errors():
        from backend.versions import list_versions

        found = list_versions(read_settings(), project)
        if json:
            print_json(found)
        else:
            from backend.cli_version_tables import versions_table

            cli_tables.out().print(versions_table(found), markup=False)


@versions.command()
def show(name: Name, project: Project, json: Json = False) -> None:
    """Everything that is kept of one version, and where it was published."""
    with clear_errors():
        from backend.versions import show_version

        found = show_version(read_settings(), project, name)
        if json:
            print_json(found)
        else:
            from backend.cli_version_tables import version_table

            cli_tables.out().print(version_table(found), markup=False)


@versions.command()
def compare(
    a: Annotated[str, typer.Argument(help="A version.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    project: Project,
    json: Json = False,
) -> None:
    """Two versions side by side, their labels, and how alike they order what is unlabeled."""
    with clear_errors():
        from backend.compare_versions import compare_versions

        found = compare_versions(read_settings(), project, a, b)
        if json:
            print_json(found)
        else:
            from backend.cli_version_tables import comparison_table

            cli_tables.out().print(comparison_table(found), markup=False)


@versions.command()
def activate(name: Name, project: Project, json: Json = False) -> None:
    """Serve a version from now on and fit no other; `follow` ends that."""
    with clear_errors():
        from backend.versions import activate_version

        done = activate_version(read_settings(), project, name)
        if json:
            print_json(done)
        else:
            from backend.cli_version_tables import activated_words

            cli_tables.out().print(activated_words(done))


@versions.command()
def follow(project: Project, json: Json = False) -> None:
    """Follow the labels again: fit a new version when it is due, and serve that."""
    with clear_errors():
        from backend.versions import follow_labels

        done = follow_labels(read_settings(), project)
        if json:
            print_json(done)
        elif done.version is None:
            cli_tables.out().print(f"Project {project} follows its labels already.")
        else:
            cli_tables.out().print(
                f"Project {project} follows its labels again; {done.version} stays active until "
                "the next fit."
            )


@versions.command()
def delete(name: Name, project: Project, json: Json = False) -> None:
    """Delete a version that is neither active nor pinned, and whose queue is not served."""
    with clear_errors():
        from backend.versions import delete_version

        done = delete_version(read_settings(), project, name)
        if json:
            print_json(done)
        else:
            cli_tables.out().print(f"Version {done.version} of project {project} is deleted.")


def queue(project: Project, limit: Limit = 20, json: Json = False) -> None:
    """The tasks that Label Studio serves next: how rare, what they look like, and why."""
    with clear_errors():
        from backend.served_queue import served_queue

        found = served_queue(read_settings(), project, limit=limit)
        if json:
            print_json(found)
        else:
            from backend.cli_version_tables import queue_table

            cli_tables.out().print(queue_table(found), markup=False)
