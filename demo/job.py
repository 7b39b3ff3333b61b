"""What a run of the demo labels: a project to make, the truth about it, and what is promised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from demo.annotator import chosen_digits, one_choice
from demo.digits import DigitSet
from demo.label_studio_api import LabelStudioApi
from demo.project import LABEL_CONFIG, Region, Upload, choice
from demo.report import RunReport


def _nothing_further(api: LabelStudioApi, project_id: int, report: RunReport) -> None:
    """Digits promise nothing but their order."""


@dataclass(frozen=True)
class Job:
    """Pictures to label, and who knows what is on them.

    Attributes:
        title: of the project.
        label_config: of the project.
        images: all of them, those labeled from the start with their regions.
        pool: how many are to be labeled.
        rare: what is rare.
        rare_in_pool: how many of the pool are rare.
        truth: file name to the right answer.
        regions: what an answer is in Label Studio.
        shows: what an answer counts as: its rarest class.
        answers: the answers that a task, as Label Studio's API gives it, was labeled with.
        report: of a run.
        look: looks at more than the order before each batch, and notes it in the report.
        environment: variables of our service that this kind of project wants.
        home: ending of the folder in which a run with a person is remembered.
        notes: what was done with the data, a line each.
        tips: what a person should look at, a line each.
        labels: tasks that a run without a person labels, unless told otherwise.
        first_queue_s: longest wait for the first order, in seconds.
    """

    title: str
    label_config: str
    images: Sequence[Upload]
    pool: int
    rare: tuple[str, ...]
    rare_in_pool: int
    truth: Mapping[str, str]
    regions: Callable[[str], Sequence[Region]]
    shows: Callable[[str], str]
    answers: Callable[[Mapping[str, object]], list[str]]
    report: type[RunReport]
    look: Callable[[LabelStudioApi, int, RunReport], None] = _nothing_further
    environment: Mapping[str, str] = field(default_factory=dict)
    home: str = ""
    notes: Sequence[str] = ()
    tips: Sequence[str] = ()
    labels: int = 120
    first_queue_s: float = 300.0


def digits_job(digits: DigitSet) -> Job:
    """Handwritten digits, two of them rare."""
    rare = " and ".join(digits.rare)
    return Job(
        title="Digits, two rare",
        label_config=LABEL_CONFIG,
        images=(
            *(Upload(image.name, image.png, [choice(image.digit)]) for image in digits.seeds),
            *(Upload(image.name, image.png) for image in digits.pool),
        ),
        pool=len(digits.pool),
        rare=digits.rare,
        rare_in_pool=digits.rare_in_pool,
        truth=digits.truth,
        regions=one_choice,
        shows=str,
        answers=chosen_digits,
        report=RunReport,
        notes=(f"digits {rare} are rare",),
        tips=(
            f'Press "Label All Tasks" and label a few: digits [bold]{rare}[/bold] are rare (about '
            f"one task in {len(digits.pool) / digits.rare_in_pool:.0f}), yet they come first.",
        ),
    )
