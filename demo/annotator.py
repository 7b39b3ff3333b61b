"""An annotator who takes what the label stream serves and always knows the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from demo.label_studio_api import LabelStudioApi
from demo.project import Region, choice


@dataclass(frozen=True)
class Labeled:
    """One label that was given.

    Attributes:
        task: the task's id.
        answer: what was given, as the truth has it: a digit, or whatever stands for the regions.
        annotation: the id under which Label Studio keeps it.
    """

    task: int
    answer: str
    annotation: int


def one_choice(digit: str) -> list[Region]:
    """The regions of a digit."""
    return [choice(digit)]


class Annotator:
    """Labels one project through Label Studio's own label stream.

    Args:
        api: Label Studio as this person sees it.
        project_id: the project.
        truth: file name of each image to its answer. Only the labels that are given ever leave
            here.
        regions: what an answer is in Label Studio; a choice of a digit by default.
    """

    def __init__(
        self,
        api: LabelStudioApi,
        project_id: int,
        truth: Mapping[str, str],
        *,
        regions: Callable[[str], Sequence[Region]] = one_choice,
    ) -> None:
        self.api = api
        self.project_id = project_id
        self._truth = truth
        self._regions = regions

    def next_task(self) -> tuple[int, str] | None:
        """The task that Label Studio serves now and its true answer; None at the end.

        Asking again before labeling may give the same task: it is locked for this person.
        """
        answer = self.api.request("GET", f"/api/projects/{self.project_id}/next", expect=(200, 404))
        if answer.status_code == 404:
            return None
        task = answer.json()
        return int(task["id"]), self._truth[file_name(task["data"]["image"])]

    def submit(self, task: int, answer: str) -> Labeled:
        """Label one task."""
        stored = self.api.request(
            "POST",
            f"/api/tasks/{task}/annotations/",
            body={"result": list(self._regions(answer)), "lead_time": 1.0},
        )
        return Labeled(task, answer, int(stored.json()["id"]))

    def skip(self, task: int) -> None:
        """Skip one task, as the button does."""
        self.api.request(
            "POST", f"/api/tasks/{task}/annotations/", body={"result": [], "was_cancelled": True}
        )

    def label(self, count: int) -> list[Labeled]:
        """Label the next ``count`` tasks, fewer if the project ends before."""
        done = []
        for _ in range(count):
            served = self.next_task()
            if served is None:
                break
            done.append(self.submit(*served))
        return done


def file_name(path: str) -> str:
    """Our name of an uploaded image: Label Studio puts eight hex digits and a dash before it."""
    return path.rsplit("/", 1)[-1].split("-", 1)[1]


def chosen_digits(task: Mapping[str, object]) -> list[str]:
    """What a task, as Label Studio's API gives it, was labeled with; skips left out."""
    found: list[str] = []
    annotations = task["annotations"]
    assert isinstance(annotations, list)
    for annotation in annotations:
        if annotation.get("was_cancelled"):
            continue
        for region in annotation["result"] or ():
            found.extend(region["value"]["choices"])
    return found
