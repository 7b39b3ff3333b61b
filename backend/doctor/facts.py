"""What the checks look at: each thing is asked for once, when the first check needs it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from backend.instance import version_prefix
from backend.labelstudio.client import (
    Connection,
    LabelStudioClient,
    ProjectInfo,
    UserInfo,
    View,
    Webhook,
)
from backend.labelstudio.connection_record import ConnectionRecord, connections_to_us
from backend.labelstudio.inspection import Sight, look_at
from backend.marks import Marks
from backend.project_settings import ProjectSettings, effective, kept
from backend.projects import ProjectStore, ProjectStores, Publications
from backend.reports import ProjectReport
from backend.settings import Settings

#: Seconds: a Label Studio that hangs must not make the doctor hang. The second is for answers
#: too that wait for dead backends, 3 s for each.
SIGHT_S = 5.0
ANSWER_S = 12.0


class ServiceFacts:
    """The service and its Label Studio.

    Args:
        settings: the service's, as this environment has them.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def data_dir(self) -> Path:
        """Where everything is kept."""
        return self.settings.data_dir

    @cached_property
    def own_prefix(self) -> str:
        """What the model versions of this data directory begin with."""
        return version_prefix(self.data_dir)

    @cached_property
    def sight(self) -> Sight:
        """What answers at Label Studio's address."""
        return look_at(self.settings.label_studio_url, timeout_s=SIGHT_S)

    @cached_property
    def client(self) -> LabelStudioClient:
        """Label Studio with our token, without patience."""
        settings = self.settings
        return LabelStudioClient(
            settings.label_studio_url, settings.label_studio_api_key, timeout_s=ANSWER_S
        )

    @cached_property
    def user(self) -> UserInfo:
        """Whose the token is."""
        return self.client.whoami()

    @cached_property
    def stores(self) -> ProjectStores:
        """The folders of the projects."""
        return ProjectStores(self.data_dir, self.settings.label_studio_url)

    @property
    def marks(self) -> Marks:
        """Calls of which no project is known."""
        return Marks(self.data_dir)

    @cached_property
    def connected(self) -> tuple[int, ...]:
        """Ids of the projects that the loop serves."""
        cards = [store.card for store in self.stores.all()]
        return tuple(sorted({card.project_id for card in cards if card is not None}))


@dataclass(frozen=True)
class Called:
    """What came of having Label Studio call us.

    Attributes:
        connections: as Label Studio shows them after it called each.
        reached: a /setup for this project arrived here meanwhile.
    """

    connections: tuple[Connection, ...]
    reached: bool


class ProjectFacts:
    """One project, in Label Studio and here.

    Args:
        service: the service's facts.
        project_id: Label Studio's id.
    """

    def __init__(self, service: ServiceFacts, project_id: int) -> None:
        self.service = service
        self.id = project_id

    @property
    def client(self) -> LabelStudioClient:
        """Label Studio."""
        return self.service.client

    @cached_property
    def info(self) -> ProjectInfo:
        """The project's settings in Label Studio."""
        return self.client.project(self.id)

    @cached_property
    def store(self) -> ProjectStore:
        """Its folder, whether it is there yet or not."""
        return self.service.stores.at(self.info.id, self.info.created_s)

    @cached_property
    def settings(self) -> Settings:
        """The settings that count for it."""
        return effective(self.service.settings, self.store)

    @cached_property
    def own_settings(self) -> ProjectSettings:
        """What the connection's extra params came to."""
        return kept(self.store) or ProjectSettings()

    @cached_property
    def called(self) -> Called:
        """Connections, after Label Studio was made to call us: listing them does that."""
        # A project that the loop does not know yet is marked in the data directory.
        homes = [Marks(self.store.root), Marks(self.service.data_dir)]
        before = [marks.stamp("setup") for marks in homes]
        found = tuple(self.client.connections(self.id))
        # A worker of the web process may be a moment behind its own answer.
        for pause_s in (0.0, 0.1, 0.3):
            time.sleep(pause_s)
            if [marks.stamp("setup") for marks in homes] != before:
                return Called(found, reached=True)
        return Called(found, reached=False)

    @cached_property
    def ours(self) -> tuple[Connection, ...]:
        """The connections that lead to us, the one that counts first."""
        url, prefix = self.service.settings.url, self.service.own_prefix
        return tuple(connections_to_us(self.called.connections, url, own_prefix=prefix))

    @property
    def connection(self) -> Connection:
        """The one that counts; only after a check found that there is one."""
        return self.ours[0]

    @cached_property
    def record(self) -> ConnectionRecord | None:
        """What connecting found and set."""
        return self.store.read("connection.json", ConnectionRecord)

    @cached_property
    def webhooks(self) -> tuple[Webhook, ...]:
        """All webhooks of the project."""
        return tuple(self.client.webhooks(self.id))

    @property
    def hook_url(self) -> str:
        """Where our webhook must lead."""
        return self.connection.url.rstrip("/") + "/webhook"

    @cached_property
    def hooks(self) -> tuple[Webhook, ...]:
        """The webhooks that lead to us."""
        return tuple(hook for hook in self.webhooks if hook.url.rstrip("/") == self.hook_url)

    @cached_property
    def views(self) -> tuple[View, ...]:
        """The Data Manager's tabs."""
        return tuple(self.client.views(self.id))

    @cached_property
    def predictions(self) -> Mapping[str, int]:
        """Stored predictions by model version."""
        return self.client.model_versions(self.id)

    @cached_property
    def publications(self) -> Publications:
        """What we published."""
        return self.store.publications()

    @cached_property
    def model_version(self) -> str:
        """The project's model version, known after what we published.

        Read the other way round, a queue published meanwhile would look like a person's choice.
        """
        published, now = self.publications.published, self.info.model_version
        if published is None or now == published.name:
            return now
        return self.client.project(self.id).model_version

    @cached_property
    def report(self) -> ProjectReport | None:
        """What the loop found last."""
        return self.store.read("report.json", ProjectReport)

    @cached_property
    def marks(self) -> Marks:
        """When Label Studio called."""
        return Marks(self.store.root)

    @cached_property
    def newest_label_at(self) -> datetime | None:
        """When the newest annotation was made, by Label Studio's clock."""
        return self.client.newest_label_at(self.id)
