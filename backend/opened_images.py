"""Images that are opened when they are asked for, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, overload

from models.backbones.images import open_image

if TYPE_CHECKING:
    from PIL import Image


class OpenedImages(Sequence["Image.Image"]):
    """A row of images of which none stays in memory.

    Args:
        read: (row) -> the bytes of its file.
        count: how many there are.
        max_pixels: larger ones are refused.
    """

    def __init__(self, read: Callable[[int], bytes], count: int, *, max_pixels: int) -> None:
        self._read, self._count, self._max_pixels = read, count, max_pixels

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, row: int) -> Image.Image: ...

    @overload
    def __getitem__(self, row: slice) -> list[Image.Image]: ...

    def __getitem__(self, row: int | slice) -> Image.Image | list[Image.Image]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(self._count))]
        if not -self._count <= row < self._count:
            raise IndexError(f"found row {row} of {self._count} images")
        return open_image(self._read(row % self._count), max_pixels=self._max_pixels)
