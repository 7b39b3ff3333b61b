"""The loop: rounds of observe, plan, act for each project, and which projects there are."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from backend.errors import (
    BackendError,
    LabelStudioRefused,
    LabelStudioUnavailable,
    NotConnected,
    ProjectGone,
    ProjectReplaced,
    Unauthorized,
)
from backend.files import disk_trouble
from backend.heap import give_back
from backend.instance import version_prefix
from backend.labelstudio.client import LabelStudioClient
from backend.labelstudio.connection import (
    ConnectionReport,
    connect,
    disconnect,
    find_connection,
)
from backend.labelstudio.media import MediaFetcher
from backend.project_settings import effective
from backend.projects import ProjectStore, ProjectStores
from backend.reconcile.actions import ACTIONS
from backend.reconcile.connected import (
    begin_leaving,
    cut_off,
    known_before,
    leave,
    park,
    remember,
    settle,
)
from backend.reconcile.connection_watch import ConnectionWatch
from backend.reconcile.context import ProjectContext, Stopped
from backend.reconcile.observe import observe, report
from backend.reconcile.plan import Plan, plan
from backend.reconcile.state import State
from backend.reports import ProjectReport, RoundEntry
from backend.settings import Settings
from models.errors import ModelError
from models.tasks.base import DETECTION

logger = logging.getLogger(__name__)

_LOCK_WAIT_S = 120.0
_MOST_STEPS = 10_000  # far above any real round: a plan that never ends is a bug, not a wait


@dataclass
class _Backoff:
    """Growing pauses while a project cannot be worked on."""

    failures: int = 0
    until: float = 0.0

    def succeeded(self) -> None:
        self.failures, self.until = 0, 0.0

    def failed(self, longest_s: float) -> None:
        self.failures += 1
        self.until = time.monotonic() + min(2.0**self.failures, longest_s)


@dataclass
class _Worked:
    """What one round did, for the history."""

    seconds: dict[str, float] = field(default_factory=dict)
    error: str = ""


class Reconciler:
    """Brings every connected project to where it should be.

    One instance in a worker process; safe to call from several threads, each with another
    project (`ProjectStore.lock` keeps two rounds of one project apart, also between processes).

    Args:
        settings: the service's.
        client: Label Studio.
        stores: the projects' folders.
        stopping: whether the worker ends: rounds then end with the action at hand.
    """

    def __init__(
        self,
        settings: Settings,
        client: LabelStudioClient,
        stores: ProjectStores,
        *,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings = settings
        self._stopping = stopping
        self.client = client
        self.stores = stores
        self.own_prefix = version_prefix(settings.data_dir)
        self.media = MediaFetcher.from_settings(client, settings)
        self._contexts: dict[str, ProjectContext] = {}
        self._backoff: dict[str, _Backoff] = {}
        self._watch = ConnectionWatch(settings, client, self.own_prefix)

    # Projects ---------------------------------------------------------------------------------

    def discover(self) -> list[ProjectStore]:
        """Ask Label Studio which projects are connected to us; new ones get a store."""
        found = []
        projects = self.client.projects()
        self._park_replaced({project.id: project.created_s for project in projects})
        for project in projects:
            known = self.stores.find(project.id, project.created_s)
            if known is not None:
                found.append(known)
            elif self._is_ours(project.id):
                found.append(self._store(project.id))
        return found

    def _park_replaced(self, created: Mapping[int, int]) -> None:
        """Rest the folders whose id is another project's now; paused ones have no rounds to see it.

        Args:
            created: when each project of Label Studio was made, Unix seconds, by id.
        """
        for store in self.stores.all():
            card = store.card
            now = created.get(card.project_id) if card is not None else None
            if card is None or now is None or now == card.created_s:
                continue
            with store.lock() as held:
                if held:
                    self._park(store, ProjectReplaced(card.project_id, was=card.created_s, now=now))

    def register(self, project_id: int) -> ProjectStore | None:
        """The store of a project that says it is connected to us; None if Label Studio denies it.

        `/setup` may be called by anybody, so nothing in it is believed.
        """
        try:
            if not self._connected(project_id):
                return None
            return self._store(project_id)
        except ProjectGone:
            return None

    def _is_ours(self, project_id: int) -> bool:
        """Whether a project is connected to us; one that cannot be asked does not stop the rest."""
        try:
            return self._connected(project_id)
        except LabelStudioRefused as error:
            logger.warning("project %s is left out of the search: %s", project_id, error)
            return False

    def _connected(self, project_id: int) -> bool:
        connections = self.client.connections(project_id)
        found = find_connection(connections, self.settings.url, own_prefix=self.own_prefix)
        return found is not None

    def _store(self, project_id: int) -> ProjectStore:
        project = self.client.project(project_id)
        return self.stores.create(project.id, project.created_s, project.title)

    def connect(
        self,
        project_id: int,
        *,
        own_url: str | None,
        dry_run: bool,
        take_over: bool = False,
        consent: bool = True,
    ) -> ConnectionReport:
        """Connect a project completely; idempotent."""
        store = self._place(project_id)
        with self._held(store):
            outcome = connect(
                self.client,
                project_id,
                own_url=own_url or self.settings.url,
                basic_auth=self.settings.basic_auth,
                dry_run=dry_run,
                take_over=take_over,
                consent=consent,
                move=bool(own_url or self.settings.own_url),
                own_prefix=self.own_prefix,
                record=known_before(store),
                remember=None if dry_run else lambda record: remember(store, record),
            )
            if not dry_run and outcome.record is not None:
                settle(store, outcome.record)
                self._store(project_id)
                store.hint("changed")
        return outcome

    def disconnect(self, project_id: int, *, dry_run: bool) -> ConnectionReport:
        """Put back what connecting changed."""
        store = self._place(project_id)
        with self._held(store):
            outcome = disconnect(
                self.client,
                project_id,
                known_before(store),
                own_url=self.settings.url,
                dry_run=dry_run,
                own_prefix=self.own_prefix,
                pause_s=effective(self.settings, store).delete_pause_s,
                progress=lambda done, total, message="": store.note(
                    "disconnect", done, total, message
                ),
                begin=lambda: begin_leaving(store),
            )
            if not dry_run:
                leave(store)
        return outcome

    def _place(self, project_id: int) -> ProjectStore:
        """The folder of a project, whether there is one yet or not."""
        project = self.client.project(project_id)
        return self.stores.at(project.id, project.created_s)

    @contextlib.contextmanager
    def _held(self, store: ProjectStore) -> Iterator[None]:
        """Keep rounds away while a person connects or disconnects."""
        with store.lock() as free:
            if free:
                yield
                return
        # What is not urgent, deleting old scores for minutes above all, gives way to a hint.
        store.hint("changed")
        with store.held(wait_s=_LOCK_WAIT_S):
            yield

    # Rounds -----------------------------------------------------------------------------------

    def round(self, store: ProjectStore, *, reason: str) -> bool:
        """Work on a project until nothing is left to do.

        Label Studio being away, or an action failing, ends the round: what is published stays,
        the next rounds come with growing pauses, and `status` says what is wrong.

        Returns:
            False where another round holds the project, which will see what happened.
        """
        card = store.card
        if card is None:
            return True
        backoff = self._backoff.setdefault(store.key, _Backoff())
        if reason == "timer" and time.monotonic() < backoff.until:
            return True
        with store.lock() as held:
            if not held:
                return False
            worked = _Worked()
            before: dict[str, int] = {}
            context = self._context(store, card.project_id)
            try:
                before = dict(context.counts())
                self._work(context, worked, reason)
            except Stopped:
                logger.info("project %s: left as it is, the worker ends", card.project_id)
            except ProjectGone as error:
                self._park(store, error)
            except NotConnected as error:
                self._cut_off(store, error)
            except (BackendError, ModelError) as error:
                self._failed(context, backoff, worked, error)
            except Exception as error:
                # A defect in one action must not end the loop for all projects.
                trouble = disk_trouble(error)
                if trouble:
                    logger.error("project %s: round failed: %s", card.project_id, trouble)
                else:
                    logger.exception("project %s: round failed", card.project_id)
                    context.check_mirror()
                self._failed(context, backoff, worked, error)
            else:
                backoff.succeeded()
            finally:
                store.note("nothing")
            self._remember(context, worked, reason, before)
            if worked.seconds:
                give_back()
        return True

    def observe(self, store: ProjectStore) -> ProjectReport:
        """What the last round found, for `status`; reads only."""
        found = store.read("report.json", ProjectReport)
        if found is not None:
            return found
        card = store.card
        return ProjectReport(
            project_id=card.project_id if card else 0,
            title=card.title if card else "",
            at=datetime.now(UTC),
            label_studio="not looked at yet",
            next="sync: nothing is known yet",
        )

    def _context(self, store: ProjectStore, project_id: int) -> ProjectContext:
        if store.key not in self._contexts:
            self._contexts[store.key] = ProjectContext(
                self.settings, self.client, self.media, store, project_id
            )
            self._contexts[store.key].stopping = self._stopping
        return self._contexts[store.key]

    def _work(self, context: ProjectContext, worked: _Worked, reason: str) -> None:
        if reason == "timer":
            self._watch.look(context)
        synced = False
        steps = 0
        while steps < _MOST_STEPS:
            state = observe(context, synced=synced)
            step = plan(state, context.settings)
            if synced or state.paused:
                self._write_report(context, state, step)
            if step.step is None or self._stopping():
                break
            if step.idle and context.hinted():
                break  # the next round, which whoever hinted has asked for, looks first
            logger.debug("project %s: %s (%s)", context.project_id, step.step, step.why)
            context.store.note(step.step, 0, 0, step.why)
            began = time.monotonic()
            try:
                ACTIONS[step.step](context, step)
            finally:
                spent = time.monotonic() - began
                worked.seconds[step.step] = worked.seconds.get(step.step, 0.0) + spent
            synced = synced or step.step == "sync"
            steps += (
                not step.idle
            )  # those are many, a few images or scores each, and come to an end
        else:
            raise RuntimeError("a round did not come to an end; please report this")

    def _write_report(self, context: ProjectContext, state: State, step: Plan) -> None:
        context.store.write("report.json", report(context, state, step))

    def _park(self, store: ProjectStore, error: BackendError) -> None:
        """Label Studio has no such project, or another one under its id: its folder rests."""
        logger.warning("project folder %s rests: %s", store.key, error)
        park(store)
        self._forget(store)

    def _cut_off(self, store: ProjectStore, error: BackendError) -> None:
        """Not connected any more: the loop leaves the project."""
        logger.warning("project folder %s is left alone: %s", store.key, error)
        cut_off(store)
        self._forget(store)

    def _forget(self, store: ProjectStore) -> None:
        self._contexts.pop(store.key, None)
        self._backoff.pop(store.key, None)
        self._watch.forget(store.key)

    def _failed(
        self, context: ProjectContext, backoff: _Backoff, worked: _Worked, error: Exception
    ) -> None:
        worked.error = str(error) or type(error).__name__
        backoff.failed(self.settings.backoff_max_s)
        trouble = isinstance(error, LabelStudioUnavailable | Unauthorized)
        if isinstance(error, LabelStudioUnavailable):
            logger.warning("project %s: %s", context.project_id, worked.error)
        elif isinstance(error, BackendError | ModelError):
            logger.error("project %s: %s", context.project_id, worked.error)
        old = self.observe(context.store)
        update: dict[str, object] = {
            "at": datetime.now(UTC),
            "label_studio": worked.error if trouble else "reachable",
            "next": f"try again in {max(0.0, backoff.until - time.monotonic()):.0f} s",
        }
        if not trouble:
            update["problems"] = (*context.standing_problems(), worked.error)
        context.store.write("report.json", old.model_copy(update=update))

    def _remember(
        self, context: ProjectContext, worked: _Worked, reason: str, before: dict[str, int]
    ) -> None:
        """One line of history for each round that changed something."""
        if context.store.card is None:
            return  # the project was left in this round
        counts = dict(context.counts())
        acted = set(worked.seconds) - {"sync"}
        if not acted and not worked.error and counts == before:
            return
        tail, labels = set(context.tail.names), context.classes_by_task()
        rare = {task for task, classes in labels.items() if tail.intersection(classes)}
        publications = context.store.publications()
        served = publications.published
        judged, previous = served, publications.previous
        if "publish" in worked.seconds and previous is not None:
            judged = previous
        from_queue = [i for i in judged.task_ids if i in labels] if judged else []
        origins: dict[str, int] = {}
        for task_id in labels:
            origin = context.ledger.origin(task_id)
            origins[origin] = origins.get(origin, 0) + 1
        version = context.registry.active()
        context.store.append_history(
            RoundEntry(
                at=datetime.now(UTC),
                reason=reason,
                labels_by_class=counts,
                images_by_class=(
                    dict(context.images_by_class()) if context.sync.task == DETECTION else {}
                ),
                labels_by_origin=origins,
                rare_found=sum(len(tail.intersection(classes)) for classes in labels.values()),
                queue_labeled=len(from_queue),
                queue_rare=len(rare.intersection(from_queue)),
                queue_kind=judged.kind if judged else "",
                tail=tuple(context.tail.names),
                version=version.name if version else "",
                publication=served.name if served else "",
                seconds={step: round(spent, 3) for step, spent in worked.seconds.items()},
                error=worked.error,
            )
        )
