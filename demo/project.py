"""The labeling projects of the demo: made and filled, their label stream ready to be re-ordered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from demo.digits import CLASSES, DigitSet
from demo.label_studio_api import LabelStudioApi
from demo.service import Progress

Region = dict[str, object]

LABEL_CONFIG = (
    '<View><Image name="image" value="$image" zoom="true"/>'
    '<Choices name="digit" toName="image" choice="single" showInline="true">'
    + "".join(f'<Choice value="{digit}" hotkey="{digit}"/>' for digit in CLASSES)
    + "</Choices></View>"
)


@dataclass(frozen=True)
class Upload:
    """One picture on its way into a project.

    Attributes:
        name: file name.
        content: the encoded picture.
        regions: its label; None where it is to be labeled.
    """

    name: str
    content: bytes
    regions: Sequence[Region] | None = None


def choice(digit: str) -> Region:
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
    """Create a project of digits, the seeds with their label. Returns: the project's id."""
    uploads = [Upload(image.name, image.png, [choice(image.digit)]) for image in digits.seeds]
    uploads += [Upload(image.name, image.png) for image in digits.pool]
    return create_project(
        api, LABEL_CONFIG, uploads, title=title, progress=progress, description=description
    )


def create_project(
    api: LabelStudioApi,
    label_config: str,
    images: Sequence[Upload],
    *,
    title: str,
    progress: Progress,
    description: str = "",
) -> int:
    """Create a project, upload the images and import them as tasks, with labels where there are.

    The tasks come last and in one request: a project that has any is complete.

    Returns: the project's id.
    """
    project_id = api.create_project(title, label_config, description=description)
    paths: dict[str, str] = {}
    step = 500
    for start in range(0, len(images), step):
        batch = images[start : start + step]
        paths.update(api.upload(project_id, [(image.name, image.content) for image in batch]))
        progress(f"uploaded {min(start + step, len(images))} of {len(images)} images")
    api.import_tasks(project_id, [_task(image, paths[image.name]) for image in images])
    return project_id


def resume_project(api: LabelStudioApi, description: str) -> int | None:
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


def _task(image: Upload, path: str) -> dict[str, object]:
    """A task as Label Studio imports it; the truth goes in only where it is a label."""
    labeled = {} if image.regions is None else {"annotations": [{"result": list(image.regions)}]}
    return {"data": {"image": path}, **labeled}
