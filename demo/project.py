"""The labeling project of the demo: made, filled, and its label stream ready to be re-ordered."""

from __future__ import annotations

from collections.abc import Sequence

from demo.digits import CLASSES, DigitImage, DigitSet
from demo.label_studio_api import LabelStudioApi
from demo.service import Progress

LABEL_CONFIG = (
    '<View><Image name="image" value="$image" zoom="true"/>'
    '<Choices name="digit" toName="image" choice="single" showInline="true">'
    + "".join(f'<Choice value="{digit}" hotkey="{digit}"/>' for digit in CLASSES)
    + "</Choices></View>"
)


def choice(digit: str) -> dict[str, object]:
    """The region that says: this image shows ``digit``."""
    return {
        "from_name": "digit",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [digit]},
    }


def create_digits_project(
    api: LabelStudioApi,
    digits: DigitSet,
    *,
    title: str,
    progress: Progress,
    description: str = "",
) -> int:
    """Create a project, upload the images and import them as tasks, the seeds with their label.

    The tasks come last and in one request: a project that has any is complete.

    Returns: the project's id.
    """
    project_id = api.create_project(title, LABEL_CONFIG, description=description)
    images = digits.seeds + digits.pool
    paths: dict[str, str] = {}
    step = 500
    for start in range(0, len(images), step):
        batch = images[start : start + step]
        paths.update(api.upload(project_id, [(image.name, image.png) for image in batch]))
        progress(f"uploaded {min(start + step, len(images))} of {len(images)} images")
    api.import_tasks(
        project_id,
        [
            *_tasks(digits.seeds, paths, labeled=True),
            *_tasks(digits.pool, paths, labeled=False),
        ],
    )
    return project_id


def resume_digits_project(api: LabelStudioApi, description: str) -> int | None:
    """The project that a killed run made and could not remember.

    One that was not filled any more is deleted.

    Args:
        api: Label Studio.
        description: what that run wrote into the project's description; nothing else has it.

    Returns: its id, or None where there is none that is complete.
    """
    complete = None
    for project_id in api.projects_described(description):
        if api.task_count(project_id):
            complete = project_id
        else:
            api.delete_project(project_id)
    return complete


def _tasks(
    images: Sequence[DigitImage], paths: dict[str, str], *, labeled: bool
) -> list[dict[str, object]]:
    """Tasks as Label Studio imports them; the truth goes in only where it is a label."""
    return [
        {
            "data": {"image": paths[image.name]},
            **({"annotations": [{"result": [choice(image.digit)]}]} if labeled else {}),
        }
        for image in images
    ]
