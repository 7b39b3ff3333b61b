"""The data that a simulation replays: images with known classes, and which of those are rare."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from backend.errors import BackendError
from backend.labelstudio.export import read_export
from backend.settings import Settings
from backend.simulation.images import LabeledImage, LabeledImages, read_folder, read_zip
from models.skewness import minority_classes
from models.types import ClassSpace, IntArray


class ExportOptions(BaseModel):
    """How an export is read; without meaning for folders and zip files.

    Attributes:
        images: where its images are; None: beside it.
        image_key: key of the image in ``task.data``; empty: the one there is.
        control: name of the ``Choices`` tag; empty: the one there is.
    """

    model_config = ConfigDict(frozen=True)

    images: Path | None = None
    image_key: str = ""
    control: str = ""


@dataclass(frozen=True)
class Data:
    """Images that can be read.

    Attributes:
        images: N of them.
        targets: (N,) class indices.
        classes: K names and the tail.
        tail_from: how the tail was found: named, or skewness.
    """

    images: tuple[LabeledImage, ...]
    targets: IntArray
    classes: ClassSpace
    tail_from: str

    @property
    def tail(self) -> dict[str, int]:
        """Class index of each tail class."""
        return {self.classes.names[k]: k for k in self.classes.tail}

    def counts(self, rows: IntArray | None = None) -> IntArray:
        """(K,) images of each class, of all or of those at ``rows``."""
        targets = self.targets if rows is None else self.targets[rows]
        return np.bincount(targets, minlength=self.classes.size)

    def by_name(self, counts: IntArray) -> dict[str, int]:
        """Counts of all classes under their names."""
        return dict(zip(self.classes.names, counts.tolist(), strict=True))

    def of_tail(self, counts: IntArray) -> dict[str, int]:
        """Counts of the tail classes under their names."""
        return {name: int(counts[number]) for name, number in self.tail.items()}


@contextmanager
def opened(dataset: Path, settings: Settings, export: ExportOptions) -> Iterator[LabeledImages]:
    """The images of whatever ``dataset`` is; readable while the context is open.

    Raises: BackendError: if it is nothing that can be read.
    """
    largest = settings.max_image_mb << 20
    if dataset.is_dir():
        yield read_folder(dataset, max_bytes=largest)
    elif not dataset.is_file():
        raise BackendError(f"{dataset} does not exist; name a folder, zip file or exported JSON")
    elif zipfile.is_zipfile(dataset):
        with read_zip(dataset, max_bytes=largest) as found:
            yield found
    else:
        yield read_export(
            dataset,
            images=export.images,
            image_key=export.image_key,
            control=export.control,
            max_bytes=largest,
        )


def class_names(dataset: Path, found: LabeledImages) -> list[str]:
    """The classes, sorted.

    Raises: BackendError: if there are fewer than two.
    """
    names = sorted({image.label for image in found.images})
    if len(names) > 1:
        return names
    left = "".join(f"; {count} {reason}" for reason, count in sorted(found.left_out.items()))
    if names:
        raise BackendError(
            f"all {len(found.images)} labeled images of {dataset} are {names[0]!r}, expected two "
            f"classes at least: nothing is rare among one{left}"
        )
    raise BackendError(
        f"found no labeled image in {dataset}{left}; expected class folders with images, or "
        "annotated tasks"
    )


def with_tail(
    images: Sequence[LabeledImage], names: Sequence[str], named: Sequence[str], settings: Settings
) -> Data:
    """Decide what is rare: what is named, else by skewness of all labels.

    Args:
        images: those that can be read.
        names: all classes, also of images that cannot.
        named: rare classes that a person named; empty: those of the settings.
        settings: tail classes, those that are none, and the threshold.
    Raises: BackendError: if images of two classes are not there, or the tail is none or all.
    """
    index = {name: number for number, name in enumerate(names)}
    targets = np.asarray([index[image.label] for image in images], dtype=np.int64)
    counts = np.bincount(targets, minlength=len(names))
    if np.count_nonzero(counts) < 2:
        raise BackendError(
            f"the {len(images)} images that can be read are of {np.count_nonzero(counts)} "
            "class(es), expected two at least"
        )
    wanted = named or settings.tail_classes
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise BackendError(
            f"found tail classes {', '.join(unknown)}, expected some of {', '.join(names)}"
        )
    unread = [name for name in wanted if not counts[index[name]]]
    if unread:
        raise BackendError(f"no image of {', '.join(unread)} can be read; nothing is there to find")
    is_rare = minority_classes(counts, settings.tail_threshold) & (counts > 0)
    tail = set(wanted) or {name for name, rare in zip(names, is_rare, strict=True) if rare}
    tail -= set(settings.not_tail_classes)
    shown = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
    if not tail:
        raise BackendError(
            f"no class is rare: each has {settings.tail_threshold:g} of an average class's images "
            f"or more ({shown}); name the rare ones with --tail"
        )
    if len(tail) == len(names):
        raise BackendError(f"every class is in the tail ({shown}); leave the common ones out")
    return Data(
        images=tuple(images),
        targets=targets,
        classes=ClassSpace(tuple(names), tuple(sorted(index[name] for name in tail))),
        tail_from="named" if wanted else "skewness",
    )
