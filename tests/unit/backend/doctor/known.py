"""Facts that are known already: checks of these ask nobody."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from backend.doctor.facts import Called, ProjectFacts, ServiceFacts
from backend.doctor.finding import Finding
from backend.labelstudio.connection_record import SAMPLING, ConnectionRecord
from backend.labelstudio.event_hook import ACTIONS, with_login
from backend.labelstudio.inspection import Sight
from backend.labelstudio.records import Connection, ProjectInfo, View, Webhook
from backend.labelstudio.tab import TAB
from backend.settings import Settings
from tests.recorded import CREATED_S, PROJECT_ID

LOGIN = ("rarefirst", "secret")
OWN = "http://localhost:9090"
CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="c" toName="image">'
    '<Choice value="cat"/><Choice value="owl"/></Choices></View>'
)


class FakeClient:
    """Answers what a check asks Label Studio itself."""

    def __init__(self) -> None:
        self.refusals: dict[str, str] = {}
        self.tasks: list[tuple[int, dict[str, object]]] = []

    def address_refusal(self, project_id: int, url: str, *, of: str) -> str:
        return self.refusals.get(of, "")

    def some_tasks(self, project_id: int, count: int) -> list[tuple[int, dict[str, object]]]:
        return self.tasks[:count]


def service_facts(settings: Settings, /, **known: Any) -> ServiceFacts:
    """Facts of a service that is well but for what is given."""
    login = {"basic_auth_user": LOGIN[0], "basic_auth_pass": LOGIN[1]}
    facts = ServiceFacts(settings.model_copy(update={**login, **known.pop("settings", {})}))
    facts.__dict__.update({"sight": Sight("label_studio", "", "1.23.2", 0.0), **known})
    return facts


def our_name(settings: Settings, rest: str = "v0001-aaaa") -> str:
    """A model version of ours."""
    return ServiceFacts(settings).own_prefix + rest


def project_facts(settings: Settings, /, **known: Any) -> ProjectFacts:
    """Facts of a project that is well but for what is given."""
    service = known.pop("service", None) or service_facts(settings, client=FakeClient())
    facts = ProjectFacts(service, PROJECT_ID)
    version = service.own_prefix + "v0001-aaaa"
    connections = known.pop("connections", (connection(version),))
    hooks = known.pop("hooks", (webhook(),))
    facts.__dict__.update(
        {
            "info": info(version),
            "called": Called(connections, reached=True),
            "webhooks": hooks,
            "views": (View(id=1, data=dict(TAB)),),
            "predictions": {version: 3},
            "record": record(),
            "newest_label_at": None,
            **known,
        }
    )
    facts.__dict__.setdefault("model_version", facts.info.model_version)
    return facts


def info(version: str = "", **fields: object) -> ProjectInfo:
    return ProjectInfo.model_validate(
        {
            "id": PROJECT_ID,
            "title": "birds",
            "created_at": datetime.fromtimestamp(CREATED_S, UTC),
            "label_config": CONFIG,
            "sampling": SAMPLING,
            "model_version": version,
            "task_number": 9,
            "num_tasks_with_annotations": 50,
            **fields,
        }
    )


def connection(version: str, number: int = 1, **fields: object) -> Connection:
    return Connection.model_validate(
        {
            "id": number,
            "url": OWN,
            "title": "rarefirst",
            "model_version": version,
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": LOGIN[0],
            "state": "CO",
            **fields,
        }
    )


def webhook(number: int = 1, **fields: object) -> Webhook:
    return Webhook.model_validate(
        {
            "id": number,
            "url": OWN + "/webhook",
            "headers": with_login({}, LOGIN),
            "actions": ACTIONS,
            "send_for_all_actions": False,
            **fields,
        }
    )


def record(**fields: object) -> ConnectionRecord:
    return ConnectionRecord.model_validate(
        {
            "project_id": PROJECT_ID,
            "url": OWN,
            "connection_id": 1,
            "created": True,
            "title": "rarefirst",
            "webhook_id": 1,
            "view_id": 1,
            "view_created": True,
            "sampling_before": "Sequential sampling",
            "model_version_before": "",
            "connected_at": datetime.fromtimestamp(CREATED_S, UTC),
            **fields,
        }
    )


def severities(found: Iterable[Finding]) -> dict[str, str]:
    """Severity by code of everything that is not well."""
    return {finding.code: finding.severity for finding in found if finding.severity != "ok"}
