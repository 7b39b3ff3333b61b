"""The model versions of a project: look at them, activate an older one, delete what is not needed.

Reads and writes the files of the project's folder, beside a running worker and without Label
Studio. What a person wants is one small file (``pinned.json``); the loop brings it about.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from backend import pinning
from backend.errors import VersionRefused, shortened
from backend.heartbeat import STALE_S, heartbeat_age_s
from backend.jobs import Jobs
from backend.pinning import Pinned
from backend.projects import ProjectStore, ProjectStores, Publications
from backend.reconcile.ledger import Ledger
from backend.reconcile.state import BackboneState, LabelSnapshot, SyncState, snapshot_of
from backend.reports import ProjectReport, RoundEntry
from backend.settings import Settings
from models.errors import CorruptVersion
from models.registry import Version, VersionCard, VersionRegistry

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOCK_WAIT_S = 30.0
_VERSION = re.compile(r"-(v\d{4,})-[0-9a-f]+$")


class VersionRow(BaseModel):
    """One line of the list.

    Attributes:
        marks: of ``active``, ``pinned``, ``published``, ``previous``, ``candidate`` those that
            it is.
        labels: labels that it was fitted on.
        frozen_model: fingerprint of the frozen model, its first 16 hex digits.
        frozen_model_stored: that model is there, so that the version can be activated.
        damaged: why it cannot be used, empty where it is whole.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    marks: tuple[str, ...] = ()
    created_at: datetime | None = None
    kind: str = ""
    labels: int = 0
    tail: tuple[str, ...] = ()
    metrics: dict[str, float] = Field(default_factory=dict)
    frozen_model: str = ""
    frozen_model_stored: bool = False
    damaged: str = ""


class VersionList(BaseModel):
    """Every stored version, oldest first.

    Attributes:
        pinned: the version that a person activated, None where the loop follows the labels.
        released: why a pinned version was given up, empty where none was.
    """

    model_config = ConfigDict(frozen=True)

    project: int
    pinned: Pinned | None
    released: str = ""
    versions: tuple[VersionRow, ...] = ()


class PublicationRow(BaseModel):
    """One publication of a version.

    Attributes:
        state: ``published``, ``previous``, ``importing``, or ``over``.
        tasks: tasks in it; control: those of them that were drawn at random.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    state: str
    tasks: int
    control: int = 0
    published_at: datetime | None = None


class VersionDetail(BaseModel):
    """Everything that is kept of one version."""

    model_config = ConfigDict(frozen=True)

    project: int
    version: VersionRow
    card: VersionCard | None
    labels_by_class: dict[str, int] = Field(default_factory=dict)
    publications: tuple[PublicationRow, ...] = ()


class Activated(BaseModel):
    """What activating a version came to.

    Attributes:
        in_place: it is the active version now; else the loop makes it that with its next step.
        served: Label Studio serves its order already.
        paused: the project is paused: nothing is published before `rarefirst resume`.
        worker_alive: somebody is there to publish it.
        held_up: why the loop published nothing when it looked last, such as a model version that
            a person chose in Label Studio; empty where it may.
    """

    model_config = ConfigDict(frozen=True)

    project: int
    version: str
    pinned_at: datetime
    in_place: bool
    served: bool
    paused: bool
    worker_alive: bool
    held_up: str = ""


class Followed(BaseModel):
    """What following the labels again came to; ``version`` is what was pinned, None if none was."""

    model_config = ConfigDict(frozen=True)

    project: int
    version: str | None


class Deleted(BaseModel):
    """A version that is gone."""

    model_config = ConfigDict(frozen=True)

    project: int
    version: str


class VersionFolder:
    """The versions in one project's folder, for reading."""

    def __init__(self, store: ProjectStore) -> None:
        self.store = store
        self.registry = VersionRegistry(store.path("versions"))

    def load(self, name: str) -> Version:
        """One whole version.

        Raises:
            VersionRefused: where there is none of that name, or it is damaged.
        """
        names = self.registry.names
        if name not in names:
            known = ", ".join(names) or "none yet"
            raise VersionRefused(
                f"found no version {shortened(repr(name))}; expected one of {known}"
            )
        try:
            return self.registry.load(name)
        except CorruptVersion as error:
            raise VersionRefused(f"version {name} is damaged: {error}") from error

    def snapshot(self, version: Version) -> LabelSnapshot:
        """The labels that a version was fitted on.

        Raises:
            VersionRefused: where they cannot be read.
        """
        try:
            return snapshot_of(version)
        except (OSError, ValidationError) as error:
            raise VersionRefused(
                f"the labels of version {version.name} cannot be read ({type(error).__name__}); "
                "delete it"
            ) from error

    def row(self, version: Version) -> VersionRow:
        """What the list tells of a whole version."""
        card = version.card
        fingerprint = card.backbone_fingerprint[:16]
        return VersionRow(
            name=version.name,
            marks=self.marks(version.name),
            created_at=card.created_at,
            kind=card.kind,
            labels=len(self.snapshot(version).ids),
            tail=card.tail,
            metrics=dict(card.metrics),
            frozen_model=fingerprint,
            frozen_model_stored=self.store.path("backbones", fingerprint).is_dir(),
        )

    def marks(self, name: str) -> tuple[str, ...]:
        """What a version is to the project; one with a mark must not be deleted."""
        known = self.store.publications()
        active, pin = self.registry.active(), pinning.pinned(self.store)
        is_it = {
            "active": active is not None and active.name == name,
            "pinned": pin is not None and pin.version == name,
            "published": known.published is not None and known.published.version == name,
            "previous": known.previous is not None and known.previous.version == name,
            "candidate": known.candidate is not None and known.candidate.version == name,
        }
        return tuple(mark for mark, holds in is_it.items() if holds)


