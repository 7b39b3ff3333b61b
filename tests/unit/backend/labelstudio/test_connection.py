from __future__ import annotations

import base64
import contextlib
import time

import pytest

from backend.errors import ConnectionIncomplete
from backend.labelstudio.client import Connection, LabelStudioClient
from backend.labelstudio.connection import (
    ACTIONS,
    ConnectionRecord,
    ConnectionReport,
    connect,
    disconnect,
    drift,
)
from backend.labelstudio.connection_record import connections_to_us
from tests.unit.backend.labelstudio.fake_label_studio import FakeLabelStudio

OWN = "http://localhost:9090"
LOGIN = ("rarefirst", "secret")
HEADER = "Basic " + base64.b64encode(b"rarefirst:secret").decode()


def states(report: ConnectionReport) -> dict[str, str]:
    return {step.what: step.state for step in report.steps}


def kept(report: ConnectionReport) -> ConnectionRecord:
    assert report.record is not None
    return report.record


def test_connect_sets_everything(label_studio: FakeLabelStudio, client: LabelStudioClient) -> None:
    report = connect(client, 1, own_url=OWN + "/", basic_auth=LOGIN)
    (connection,) = label_studio.connections.values()
    assert connection["url"] == OWN
    assert connection["basic_auth_user"] == "rarefirst"
    (hook,) = label_studio.webhooks.values()
    assert hook["url"] == OWN + "/webhook"
    assert hook["headers"] == {"Authorization": HEADER}
    assert hook["actions"] == list(ACTIONS)
    assert hook["send_for_all_actions"] is False
    assert label_studio.project["sampling"] == "Uncertainty sampling"
    (view,) = label_studio.views.values()
    assert view["data"]["title"] == "Rarest first"  # type: ignore[index]
    assert view["data"]["ordering"] == ["tasks:predictions_score"]  # type: ignore[index]
    assert states(report) == {
        "connection": "done",
        "webhook": "done",
        "sampling": "done",
        "model version": "kept",
        "tab": "done",
    }
    assert kept(report).sampling_before == "Sequential sampling"
    assert "secret" not in report.model_dump_json()
    assert HEADER not in report.model_dump_json()


