"""The stand-in answers our client as docs/label-studio.md says that Label Studio does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from aiohttp import web

from backend.errors import LabelStudioRefused, NotFound
from backend.labelstudio.client import LabelStudioClient, PredictionItem
from benchmarks.stand_in.pictures import Pictures
from benchmarks.stand_in.server import make_app
from demo.annotator import Annotator
from demo.label_studio_api import LabelStudioApi
from demo.ports import free_port
from models.backbones.images import open_image

TASKS, LABELED = 1_203, 5


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    port, started = free_port(), threading.Event()
    loop = asyncio.new_event_loop()

    async def begin() -> web.AppRunner:
        runner = web.AppRunner(make_app(TASKS, LABELED), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        started.set()
        return runner

    def run() -> None:
        runner = loop.run_until_complete(begin())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(30)
    yield f"http://127.0.0.1:{port}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.fixture(scope="module")
def client(url: str) -> LabelStudioClient:
    return LabelStudioClient(url, "a" * 40)


def scores(version: str, *ids: int) -> list[PredictionItem]:
    """Scores of tasks in the order in which they are to be served."""
    return [
        PredictionItem(task=i, score=0.1 + 0.01 * place, model_version=version)
        for place, i in enumerate(ids)
    ]


def test_it_is_read_page_by_page(client: LabelStudioClient) -> None:
    project = client.project(1)
    assert project.task_number == TASKS
    assert [found.id for found in client.projects()] == [1]
    tasks = list(client.tasks(1))
    assert [task.id for task in tasks] == list(range(1, TASKS + 1))
    assert sum(bool(task.annotations) for task in tasks) == LABELED
    assert client.task_ids(1) == set(range(1, TASKS + 1))
    known = Pictures(TASKS).classes
    assert tasks[0].annotations[0].result[0]["value"] == {"choices": [known[0]]}


def test_pictures_are_small_and_whole(url: str, client: LabelStudioClient) -> None:
    with client.download("/data/upload/1/scan-00000007.jpg") as answer:
        picture = open_image(answer.content, max_pixels=10_000)
    assert picture.size == (32, 32)
    with client.download("/data/upload/1/again-2/scan-00000007.jpg") as answer:
        assert open_image(answer.content, max_pixels=10_000).size == (32, 32)


def test_a_label_is_a_change_and_the_lowest_score_is_next(
    url: str, client: LabelStudioClient
) -> None:
    api = LabelStudioApi(url, "a" * 40)
    newest = max(task.updated_at for task in client.tasks(1))
    assert client.import_predictions(1, scores("rarefirst-a", 900, 17, 42)) == 3
    with pytest.raises(LabelStudioRefused, match="exist"):
        client.update_project(1, model_version="never imported")
    client.update_project(1, model_version="rarefirst-a", sampling="Uncertainty sampling")
    truth = {f"{i + 1:08d}.jpg": kind for i, kind in enumerate(Pictures(TASKS).classes)}
    annotator = Annotator(api, 1, truth)
    served = annotator.next_task()
    assert served is not None
    assert served[0] == 900
    assert annotator.next_task() == served  # shown until it is labeled
    assert [label.task for label in annotator.label(2)] == [900, 17]
    changed = list(client.tasks(1, updated_after=newest))
    assert {task.id for task in changed} == {900, 17}
    overlapping = client.tasks(1, updated_after=newest - timedelta(milliseconds=1))
    assert {900, 17, TASKS} <= {task.id for task in overlapping}
    api.close()


def test_predictions_are_listed_and_deleted_one_by_one(client: LabelStudioClient) -> None:
    client.import_predictions(1, scores("rarefirst-b", 5, 6, 7))
    assert client.model_versions(1)["rarefirst-b"] == 3
    assert client.predicted_tasks(1, "rarefirst-b") == [5, 6, 7]
    first, *rest = client.prediction_ids(1, "rarefirst-b")
    client.delete_prediction(first)
    assert client.prediction_ids(1, "rarefirst-b") == rest
    with pytest.raises(NotFound):
        client.delete_prediction(first)
    with pytest.raises(LabelStudioRefused):
        client.import_predictions(1, scores("rarefirst-c", TASKS + 1))
