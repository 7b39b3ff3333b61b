from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from backend.embedding import embed
from backend.errors import MediaError
from tests.unit.models.image_files import saved

PNG = saved(Image.new("RGB", (8, 8), "red"), "PNG")


class Flat:
    """A backbone whose features are the image's mean; it stumbles over what ``load`` marked."""

    feature_size = 1

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1).copy())

    def embed(self, images: torch.Tensor) -> tuple[np.ndarray, None]:
        return images.mean(dim=(1, 2, 3))[:, None].numpy(), None


def load(troubles: dict[int, Exception]) -> Callable[[int], bytes]:
    def one(image_id: int) -> bytes:
        if image_id in troubles:
            raise troubles[image_id]
        return PNG

    return one


def test_a_defect_is_logged_with_its_traceback_whatever_failed_before_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    troubles: dict[int, Exception] = {
        1: MediaError("a host is silent", retryable=True),
        2: KeyError("a defect"),
        3: ValueError("another"),
    }
    done = embed(Flat(), [1, 2, 3, 4], load(troubles), max_pixels=100)  # type: ignore[arg-type]
    assert done.ids.tolist() == [4]
    assert done.failures[1] == "a host is silent"
    assert done.failures[2] == "reading it failed (KeyError); the log says how"
    assert done.retryable == {1, 2, 3}
    (record,) = caplog.records  # once a chunk
    assert "image 2" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)
