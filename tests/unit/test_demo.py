"""The demo's own parts: its data keeps the truth to itself, its verdict notices what is wrong."""

from __future__ import annotations

import io
import socket
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from demo import label_studio_process
from demo.annotator import chosen_digits, file_name
from demo.digits import SIDE_PX, DigitSet, choose_digits
from demo.label_studio_api import LabelStudioApi
from demo.ports import PortTakenError, free_port, require_free_port
from demo.project import resume_project
from demo.queue_watch import ServedQueue, reordered
from demo.report import Batch, RunReport, mean_and_spread
from demo.state import fresh_state, load_state, save_state
from demo.table import spread_lines, summary_table


@pytest.fixture(scope="module")
def digits() -> DigitSet:
    return choose_digits(0)


def test_two_digits_are_rare_in_the_pool_and_few_among_the_labels(digits: DigitSet) -> None:
    assert len(digits.rare) == 2
    assert digits.rare_in_pool == 30
    assert len(digits.seeds) == 160
    assert 1200 < len(digits.pool) < 1500
    counts = {d: sum(image.digit == d for image in digits.seeds) for d in map(str, range(10))}
    assert [counts[digit] for digit in digits.rare] == [4, 4]
    common = [count for digit, count in counts.items() if digit not in digits.rare]
    assert min(common) > 8
    assert max(common) > 1.5 * min(common)


def test_each_image_is_used_once_and_its_name_says_nothing(digits: DigitSet) -> None:
    images = digits.seeds + digits.pool
    assert len({image.name for image in images}) == len(images)
    ordered = sorted(images, key=lambda image: image.name)
    values = np.array([int(image.digit) for image in ordered])
    # Names and positions do not follow the digit: neighbours agree as often as chance has it.
    assert np.mean(values[1:] == values[:-1]) < 0.2
    pool = np.array([int(image.digit) for image in digits.pool])
    assert np.mean(pool[1:] == pool[:-1]) < 0.2


def test_images_are_large_enough_to_read_and_carry_no_metadata(digits: DigitSet) -> None:
    with Image.open(io.BytesIO(digits.pool[0].png)) as image:
        assert image.size == (SIDE_PX, SIDE_PX)
        assert image.info == {}
        assert np.asarray(image).std() > 20


def test_the_seed_decides_everything() -> None:
    assert choose_digits(3, pool_size=60) == choose_digits(3, pool_size=60)
    assert choose_digits(3, pool_size=60) != choose_digits(4, pool_size=60)
    assert len(choose_digits(3, pool_size=60).pool) == 60
    with pytest.raises(ValueError, match="pool_size 5000"):
        choose_digits(3, pool_size=5000)


def test_an_occupied_port_is_named_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"port {port}.*make demo PORT={port + 1}"):
            require_free_port(port, purpose="rarefirst", variable="PORT")
    assert require_free_port(0, purpose="rarefirst", variable="PORT") > 0
    port = free_port()
    assert require_free_port(port, purpose="rarefirst", variable="PORT") == port


def test_labels_are_read_back_without_skips() -> None:
    region = {"type": "choices", "value": {"choices": ["7"]}}
    task = {
        "annotations": [
            {"was_cancelled": False, "result": [region]},
            {"was_cancelled": True, "result": [region]},
            {"was_cancelled": False, "result": None},
        ]
    }
    assert chosen_digits(task) == ["7"]
    assert file_name("/data/upload/1/0a1b2c3d-scan-00ff.png") == "scan-00ff.png"


def test_an_order_is_new_only_if_what_is_left_comes_differently() -> None:
    before = ServedQueue("a", (1, 2, 3, 4))
    assert not reordered(before, ServedQueue("b", (3, 4)), {1, 2}, head=2)
    assert reordered(before, ServedQueue("b", (4, 3)), {1, 2}, head=2)
    assert not reordered(before, ServedQueue("b", (1, 2, 4, 3)), set(), head=2)


def _good_run() -> RunReport:
    batches = [Batch(n, 10 * n, 2, 2 * n, 0.2 * n, 2.0, True, f"v{n}") for n in range(1, 13)]
    served = ["6"] * 14 + ["7"] * 14 + ["1"] * 92
    return RunReport(0, 1, ("6", "7"), 1315, 30, 20.0, batches, served)


def test_a_good_run_passes_and_says_how_good() -> None:
    report = _good_run()
    assert report.failures() == []
    assert report.share_found == pytest.approx(28 / 30)
    assert report.random_share == pytest.approx(120 / 1315)
    assert report.rare_in_first_50 == 28
    assert report.as_json()["failures"] == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"served": ["6"] * 12 + ["7"] * 13 + ["1"] * 95}, "at least 85% are expected"),
        ({"served": ["1"] * 40 + ["6"] * 14 + ["7"] * 14}, "10 of the first 50"),
        ({"served": ["6"] * 28 + ["1"] * 92}, "rare digit 7 was never served"),
        ({"lost": 1}, "1 labels are not in Label Studio"),
        ({"served_twice": 2}, "2 tasks were served twice"),
        ({"problem": "no new order within 120 s"}, "no new order within 120 s"),
        (
            {"batches": [Batch(1, 10, 2, 2, 0.2, 2.0, False, "v")]},
            "the order did not change after batch 1",
        ),
    ],
)
def test_each_broken_promise_is_a_failure(change: dict[str, object], complaint: str) -> None:
    report = replace(_good_run(), **change)  # type: ignore[arg-type]  # one field at a time
    assert [text for text in report.failures() if complaint in text]


def test_tables_hold_every_run() -> None:
    reports = [_good_run(), replace(_good_run(), seed=1, lost=1)]
    assert summary_table(reports).row_count == 2
    assert "93.3 ± 0.0 %" in spread_lines(reports)[0]
    assert mean_and_spread([1.0, 3.0]) == pytest.approx((2.0, 2**0.5))
    assert mean_and_spread([1.0]) == (1.0, 0.0)


def test_state_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "demo" / "state.json"
    assert load_state(path) is None
    state = replace(fresh_state(), project=4, rare=("6", "7"))
    save_state(path, state)
    assert load_state(path) == state
    assert path.stat().st_mode & 0o077 == 0
    path.write_text("{")
    assert load_state(path) is None


class _FewProjects:
    """Label Studio with three projects, two of them without tasks."""

    def __init__(self) -> None:
        self.described = {1: "mine", 2: "made by run 7", 3: "made by run 7"}
        self.tasks = {1: 0, 2: 0, 3: 5}

    def projects_described(self, description: str) -> list[int]:
        return [i for i, text in self.described.items() if text == description]

    def task_count(self, project_id: int) -> int:
        return self.tasks[project_id]

    def delete_project(self, project_id: int) -> None:
        del self.described[project_id]


def test_a_project_that_a_killed_run_made_is_taken_up() -> None:
    studio = _FewProjects()
    api = cast(LabelStudioApi, studio)
    assert resume_project(api, "made by run 8") is None
    assert resume_project(api, "made by run 7") == 3
    assert set(studio.described) == {1, 3}, "only the one that was never filled goes"


def test_a_password_that_begins_with_a_dash_is_one_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "label-studio"
    program.parent.mkdir()
    program.touch()
    monkeypatch.setattr(label_studio_process, "ENVIRONMENT", tmp_path)
    login = label_studio_process.Login("me@example.com", "-secret", "-token")
    service = label_studio_process.label_studio(tmp_path, port=1, login=login, run_dir=tmp_path)
    assert "--password=-secret" in service.command
    assert not [part for part in service.command if part.startswith(("-s", "-t"))]