def list_versions(settings: Settings, project_id: int) -> VersionList:
    """Every stored version of a project.

    Raises:
        NotConnected: where the project is not connected.
    """
    store = _stores(settings).connected(project_id)
    folder = VersionFolder(store)
    rows = []
    for name in folder.registry.names:
        try:
            rows.append(folder.row(folder.load(name)))
        except VersionRefused as error:
            if name in folder.registry.names:  # else it was deleted while we looked
                rows.append(VersionRow(name=name, marks=folder.marks(name), damaged=str(error)))
    return VersionList(
        project=project_id,
        pinned=pinning.pinned(store),
        released=pinning.released(store),
        versions=tuple(rows),
    )


def show_version(settings: Settings, project_id: int, name: str) -> VersionDetail:
    """Everything that is kept of one version; of a damaged one, why it is damaged.

    Raises:
        NotConnected: where the project is not connected.
        VersionRefused: where there is no version of that name.
    """
    store = _stores(settings).connected(project_id)
    folder = VersionFolder(store)
    publications = _publications(store, name)
    try:
        version = folder.load(name)
        labels = folder.snapshot(version).counts()
    except VersionRefused as error:
        if name not in folder.registry.names:
            raise
        damaged = VersionRow(name=name, marks=folder.marks(name), damaged=str(error))
        return VersionDetail(
            project=project_id, version=damaged, card=None, publications=publications
        )
    return VersionDetail(
        project=project_id,
        version=folder.row(version),
        card=version.card,
        labels_by_class=dict(labels),
        publications=publications,
    )


def activate_version(settings: Settings, project_id: int, name: str) -> Activated:
    """Let a version be served from now on, and keep the loop from fitting another.

    The wish is written down first. It is carried out here where no round runs, and by the loop
    where one does, or where this process is killed.

    Raises:
        NotConnected: where the project is not connected.
        VersionRefused: where the version cannot be served; it is not pinned then.
    """
    from backend.reconcile.activation import put_in_place, usable

    jobs = Jobs(settings)
    store = jobs.stores.connected(project_id)
    folder = VersionFolder(store)
    sync = store.read("sync.json", SyncState) or SyncState()
    usable(store, folder.registry, name, sync=sync)
    pin = pinning.pin(store, name)
    with store.lock() as held:
        if held:
            # A round that ended just now may have pruned it, or read another label config.
            sync = store.read("sync.json", SyncState) or SyncState()
            try:
                version, state = usable(store, folder.registry, name, sync=sync)
            except VersionRefused as error:
                pinning.release(store, name, str(error))
                raise
            put_in_place(store, folder.registry, version, state)
    jobs.look(store)
    published = store.publications().published
    age = heartbeat_age_s(settings.data_dir)
    return Activated(
        project=project_id,
        version=name,
        pinned_at=pin.at,
        in_place=held,
        served=published is not None and published.version == name,
        paused=store.paused,
        worker_alive=age is not None and age < STALE_S,
        held_up=_held_up(store),
    )


