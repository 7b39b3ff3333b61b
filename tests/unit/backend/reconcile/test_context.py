from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from backend.mirror import MirroredTask, uri_digest
from backend.projects import ProjectStore
from backend.reconcile.context import ProjectContext
from backend.reconcile.state import BackboneState
from backend.settings import Settings


@pytest.fixture
def context(tmp_path: Path) -> ProjectContext:
    """Six tasks, of which 1 to 5 have features; that of 4 are of an image it no longer has."""
    folder = tmp_path / "projects" / "1-a"
    folder.mkdir(parents=True)
    nobody = cast(Any, None)
    made = ProjectContext(
        Settings.model_validate({"data_dir": tmp_path}), nobody, nobody, ProjectStore(folder), 1
    )
    made.store.write("backbone.json", BackboneState(fingerprint="f", how="given", source="s"))
    made.mirror.upsert([MirroredTask(i, f"/{i}.png") for i in range(1, 7)])
    _embed(made, [3, 1, 2, 5, 4], changed={4})
    return made


def _embed(context: ProjectContext, ids: list[int], changed: Collection[int] = ()) -> None:
    digests = [uri_digest("old" if i in changed else f"/{i}.png") for i in ids]
    vectors = np.asarray(ids, dtype=np.float32)[:, None] * np.ones((1, 4), dtype=np.float32)
    context.mirror.add_features(
        "f", ids=np.asarray(ids), digests=digests, vectors=vectors, logits=None
    )
    context.forget_features()


def test_embedded_rows_are_compared_once_for_the_same_tables(context: ProjectContext) -> None:
    rows = context.embedded_rows()
    assert rows.tolist() == [0, 1, 2, 4]
    assert context.embedded_rows() is rows
    _embed(context, [4])
    assert context.embedded_rows().tolist() == [0, 1, 2, 3, 4]
    context.mirror.remove([1])
    context.forget_tasks()
    assert context.tasks().ids[context.embedded_rows()].tolist() == [2, 3, 4, 5]


def test_examples_are_views_of_the_features_in_half_precision(context: ProjectContext) -> None:
    table = context.features()
    assert table is not None
    some = context.examples(context.embedded_rows())
    assert some.features is table.vectors
    assert some.features.dtype == np.float16
    assert some.dense().features[:, 0].tolist() == [1, 2, 3, 5]
    assert some.at is not None
    # All of them, in their order: not even rows are picked.
    whole = context.examples(np.arange(5))
    assert whole.at is None
    turned = context.examples(np.arange(5)[::-1])
    assert turned.dense().features[:, 0].tolist() == [5, 4, 3, 2, 1]
