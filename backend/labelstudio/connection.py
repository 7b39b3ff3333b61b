"""Connecting a project: every setting in Label Studio that rare-first labeling needs, once.

Idempotent: what is already there is adopted, not made again. What a person changes afterwards is
reported by ``drift`` and left alone; ``disconnect`` puts back what ``connect`` found.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from backend.errors import AddressBlocked, AddressUnusable, ConnectionIncomplete
from backend.labelstudio.client import Connection, LabelStudioClient, ProjectInfo, Webhook
from backend.labelstudio.connection_notes import (
    ANOTHER,
    BLOCKED,
    UNREACHED,
    UNUSABLE,
    others_version,
    remarks,
    shown_by_others,
)
from backend.labelstudio.connection_record import (
    CONNECTED,
    SAMPLING,
    VERSION_PREFIX,
    ConnectionRecord,
    ConnectionReport,
    Step,
    StepState,
    connections_to_us,
    find_connection,
    of_another_rarefirst,
    rarefirst_mark,
    same_address,
)
from backend.labelstudio.disconnection import disconnect
from backend.labelstudio.drift import drift
from backend.labelstudio.event_hook import ACTIONS, described, with_login
from backend.labelstudio.tab import TAB, TAB_TITLE

__all__ = [
    "ACTIONS",
    "ConnectionRecord",
    "ConnectionReport",
    "Step",
    "connect",
    "disconnect",
    "drift",
    "find_connection",
]

logger = logging.getLogger(__name__)

Remember = Callable[[ConnectionRecord], None]

TITLE = "rarefirst"
_UNANSWERED = "DI"


def connect(
    client: LabelStudioClient,
    project_id: int,
    *,
    own_url: str,
    basic_auth: tuple[str, str] | None,
    dry_run: bool = False,
    adopt_only: bool = False,
    succeed: bool = False,
    take_over: bool = False,
    consent: bool = True,
    move: bool = True,
    record: ConnectionRecord | None = None,
    own_prefix: str = VERSION_PREFIX,
    remember: Remember | None = None,
) -> ConnectionReport:
    """Make a project rare-first, or complete a connection that was made by hand.

    Args:
        client: Label Studio.
        project_id: which project.
        own_url: our address as Label Studio reaches it.
        basic_auth: user and password that our endpoints ask for, also put into the webhook.
        dry_run: only look, and say what would be done.
        adopt_only: complete an existing connection, but make none; a webhook that cannot be had
            is then a problem in the report, not an error, since the loop also works by its timer.
        succeed: the connection that counted was deleted and another one that leads to us takes its
            place: only its login and webhook are completed, and what a person changed stays.
        take_over: the project's model version may be replaced even if it is somebody else's.
        consent: a person asks for the project to be connected, which says that the queue may take
            the place of a model version that is ours or nobody's.
        move: ``own_url`` is known, not guessed: a connection through which nothing answers, and
            that leads elsewhere, is given it. One that is right must not be lost to a guess while
            the web process is stopped.
        record: of an earlier connect: what it found before us stays what it was.
        own_prefix: what the model versions of this service begin with.
        remember: told what was found before the first change, and again after each that adds to
            it; given back as ``record`` after a kill, it is what was there before us. Not called
            in a dry run.

    Raises:
        ConnectionIncomplete: Label Studio refuses our address. What was begun is undone.
        LabelStudioRefused: it refuses for another reason, which is given.
    """
    connecting = _Connecting(
        client,
        project_id,
        own_url.rstrip("/"),
        basic_auth,
        dry_run,
        move,
        record,
        own_prefix,
        remember,
    )
    return connecting.run(
        adopt_only=adopt_only or succeed, succeed=succeed, take_over=take_over, consent=consent
    )


class _Connecting:
    """The steps of one connect, and what they found."""

    def __init__(
        self,
        client: LabelStudioClient,
        project_id: int,
        own_url: str,
        basic_auth: tuple[str, str] | None,
        dry_run: bool,
        move: bool,
        record: ConnectionRecord | None,
        own_prefix: str,
        remember: Remember | None,
    ) -> None:
        self.client = client
        self.project_id = project_id
        self.own_url = own_url
        self.basic_auth = basic_auth
        self.dry_run = dry_run
        self.move = move
        self.earlier = record
        self.own_prefix = own_prefix
        self.remember = remember
        self.record: ConnectionRecord | None = None
        self.steps: list[Step] = []
        self.notes: list[str] = []
        self.problems: list[str] = []

    def run(
        self, *, adopt_only: bool, succeed: bool, take_over: bool, consent: bool
    ) -> ConnectionReport:
        project = self.client.project(self.project_id)
        connections = self.client.connections(self.project_id)
        ours = connections_to_us(connections, self.own_url, own_prefix=self.own_prefix)
        connection = ours[0] if ours else None
        created = connection is None
        if connection is None and adopt_only:
            self._step("connection", "none", "none", state="missing")
            return self._report()
        self._keep(self._found(project, connection))
        connection = self._create(connections) if connection is None else self._complete(connection)
        if connection is not None:
            self._note(connection_id=connection.id, url=connection.url, title=connection.title)
        webhook = self._webhook(connection, created, adopt_only)
        self._note(webhook_id=None if webhook is None else webhook.id)
        self._further_webhooks(connection, ours[1:])
        if succeed:
            return self._report()
        self._sampling(project)
        self._model_version(project, connection)
        self._tab()
        self.notes += remarks(project, connections, ours, connection, own_prefix=self.own_prefix)
        said = (consent or take_over) and not adopt_only
        self._consent(project, connection, created, said=said, take_over=take_over)
        return self._report()

    def _consent(
        self,
        project: ProjectInfo,
        connection: Connection | None,
        created: bool,
        *,
        said: bool,
        take_over: bool,
    ) -> None:
        """Say whose predictions the project shows, and note whether ours may take their place."""
        version = others_version(project, connection, self.own_prefix)
        if version:
            self.notes.append(shown_by_others(self.project_id, version, take_over=take_over))
        if said and connection is not None and not self.dry_run:
            # Whoever connects a project wants it served, unless somebody else serves it.
            now = self.client.project(self.project_id) if created else project
            if take_over or not others_version(now, connection, self.own_prefix):
                self._note(replaceable_model_version=now.model_version)

    def _found(self, project: ProjectInfo, connection: Connection | None) -> ConnectionRecord:
        """What there is before the first change; what an earlier connect found counts more."""
        earlier = self.earlier
        found = ConnectionRecord(
            project_id=self.project_id,
            url=self.own_url if connection is None else connection.url,
            connection_id=0 if connection is None else connection.id,
            created=connection is None or (earlier is not None and earlier.created),
            title=TITLE if connection is None else connection.title,
            webhook_id=None,
            view_id=None,
            view_created=earlier is not None and earlier.view_created,
            sampling_before=project.sampling,
            model_version_before=others_version(project, connection, self.own_prefix),
            connected_at=datetime.now(UTC),
        )
        if earlier is None:
            return found
        # One that did not get as far as a connection changed nothing else: newer counts more.
        begun = earlier.connection_id != 0
        kept: dict[str, object] = {}
        if begun or project.sampling == SAMPLING:
            kept["sampling_before"] = earlier.sampling_before
        if begun or not found.model_version_before:
            kept["model_version_before"] = earlier.model_version_before
        kept["replaceable_model_version"] = earlier.replaceable_model_version
        return found.model_copy(update=kept)

    def _note(self, **news: object) -> None:
        """Add to what is known."""
        if self.record is not None:
            changed = self.record.model_copy(update=news)
            if changed != self.record:
                self._keep(changed)

    def _keep(self, record: ConnectionRecord) -> None:
        """Have the caller keep what is known."""
        if self.dry_run:
            return
        self.record = record
        if self.remember is not None:
            self.remember(record)

    def _create(self, others: Sequence[Connection]) -> Connection | None:
        """A new connection, None in a dry run."""
        for other in others:
            if same_address(other.url, self.own_url):
                raise self._another(other)
        if self.dry_run:
            self._step("connection", "none", self.own_url)
            return None
        # Label Studio tells connections apart by their title where it lists model versions.
        taken = any(other.title == TITLE for other in others)
        mark = self.own_prefix.removeprefix(VERSION_PREFIX).rstrip("-")
        title = f"{TITLE} {mark}" if taken and mark else TITLE
        try:
            connection = self.client.create_connection(
                self.project_id, self.own_url, title=title, basic_auth=self.basic_auth
            )
        except AddressBlocked as error:
            # With one of the two protections off, Label Studio answers 403 and connects.
            for half in self.client.connections(self.project_id):
                if same_address(half.url, self.own_url):
                    self.client.delete_connection(half.id)
            raise ConnectionIncomplete(BLOCKED.format(url=self.own_url)) from error
        if connection.state == CONNECTED and of_another_rarefirst(
            connection.model_version, self.own_prefix
        ):
            self._undo(connection)
            raise self._another(connection)
        self._step("connection", "none", f"{connection.url} ({connection.title})")
        return connection

    def _undo(self, connection: Connection) -> None:
        """Take back a connection that was just made, with the webhook that came with it."""
        self._forget_webhooks(connection.url)
        self.client.delete_connection(connection.id)
        self._note(connection_id=0)

    def _another(self, connection: Connection) -> ConnectionIncomplete:
        """What answers at our address is not us."""
        mark = rarefirst_mark(connection.model_version)
        return ConnectionIncomplete(ANOTHER.format(mark=mark, url=connection.url))

    def _complete(self, connection: Connection) -> Connection:
        """An existing connection, with our address and password where they are not right."""
        dead_elsewhere = connection.state != CONNECTED and not same_address(
            connection.url, self.own_url
        )
        wrong_address = dead_elsewhere and self.move
        if dead_elsewhere and not self.move:
            self.notes.append(UNREACHED.format(url=connection.url, own_url=self.own_url))
        wrong_login = self.basic_auth is not None and (
            connection.auth_method != "BASIC_AUTH"
            or connection.basic_auth_user != self.basic_auth[0]
            # Whether the password is right is not seen where nothing answers, and Label Studio
            # refuses to change a connection to such an address.
            or connection.state not in (CONNECTED, _UNANSWERED)
        )
        url = self.own_url if wrong_address else connection.url
        before = f"{connection.url} ({connection.title})"
        if not wrong_address and not wrong_login:
            self._step("connection", before, before, state="kept")
            return connection
        if not self.dry_run:
            if wrong_address:
                self._forget_webhooks(connection.url)
            connection = self.client.update_connection(
                connection.id, project_id=self.project_id, url=url, basic_auth=self.basic_auth
            )
        login = " with our user name and password" if wrong_login else ""
        self._step("connection", before, f"{url} ({connection.title}){login}")
        return connection

    def _forget_webhooks(self, old_url: str) -> None:
        """Webhooks of an address that nobody answers at: each event would cost annotators time."""
        for hook in self.client.webhooks(self.project_id):
            if hook.url == old_url.rstrip("/") + "/webhook":
                self.client.delete_webhook(hook.id)

    def _webhook(
        self, connection: Connection | None, created: bool, adopt_only: bool
    ) -> Webhook | None:
        """The webhook, with our header and our actions."""
        wanted = f"{len(ACTIONS)} actions" + (", Authorization" if self.basic_auth else "")
        if connection is None:
            self._step("webhook", "none", wanted)
            return None
        url = _webhook_url(connection)
        found = [hook for hook in self.client.webhooks(self.project_id) if hook.url == url]
        if not found:
            return self._make_webhook(connection, url, wanted, created, adopt_only)
        return self._right(found[0], wanted)

    def _right(self, webhook: Webhook, wanted: str) -> Webhook:
        """A webhook that is there, with our header and our actions."""
        headers = with_login(webhook.headers, self.basic_auth)
        right = (
            webhook.is_active
            and webhook.send_payload
            and not webhook.send_for_all_actions
            and set(webhook.actions) == set(ACTIONS)
            and webhook.headers == headers
        )
        before = described(webhook)
        if right:
            self._step("webhook", before, before, state="kept")
            return webhook
        if not self.dry_run:
            webhook = self.client.update_webhook(webhook, headers=headers, actions=ACTIONS)
        self._step("webhook", before, wanted)
        return webhook

    def _further_webhooks(self, first: Connection | None, further: Sequence[Connection]) -> None:
        """Webhooks of further connections to us: without our login each event would be refused."""
        done = {"" if first is None else _webhook_url(first)}
        hooks = self.client.webhooks(self.project_id) if further else []
        for connection in further:
            url = _webhook_url(connection)
            for hook in hooks:
                if hook.url == url and url not in done:
                    self._right(hook, f"{len(ACTIONS)} actions")
            done.add(url)

    def _make_webhook(
        self, connection: Connection, url: str, wanted: str, created: bool, adopt_only: bool
    ) -> Webhook | None:
        if self.dry_run:
            self._step("webhook", "none", wanted)
            return None
        try:
            webhook = self.client.create_webhook(
                self.project_id, url, headers=with_login({}, self.basic_auth), actions=ACTIONS
            )
        except (AddressBlocked, AddressUnusable) as error:
            words = BLOCKED if isinstance(error, AddressBlocked) else UNUSABLE
            message = words.format(url=connection.url)
            if adopt_only:
                logger.warning("project %s: no webhook: %s", self.project_id, message)
                self.problems.append(message)
                self._step("webhook", "none", "none", state="missing")
                return None
            if created:
                self.client.delete_connection(connection.id)
                self._note(connection_id=0)
            raise ConnectionIncomplete(message) from error
        self._step("webhook", "none", wanted)
        return webhook

    def _sampling(self, project: ProjectInfo) -> None:
        if project.sampling == SAMPLING:
            self._step("sampling", SAMPLING, SAMPLING, state="kept")
            return
        if not self.dry_run:
            self.client.update_project(self.project_id, sampling=SAMPLING)
        self._step("sampling", project.sampling, SAMPLING)

    def _model_version(self, project: ProjectInfo, connection: Connection | None) -> None:
        """Left as it is: Label Studio takes a version only once it has predictions."""
        now = project.model_version or (connection.title if connection else "")
        self._step("model version", now, now, state="kept")
        if not now or (connection and now == connection.title):
            self.notes.append("the model version follows with the first published queue")

    def _tab(self) -> None:
        for view in self.client.views(self.project_id):
            if view.title == TAB_TITLE:
                self._step("tab", TAB_TITLE, TAB_TITLE, state="kept")
                self._note(view_id=view.id)
                return
        self._step("tab", "none", TAB_TITLE)
        if not self.dry_run:
            # Said first: a kill in between must not leave a tab that nobody takes away.
            self._note(view_id=None, view_created=True)
            self._note(view_id=self.client.create_view(self.project_id, TAB).id)

    def _step(self, what: str, before: str, after: str, *, state: StepState | None = None) -> None:
        """Note a step; without a state it is a change, done or only announced."""
        state = state or ("would" if self.dry_run else "done")
        self.steps.append(Step(what=what, before=before, after=after, state=state))

    def _report(self) -> ConnectionReport:
        return ConnectionReport(
            project_id=self.project_id,
            dry_run=self.dry_run,
            steps=tuple(self.steps),
            notes=tuple(self.notes),
            problems=tuple(self.problems),
            record=self.record,
        )


def _webhook_url(connection: Connection) -> str:
    return connection.url.rstrip("/") + "/webhook"
