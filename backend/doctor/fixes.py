"""What `--fix` does: a function for each kind of trouble, and a table of which is for what.

Safe means: it touches only what is ours or what connecting sets anyway, may be done twice, and
changes nobody's decision. Another backend's or a person's model version, the overlap, label
config, token and images are left to people.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from backend import heartbeat
from backend.doctor.connection import stray
from backend.doctor.facts import ProjectFacts, ServiceFacts
from backend.doctor.finding import Finding, shown
from backend.errors import BackendError, NotConnected, NotFound
from backend.labelstudio.client import Connection
from backend.labelstudio.connection_record import same_address
from backend.settings import Settings
from models.errors import ModelError

_PUBLISHED_WITHIN_S = 60.0
_POLL_S = 0.5


class NotYetError(Exception):
    """A fix could not bring the mending to its end: the message says what it did and what waits."""


@dataclass(frozen=True)
class Fix:
    """How one kind of finding is mended.

    Attributes:
        would: what it does, in words.
        service, project: does it, and says what was done; one of the two is given.
        needs_own_url: only where RAREFIRST_OWN_URL is set: nothing is changed to a guess.
    """

    would: str
    service: Callable[[ServiceFacts], str] | None = None
    project: Callable[[ProjectFacts], str] | None = None
    needs_own_url: bool = False


def fix_for(code: str, settings: Settings) -> Fix | None:
    """What mends a finding, None where ``--fix`` leaves it to people."""
    fix = FIXES.get(code)
    if fix is None or (fix.needs_own_url and not settings.own_url):
        return None
    return fix


class Mender:
    """Mends findings, each kind once a project.

    Args:
        service: the service's facts, as they were when the findings were made.
        dry_run: only say what would be done.
    """

    def __init__(self, service: ServiceFacts, *, dry_run: bool) -> None:
        self._service = service
        self._dry_run = dry_run
        self._done: dict[tuple[int, int | None], tuple[str, bool]] = {}

    def mend(self, finding: Finding) -> Finding:
        """A finding after its fix: with what was done, would be done, or stood in the way.

        One that nothing is known against comes back as it is. ``fixed`` is False where the fix
        itself says that it did not get there, and left open where it did what it can.
        """
        fix = fix_for(finding.code, self._service.settings)
        if fix is None or finding.severity == "ok":
            return finding
        if self._dry_run:
            return finding.model_copy(update={"action": f"would {fix.would}"})
        key = (id(fix), finding.project)
        if key not in self._done:
            try:
                self._done[key] = self._apply(fix, finding.project), True
            except NotYetError as left:
                self._done[key] = str(left), False
            except (BackendError, ModelError, OSError) as failure:
                self._done[key] = f"could not {fix.would}: {failure}", False
        action, went = self._done[key]
        return finding.model_copy(update={"action": action, "fixed": None if went else False})

    def _apply(self, fix: Fix, project: int | None) -> str:
        if project is not None and fix.project is not None:
            # Asked anew: what was mended before may have changed what is to be mended now.
            return fix.project(ProjectFacts(ServiceFacts(self._service.settings), project))
        if fix.service is not None:
            return fix.service(self._service)
        raise TypeError("a finding of the service with the fix of a project, or the reverse")


def _connect(facts: ProjectFacts) -> str:
    """Connect the project again, where it leads now: what is right is kept, the rest is set."""
    return _connect_at(facts, lambda: facts.connection.url)


def _connect_here(facts: ProjectFacts) -> str:
    """Connect the project again at the address that the settings give."""
    return _connect_at(facts, lambda: facts.service.settings.own_url)


def _connect_at(facts: ProjectFacts, own_url: Callable[[], str]) -> str:
    from backend.connecting import connect_project

    if not facts.ours:
        # Connecting would make a new one, which is for a person to say.
        raise NotConnected("the connection is gone meanwhile")
    outcome = connect_project(
        facts.service.settings,
        facts.id,
        own_url=own_url(),
        dry_run=False,
        take_over=False,
        # Whoever has a webhook mended says nothing about the model version.
        consent=False,
    )
    done = [f"{step.what}: {step.after}" for step in outcome.steps if step.state == "done"]
    return "connected again" + (f" ({'; '.join(done)})" if done else "")


def _delete_doubles(facts: ProjectFacts) -> str:
    """Delete every connection to us but the one that counts, and their webhooks."""
    kept, *others = facts.ours
    deleted, left = [], []
    for other in others:
        named = f"{other.id} ({shown(other.url)})"
        if not _leads_here(facts, other, kept):
            left.append(named)
            continue
        deleted.append(named)
        hook_url = other.url.rstrip("/") + "/webhook"
        if not same_address(other.url, kept.url):
            _delete_hooks(facts, [h.id for h in facts.webhooks if h.url.rstrip("/") == hook_url])
        with contextlib.suppress(NotFound):
            facts.client.delete_connection(other.id)
    # Label Studio empties the model version of a project whose connection had that title.
    said = f"deleted {', '.join(deleted)}" if deleted else "deleted nothing"
    if left:
        raise NotYetError(
            f"{said}; left {', '.join(left)}: whether it leads to this service is not certain"
        )
    return said


def _leads_here(facts: ProjectFacts, other: Connection, kept: Connection) -> bool:
    """Whether a connection leads to this very service: by its address, or by what it answers.

    At an address that we only guess there may be another program.
    """
    own_url = facts.service.settings.own_url
    return (
        other.model_version.startswith(facts.service.own_prefix)
        or same_address(other.url, kept.url)
        or (own_url != "" and same_address(other.url, own_url))
    )


def _delete_double_hooks(facts: ProjectFacts) -> str:
    """Delete every webhook to us but the one that connecting looks at."""
    record = facts.record
    known = None if record is None else record.webhook_id
    hooks = sorted(facts.hooks, key=lambda hook: (hook.id != known, hook.id))
    _delete_hooks(facts, [hook.id for hook in hooks[1:]])
    return f"deleted {len(hooks) - 1} of {len(hooks)}" + (
        f"; {_connect(facts)}" if hooks and hooks[0] != facts.hooks[0] else ""
    )


def _delete_stray_hooks(facts: ProjectFacts) -> str:
    """Delete the webhook of ours that leads elsewhere."""
    found = stray(facts)
    _delete_hooks(facts, [hook.id for hook in found])
    return "deleted " + (", ".join(shown(hook.url) for hook in found) or "nothing, it is gone")


def _delete_hooks(facts: ProjectFacts, ids: list[int]) -> None:
    for number in ids:
        with contextlib.suppress(NotFound):
            facts.client.delete_webhook(number)


def _show_predictions(facts: ProjectFacts) -> str:
    """Use predictions again; Label Studio emptied the model version with that switch."""
    facts.client.update_project(facts.id, show_collab_predictions=True)
    again = ProjectFacts(facts.service, facts.id)
    if again.info.model_version or again.publications.published is None:
        return "switched on"
    try:
        return f"switched on; {_serve_ours(again)}"
    except NotYetError as left:
        return f"switched on; {left}"


def _serve_ours(facts: ProjectFacts) -> str:
    """Put the last published queue back where Label Studio looks."""
    published = facts.publications.published
    if published is None:
        raise NotYetError("nothing is published yet, the loop does it")
    if not facts.predictions.get(published.name):
        return _publish_again(facts)
    facts.client.update_project(facts.id, model_version=published.name)
    return f"set to {published.name}"


def _publish_again(facts: ProjectFacts) -> str:
    """Have the loop publish: an empty version whose scores are gone is what it repairs.

    Emptied only where the loop can do so now: until then nothing would be served in its place.
    """
    waits = _not_now(facts)
    if not waits and facts.info.model_version:
        facts.client.update_project(facts.id, model_version="")
    before = facts.publications.published
    facts.store.hint("changed")
    _wake(facts)
    if waits:
        raise NotYetError(f"asked for another publication; {waits}")
    deadline = time.monotonic() + _PUBLISHED_WITHIN_S
    while time.monotonic() < deadline:
        now = facts.store.publications().published
        if now is not None and (before is None or now.name != before.name):
            return f"published again as {now.name}"
        time.sleep(_POLL_S)
    raise NotYetError(
        f"asked for another publication; it did not come within {_PUBLISHED_WITHIN_S:.0f} s"
    )


def _not_now(facts: ProjectFacts) -> str:
    """What the loop waits for before it publishes; empty where it can at once."""
    alive = heartbeat.heartbeat_age_s(facts.service.data_dir)
    if facts.store.paused:
        return f"it waits until `rarefirst resume --project {facts.id}`"
    if alive is None or alive >= heartbeat.STALE_S:
        return "it waits until the worker runs"
    return ""


def _wake(facts: ProjectFacts) -> None:
    """Have the worker look at the project now rather than by its timer."""
    from backend.jobs import Jobs

    Jobs(facts.service.settings).hint(facts.id, facts.info.created_s, "changed")


def _forget_heartbeat(facts: ServiceFacts) -> str:
    """Delete a sign of life from the future; a worker that lives makes another within seconds."""
    heartbeat.end(facts.data_dir)
    return "deleted the sign of life"


_AGAIN = Fix(
    "connect the project again, which sets what is wrong and keeps the rest", None, _connect
)
_HERE = Fix("give the connection our address", None, _connect_here, needs_own_url=True)

FIXES: Mapping[str, Fix] = {
    "worker.future": Fix("delete the sign of life from the future", _forget_heartbeat),
    "connection.double": Fix("delete the younger connections to us", None, _delete_doubles),
    "connection.login": _AGAIN,
    "connection.address": _HERE,
    "webhook.missing": _AGAIN,
    "webhook.off": _AGAIN,
    "webhook.login": _AGAIN,
    "webhook.actions": _AGAIN,
    "webhook.payload": _AGAIN,
    "webhook.double": Fix("delete all webhooks to us but one", None, _delete_double_hooks),
    "webhook.stray": Fix("delete the webhook of ours there", None, _delete_stray_hooks),
    "sampling.other": _AGAIN,
    "tab.missing": _AGAIN,
    "predictions.hidden": Fix("use predictions again", None, _show_predictions),
    "model_version.empty": Fix("set it to the last published queue", None, _serve_ours),
    "model_version.title": Fix("set it to the last published queue", None, _serve_ours),
    "model_version.gone": Fix("have the queue published again", None, _publish_again),
}