def test_connecting_again_changes_nothing_and_remembers_what_was_before(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    first = kept(connect(client, 1, own_url=OWN, basic_auth=LOGIN))
    label_studio.writes.clear()
    again = connect(client, 1, own_url=OWN, basic_auth=LOGIN, record=first)
    assert label_studio.writes == []
    assert set(states(again).values()) == {"kept"}
    assert kept(again).model_copy(update={"connected_at": first.connected_at}) == first


def test_dry_run_writes_nothing(label_studio: FakeLabelStudio, client: LabelStudioClient) -> None:
    report = connect(client, 1, own_url=OWN, basic_auth=LOGIN, dry_run=True)
    assert label_studio.writes == []
    assert report.record is None
    assert states(report)["connection"] == "would"
    assert states(report)["sampling"] == "would"
    first = kept(connect(client, 1, own_url=OWN, basic_auth=LOGIN))
    label_studio.versions = {"rarefirst-1": 5}
    label_studio.writes.clear()
    report = disconnect(client, 1, first, own_url=OWN, dry_run=True)
    assert label_studio.writes == []
    assert set(states(report).values()) == {"would"}


@pytest.mark.parametrize("url", [OWN + "/", "http://backend.internal:9090"])
def test_a_connection_made_by_hand_is_completed_not_doubled(
    label_studio: FakeLabelStudio, client: LabelStudioClient, url: str
) -> None:
    number = label_studio.add_connection(
        url, "by hand", auth_method="BASIC_AUTH", basic_auth_user="rarefirst"
    )
    report = connect(client, 1, own_url=OWN, basic_auth=LOGIN, adopt_only=True)
    assert list(label_studio.connections) == [number]
    assert label_studio.connections[number]["url"] == url
    (hook,) = label_studio.webhooks.values()
    assert hook["headers"] == {"Authorization": HEADER}
    assert not kept(report).created
    assert kept(report).title == "by hand"
    assert kept(report).model_version_before == ""


def test_nothing_to_adopt(label_studio: FakeLabelStudio, client: LabelStudioClient) -> None:
    label_studio.setup_version = "yolo-7"
    label_studio.add_connection("http://yolo:9090", "yolo")
    label_studio.writes.clear()
    report = connect(client, 1, own_url=OWN, basic_auth=None, adopt_only=True)
    assert report.record is None
    assert states(report) == {"connection": "missing"}
    assert label_studio.writes == []


def test_a_dead_connection_moves_to_our_address(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    number = label_studio.add_connection("http://old:9090", "ours", state="DI")
    connect(client, 1, own_url=OWN, basic_auth=LOGIN)
    assert list(label_studio.connections) == [number]
    assert label_studio.connections[number]["url"] == OWN
    assert label_studio.connections[number]["auth_method"] == "BASIC_AUTH"
    assert [hook["url"] for hook in label_studio.webhooks.values()] == [OWN + "/webhook"]


@pytest.mark.parametrize("adopt_only", [False, True])
def test_a_connection_is_not_moved_to_a_guess(
    label_studio: FakeLabelStudio, client: LabelStudioClient, adopt_only: bool
) -> None:
    """Our web process may be stopped: the address, and its webhook, may be right."""
    number = label_studio.add_connection(
        "http://web.internal:9090",
        "ours",
        state="DI",
        auth_method="BASIC_AUTH",
        basic_auth_user=LOGIN[0],
    )
    label_studio.writes.clear()
    hooks = dict(label_studio.webhooks)
    report = connect(client, 1, own_url=OWN, basic_auth=LOGIN, adopt_only=adopt_only, move=False)
    assert label_studio.connections[number]["url"] == "http://web.internal:9090"
    assert set(label_studio.webhooks) == set(hooks)
    refused_by_the_real_one = f"PATCH /api/ml/{number}"
    assert refused_by_the_real_one not in label_studio.writes
    assert any("RAREFIRST_OWN_URL" in said for said in report.notes)
    assert kept(report).url == "http://web.internal:9090"


def test_connections_and_webhooks_come_oldest_first(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    """On PostgreSQL Label Studio lists what it wrote last at the end."""
    numbers = [label_studio.add_connection(f"http://10.0.0.{n}:9090", "x") for n in (1, 2, 3)]
    for rows in (label_studio.connections, label_studio.webhooks):
        oldest = min(rows)
        rows[oldest] = rows.pop(oldest)
    assert list(label_studio.connections) != numbers
    assert [connection.id for connection in client.connections(1)] == numbers
    hooks = [hook.url for hook in client.webhooks(1)]
    assert hooks == [f"http://10.0.0.{n}:9090/webhook" for n in (1, 2, 3)]


def test_an_address_that_webhooks_cannot_have_is_not_connected(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    with pytest.raises(ConnectionIncomplete, match="a host with a dot in its name"):
        connect(client, 1, own_url="http://web:9090", basic_auth=LOGIN)
    assert not label_studio.connections
    assert not label_studio.webhooks


def test_an_address_that_webhooks_cannot_have_is_served_by_the_timer(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    """Connected by hand: the queue is right all the same."""
    label_studio.add_connection("http://web:9090", "by hand", auth_method="BASIC_AUTH",
                                basic_auth_user=LOGIN[0])  # fmt: skip
    report = connect(client, 1, own_url="http://web:9090", basic_auth=LOGIN, adopt_only=True)
    (problem,) = report.problems
    assert "RAREFIRST_OWN_URL" in problem
    assert label_studio.project["sampling"] == "Uncertainty sampling"
    assert label_studio.connections


def test_without_consent_no_model_version_may_be_replaced(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    asked = kept(connect(client, 1, own_url=OWN, basic_auth=LOGIN))
    assert asked.replaceable_model_version is not None
    label_studio.project["model_version"] = "rarefirst"
    again = kept(connect(client, 1, own_url=OWN, basic_auth=LOGIN, record=asked, consent=False))
    assert again.replaceable_model_version == asked.replaceable_model_version
    fresh = kept(connect(client, 1, own_url=OWN, basic_auth=LOGIN, consent=False))
    assert fresh.replaceable_model_version is None


def test_a_403_that_connects_all_the_same_is_undone(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    label_studio.block_webhooks = True
    with pytest.raises(ConnectionIncomplete) as caught:
        connect(client, 1, own_url=OWN, basic_auth=None)
    assert "SSRF_PROTECTION_ENABLED=false" in str(caught.value)
    assert "ML_BLOCK_LOCAL_IP=false" in str(caught.value)
    assert label_studio.connections == {}
    assert label_studio.project["sampling"] == "Sequential sampling"
    assert label_studio.project["model_version"] == ""


def test_a_403_for_all_says_the_same(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    label_studio.block_all = True
    with pytest.raises(ConnectionIncomplete, match="SSRF_PROTECTION_ENABLED"):
        connect(client, 1, own_url=OWN, basic_auth=None)


def test_by_hand_without_webhook_works_by_the_timer(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    label_studio.block_webhooks = True
    label_studio.add_connection(OWN, "by hand")
    report = connect(client, 1, own_url=OWN, basic_auth=None, adopt_only=True)
    assert states(report)["webhook"] == "missing"
    assert "SSRF_PROTECTION_ENABLED" in report.problems[0]
    assert kept(report).webhook_id is None
    assert label_studio.project["sampling"] == "Uncertainty sampling"
    assert drift(client, kept(report)) == [
        "there is no webhook: new labels are seen by the timer only"
    ]


def test_a_lost_webhook_is_made_again(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    first = kept(connect(client, 1, own_url=OWN, basic_auth=LOGIN))
    label_studio.webhooks.clear()
    connect(client, 1, own_url=OWN, basic_auth=LOGIN, record=first)
    (hook,) = label_studio.webhooks.values()
    assert hook["actions"] == list(ACTIONS)
    assert hook["headers"] == {"Authorization": HEADER}


def test_a_header_of_somebody_else_survives(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    label_studio.add_connection(OWN, "by hand")
    (hook,) = label_studio.webhooks.values()
    hook["headers"] = {"X-Proxy": "1"}
    connect(client, 1, own_url=OWN, basic_auth=LOGIN)
    assert hook["headers"] == {"X-Proxy": "1", "Authorization": HEADER}


def test_disconnect_puts_everything_back(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    other = label_studio.add_connection("http://yolo:9090", "yolo", model_version="yolo-7")
    own_hooks = set(label_studio.webhooks)
    report = connect(client, 1, own_url=OWN, basic_auth=LOGIN, take_over=True)
    assert kept(report).replaceable_model_version == "yolo"
    assert any("yolo" in note for note in report.notes)
    label_studio.versions = {"rarefirst-1": 5, "yolo-7": 9}
    label_studio.project["model_version"] = "rarefirst-1"
    report = disconnect(client, 1, kept(report), own_url=OWN)
    assert set(states(report).values()) == {"done"}
    assert list(label_studio.connections) == [other]
    assert set(label_studio.webhooks) == own_hooks
    assert label_studio.views == {}
    assert label_studio.project["sampling"] == "Sequential sampling"
    assert label_studio.project["model_version"] == "yolo"
    assert label_studio.versions == {"yolo-7": 9}
    assert set(states(disconnect(client, 1, None, own_url=OWN)).values()) == {"kept"}


def test_another_backends_version_is_not_taken_unasked(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    label_studio.add_connection("http://yolo:9090", "yolo", model_version="yolo-7")
    report = connect(client, 1, own_url=OWN, basic_auth=None)
    assert kept(report).replaceable_model_version is None
    assert kept(report).model_version_before == "yolo"
    assert any("they stay until you say" in note for note in report.notes)


@pytest.mark.parametrize("times", [1, 2])
def test_a_connection_that_comes_back_while_it_is_deleted(
    label_studio: FakeLabelStudio,
    client: LabelStudioClient,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
) -> None:
    """Whoever lists connections meanwhile has Label Studio write the deleted one anew."""
    record = kept(connect(client, 1, own_url=OWN, basic_auth=LOGIN))
    row = dict(label_studio.connections[record.connection_id])
    hooks = dict(label_studio.webhooks)
    delete, deleted = client.delete_connection, []

    def lose(connection_id: int) -> None:
        delete(connection_id)
        deleted.append(connection_id)
        if len(deleted) <= times:
            label_studio.connections[connection_id] = row
            label_studio.webhooks.update(hooks)

    monkeypatch.setattr(client, "delete_connection", lose)
    disconnect(client, 1, record, own_url=OWN)
    assert deleted == [record.connection_id] * (times + 1)
    assert label_studio.connections == {}
    assert label_studio.webhooks == {}


def test_disconnect_leaves_what_a_person_changed(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    record = kept(connect(client, 1, own_url=OWN, basic_auth=None))
    label_studio.versions = {"mine": 3}
    label_studio.project.update(sampling="Uniform sampling", model_version="mine")
    report = disconnect(client, 1, record, own_url=OWN)
    assert label_studio.project["sampling"] == "Uniform sampling"
    assert label_studio.project["model_version"] == "mine"
    assert states(report)["sampling"] == states(report)["model version"] == "kept"


def test_disconnect_keeps_a_tab_that_was_there_before(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    label_studio.views[5] = {"id": 5, "data": {"title": "Rarest first"}}
    record = kept(connect(client, 1, own_url=OWN, basic_auth=None))
    assert record.view_id == 5
    disconnect(client, 1, record, own_url=OWN)
    assert list(label_studio.views) == [5]


def test_disconnect_when_the_version_before_is_gone(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    record = kept(connect(client, 1, own_url=OWN, basic_auth=None))
    record = record.model_copy(update={"model_version_before": "gone-1"})
    label_studio.versions = {"rarefirst-1": 1}
    label_studio.project["model_version"] = "rarefirst-1"
    report = disconnect(client, 1, record, own_url=OWN)
    assert label_studio.project["model_version"] == ""
    assert report.notes == ("the model version 'gone-1' no longer exists",)


def test_disconnect_without_record_says_what_it_cannot_know(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    connect(client, 1, own_url=OWN, basic_auth=None)
    report = disconnect(client, 1, None, own_url=OWN)
    assert label_studio.connections == label_studio.webhooks == label_studio.views == {}
    assert label_studio.project["sampling"] == "Uncertainty sampling"
    assert "not known" in report.notes[0]


def test_drift_names_what_a_person_changed(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    record = kept(connect(client, 1, own_url=OWN, basic_auth=None))
    assert drift(client, record) == []
    label_studio.writes.clear()
    label_studio.project["sampling"] = "Uniform sampling"
    label_studio.connections[record.connection_id]["title"] = "new name"
    next(iter(label_studio.webhooks.values()))["is_active"] = False
    label_studio.views.clear()
    found = drift(client, record)
    for word in ("Uniform sampling", "switched off", "Rarest first"):
        assert any(word in line for line in found), word
    assert len(found) == 3, "a new name changes nothing and is not worth a line"
    assert label_studio.writes == []
    label_studio.connections.clear()
    assert "the connection was deleted in Label Studio" in drift(client, record)


def test_a_record_survives_json() -> None:
    record = ConnectionRecord.model_validate(
        {
            "project_id": 1,
            "url": OWN,
            "connection_id": 2,
            "created": True,
            "title": "rarefirst",
            "webhook_id": None,
            "view_id": 3,
            "view_created": True,
            "sampling_before": "Sequential sampling",
            "model_version_before": "",
            "connected_at": "2026-11-21T06:00:00Z",
        }
    )
    assert ConnectionRecord.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize(
    ("now", "take_over", "replaceable"),
    [
        ("", False, "rarefirst"),  # Label Studio sets the title of the new connection
        ("rarefirst-3fa9c1-4", False, "rarefirst-3fa9c1-4"),
        ("rarefirst-000000-4", False, None),
        ("rarefirst-000000-4", True, "rarefirst-000000-4"),
    ],
)
def test_what_the_first_queue_may_replace(
    label_studio: FakeLabelStudio,
    client: LabelStudioClient,
    now: str,
    take_over: bool,
    replaceable: str | None,
) -> None:
    label_studio.project["model_version"] = now
    report = connect(
        client,
        1,
        own_url=OWN,
        basic_auth=None,
        take_over=take_over,
        own_prefix="rarefirst-3fa9c1-",
    )
    assert kept(report).replaceable_model_version == replaceable
    others = now.startswith("rarefirst-000000")
    assert kept(report).model_version_before == (now if others else "")
    assert any("--take-over" in note for note in report.notes) == (others and not take_over)


def test_connecting_again_serves_a_project_whose_predictions_were_switched_off(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    first = kept(connect(client, 1, own_url=OWN, basic_auth=None))
    first = first.model_copy(update={"replaceable_model_version": None})
    label_studio.project["model_version"] = ""
    adopted = connect(client, 1, own_url=OWN, basic_auth=None, record=first, adopt_only=True)
    assert kept(adopted).replaceable_model_version is None
    again = connect(client, 1, own_url=OWN, basic_auth=None, record=first)
    assert kept(again).replaceable_model_version == ""


class KilledError(Exception):
    """The process ended here."""


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_kill_at_any_point_forgets_nothing_that_was_before(
    label_studio: FakeLabelStudio, client: LabelStudioClient, by_hand: bool
) -> None:
    """Killed after the n-th write, for every n, then run again with what was remembered."""
    for limit in range(1, 5):
        if by_hand:
            label_studio.add_connection(OWN, "by hand")
        label_studio.writes.clear()
        remembered: list[ConnectionRecord] = []

        def remember(
            record: ConnectionRecord,
            keep: list[ConnectionRecord] = remembered,
            limit: int = limit,
        ) -> None:
            if len(label_studio.writes) >= limit:
                raise KilledError
            keep.append(record)

        with contextlib.suppress(KilledError):
            connect(client, 1, own_url=OWN, basic_auth=LOGIN, remember=remember)
        assert len(label_studio.writes) >= limit
        record = kept(connect(client, 1, own_url=OWN, basic_auth=LOGIN, record=remembered[-1]))
        assert record.sampling_before == "Sequential sampling", limit
        disconnect(client, 1, record, own_url=OWN)
        assert label_studio.project["sampling"] == "Sequential sampling"
        assert label_studio.views == label_studio.connections == label_studio.webhooks == {}
        assert label_studio.project["model_version"] == ""


def test_what_was_before_is_remembered_before_the_first_change(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    writes: list[int] = []
    told: list[ConnectionRecord] = []

    def remember(record: ConnectionRecord) -> None:
        writes.append(len(label_studio.writes))
        told.append(record)

    report = connect(client, 1, own_url=OWN, basic_auth=LOGIN, remember=remember)
    assert writes[0] == 0
    assert told[0].sampling_before == "Sequential sampling"
    assert told[-1] == kept(report)
    told.clear()
    connect(client, 1, own_url=OWN, basic_auth=LOGIN, remember=remember, dry_run=True)
    assert told == []


def test_a_connect_that_was_refused_does_not_freeze_what_was_before(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    told: list[ConnectionRecord] = []
    label_studio.block_all = True
    with pytest.raises(ConnectionIncomplete):
        connect(client, 1, own_url=OWN, basic_auth=None, remember=told.append)
    label_studio.block_all = False
    label_studio.project["sampling"] = "Uniform sampling"
    record = kept(connect(client, 1, own_url=OWN, basic_auth=None, record=told[-1]))
    assert record.sampling_before == "Uniform sampling"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"headers": {}}, "no Authorization header"),
        ({"headers": {"Authorization": "Basic b2xk"}}, "not ours"),
        ({"actions": ["TASKS_CREATED"]}, "does not report ANNOTATION_CREATED, "),
        ({"send_payload": False}, "no payload"),
    ],
)
def test_a_webhook_that_no_longer_works_is_drift(
    label_studio: FakeLabelStudio,
    client: LabelStudioClient,
    change: dict[str, object],
    said: str,
) -> None:
    record = kept(connect(client, 1, own_url=OWN, basic_auth=LOGIN))
    (hook,) = label_studio.webhooks.values()
    hook.update(headers={"authorization": HEADER, "X-Proxy": "1"})
    assert drift(client, record, basic_auth=LOGIN) == []
    hook.update(change)
    (line,) = drift(client, record, basic_auth=LOGIN)
    assert said in line
    assert "Basic" not in line
    connect(client, 1, own_url=OWN, basic_auth=LOGIN, record=record)
    assert drift(client, record, basic_auth=LOGIN) == []


def test_disconnect_deletes_scores_one_by_one(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    record = kept(connect(client, 1, own_url=OWN, basic_auth=None))
    label_studio.versions = {"rarefirst-1": 3, "rarefirst-2": 2, "mine": 1}
    label_studio.writes.clear()
    told: list[tuple[int, int]] = []
    began = time.monotonic()
    disconnect(
        client,
        1,
        record,
        own_url=OWN,
        pause_s=0.02,
        progress=lambda done, total, message="": told.append((done, total)),
    )
    assert time.monotonic() - began >= 5 * 0.02
    assert label_studio.versions == {"mine": 1}
    deleted = [write for write in label_studio.writes if "/predictions/" in write]
    assert len(deleted) == 5
    assert not any("model-versions" in write for write in label_studio.writes)
    assert label_studio.writes[-5:] == deleted  # everything else is put back before
    assert told == [(n, 5) for n in range(1, 6)]


def test_several_annotations_a_task_are_remarked(
    label_studio: FakeLabelStudio, client: LabelStudioClient
) -> None:
    label_studio.project["maximum_annotations"] = 2
    report = connect(client, 1, own_url=OWN, basic_auth=None)
    assert any("2 annotations a task" in note for note in report.notes)


MARK = "rarefirst-3fa9c1-"
THEIRS = "rarefirst-000000-"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([(7, OWN, "CO", MARK), (3, OWN, "CO", MARK)], [3, 7], id="the-oldest-counts"),
        pytest.param(
            [(3, OWN, "DI", ""), (7, "http://b:1", "CO", MARK)], [7, 3], id="an-answer-counts-more"
        ),
        pytest.param(
            [(3, OWN, "DI", MARK), (7, "http://b:1", "ER", MARK)], [3, 7], id="nobody-answers"
        ),
        pytest.param([(3, OWN + "/", "CO", "yolo-7")], [3], id="by-address"),
        pytest.param([(3, OWN, "CO", THEIRS)], [], id="another-rarefirst-at-our-address"),
        pytest.param([(3, OWN, "DI", THEIRS)], [3], id="which-is-not-there-any-more"),
        pytest.param([(3, "http://b:1", "CO", THEIRS)], [], id="another-rarefirst"),
        pytest.param([(3, "http://b:1", "CO", "yolo-7")], [], id="another-product"),
    ],
)
def test_which_connections_lead_to_us(
    rows: list[tuple[int, str, str, str]], expected: list[int]
) -> None:
    connections = [
        Connection(id=number, url=url, state=state, model_version=version)
        for number, url, state, version in rows
    ]
    for order in (connections, connections[::-1]):
        found = connections_to_us(order, OWN, own_prefix=MARK)
        assert [connection.id for connection in found] == expected
