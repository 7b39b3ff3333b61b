"""What the buttons do: the functions of the commands, and what to say afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from backend.errors import BadRequest
from backend.jobs import Jobs
from backend.settings import Settings

#: Does something to a project; ``chosen`` is what the form names, such as a version.
Action = Callable[[Jobs, Settings, int, str], None]


def _activate(jobs: Jobs, settings: Settings, project_id: int, chosen: str) -> None:
    from backend.versions import activate_version

    activate_version(settings, project_id, chosen)


def _follow(jobs: Jobs, settings: Settings, project_id: int, chosen: str) -> None:
    from backend.versions import follow_labels

    follow_labels(settings, project_id)


def _pause(jobs: Jobs, settings: Settings, project_id: int, chosen: str) -> None:
    from backend.pausing import pause_project

    pause_project(settings, project_id)


def _resume(jobs: Jobs, settings: Settings, project_id: int, chosen: str) -> None:
    from backend.pausing import resume_project

    resume_project(settings, project_id)


def _finetune(jobs: Jobs, settings: Settings, project_id: int, chosen: str) -> None:
    from backend.finetune_request import ask_for_finetune

    ask_for_finetune(settings, project_id)


def _cancel_finetune(jobs: Jobs, settings: Settings, project_id: int, chosen: str) -> None:
    from backend.finetune_request import cancel_finetune

    cancel_finetune(settings, project_id)


def _fit(jobs: Jobs, settings: Settings, project_id: int, chosen: str) -> None:
    """As Label Studio's button Start Training: it also ends what was activated by hand."""
    from backend.events import force_fit
    from backend.schemas import ProjectRef

    card = jobs.stores.connected(project_id).card
    if card is not None:
        force_fit(jobs, ProjectRef(id=card.project_id, created_s=card.created_s))


#: Name in the address -> what it does, and the sentence after it.
ACTIONS: Mapping[str, tuple[Action, str]] = MappingProxyType(
    {
        "activate": (_activate, "The version is activated; nothing else is fitted meanwhile."),
        "follow": (_follow, "The project follows its labels again."),
        "pause": (_pause, "The project is paused; the published queue stays."),
        "resume": (_resume, "The project goes on with its next round."),
        "finetune": (_finetune, "A fine-tune begins with the worker's next round."),
        "cancel-finetune": (_cancel_finetune, "The fine-tune ends with the worker's next round."),
        "fit": (_fit, "A new fit is asked for."),
    }
)


def act(jobs: Jobs, settings: Settings, project_id: int, name: str, chosen: str) -> None:
    """Do what a button is for.

    Raises:
        BadRequest: where there is no such button.
        BackendError: as the command's function does.
    """
    if name not in ACTIONS:
        raise BadRequest(f"found button {name[:40]!r}, expected one of {', '.join(ACTIONS)}")
    ACTIONS[name][0](jobs, settings, project_id, chosen)


def said_after(name: str) -> str:
    """The sentence that is shown after a button was pressed; empty where there is none."""
    return ACTIONS[name][1] if name in ACTIONS else ""