def follow_labels(settings: Settings, project_id: int) -> Followed:
    """End what was activated by hand: the loop fits again when labels are new.

    Raises:
        NotConnected: where the project is not connected.
    """
    jobs = Jobs(settings)
    store = jobs.stores.connected(project_id)
    was = pinning.follow(store)
    jobs.look(store)
    return Followed(project=project_id, version=was.version if was else None)


def delete_version(settings: Settings, project_id: int, name: str) -> Deleted:
    """Delete a version that nothing needs, whole or damaged.

    Raises:
        NotConnected: where the project is not connected.
        VersionRefused: where there is no such version, or something needs it.
        Busy: where a round keeps the project for too long.
    """
    store = _stores(settings).connected(project_id)
    with store.held(wait_s=_LOCK_WAIT_S):
        folder = VersionFolder(store)
        if name not in folder.registry.names:
            folder.load(name)  # says which there are
        marks = folder.marks(name)
        if marks:
            raise VersionRefused(
                f"version {name} is {' and '.join(marks)}; only versions that nothing needs can be "
                "deleted: activate another one, or follow the labels, and wait until two newer "
                "queues were published"
            )
        folder.registry.delete(name)
    return Deleted(project=project_id, version=name)


def frozen_model_of(store: ProjectStore, version: Version) -> dict[str, JsonValue]:
    """What is known of the frozen model that a version was fitted on."""
    fingerprint = version.card.backbone_fingerprint
    about: dict[str, JsonValue] = {"fingerprint": fingerprint[:16]}
    written = version.card.config.get("frozen_model")
    if isinstance(written, dict):
        about |= written
    active = store.read("backbone.json", BackboneState)
    about["stored"] = store.path("backbones", fingerprint[:16]).is_dir()
    about["active"] = active is not None and active.fingerprint == fingerprint
    return about


def _publications(store: ProjectStore, version: str) -> tuple[PublicationRow, ...]:
    """Every publication of a version that was served or is on its way, oldest first."""
    known = store.publications()
    switched = _switched(store.history(RoundEntry))
    rows = []
    for name, (tasks, drawn) in Ledger(store.path("ledger.jsonl")).sizes().items():
        match = _VERSION.search(name)
        if match is None or match[1] != version:
            continue
        state, at = _state(known, name)
        rows.append(
            PublicationRow(
                name=name,
                state=state,
                tasks=tasks,
                control=drawn,
                published_at=at or switched.get(name),
            )
        )
    return tuple(rows)


def _state(known: Publications, name: str) -> tuple[str, datetime | None]:
    for state, publication in (
        ("published", known.published),
        ("previous", known.previous),
        ("importing", known.candidate),
    ):
        if publication is not None and publication.name == name:
            return state, publication.published_at
    return "over", None


def _switched(history: Sequence[RoundEntry]) -> dict[str, datetime]:
    """When a round ended that published a queue, by the queue's name."""
    found: dict[str, datetime] = {}
    for entry in history:
        if entry.publication:
            found.setdefault(entry.publication, entry.at.astimezone(UTC))
    return found


def _held_up(store: ProjectStore) -> str:
    """Why nothing was published when the loop looked last, in its own words."""
    report = store.read("report.json", ProjectReport)
    reasons = report.why_not if report is not None else ()
    return next((reason for reason in reasons if reason.startswith("nothing is published")), "")


def _stores(settings: Settings) -> ProjectStores:
    return ProjectStores(settings.data_dir, settings.label_studio_url)
