"""Two versions side by side: what they are made of, and how alike they order what is unlabeled.

The orders are made from cached features, each version's from its own frozen model's: no image is
read, nothing is written, and Label Studio is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from backend.mirror import FeatureTable, TaskTable
from backend.mirror_reader import MirrorReader
from backend.project_settings import effective
from backend.projects import ProjectStores
from backend.reconcile.context import shown
from backend.reconcile.frozen_models import known_state
from backend.reconcile.order import draw_of, window
from backend.reconcile.state import LabelSnapshot
from backend.settings import Settings
from backend.version_differences import (
    LabelDifference,
    OrderLikeness,
    Overlap,
    Pair,
    config_of,
    label_difference,
    pairs,
)
from backend.versions import VersionFolder, VersionRow, frozen_model_of
from models.errors import ModelError
from models.recipes.load_miner import load_miner
from models.registry import Version
from models.types import FloatArray, RankedQueue

_FIRST = (10, 50)


class Comparison(BaseModel):
    """Two versions side by side."""

    model_config = ConfigDict(frozen=True)

    project: int
    a: VersionRow
    b: VersionRow
    metrics: dict[str, Pair]
    config: dict[str, Pair]
    frozen_model: dict[str, Pair]
    tail: Pair
    classes: Pair
    labels: LabelDifference
    order: OrderLikeness


def compare_versions(settings: Settings, project_id: int, a: str, b: str) -> Comparison:
    """Compare two versions of a project.

    Raises:
        NotConnected: where the project is not connected.
        VersionRefused: where one of them is not there or damaged.
        BackendError: where the mirror cannot be read.
    """
    store = ProjectStores(settings.data_dir, settings.label_studio_url).connected(project_id)
    folder = VersionFolder(store)
    first, second = folder.load(a), folder.load(b)
    snapshots = folder.snapshot(first), folder.snapshot(second)
    return Comparison(
        project=project_id,
        a=folder.row(first),
        b=folder.row(second),
        metrics=pairs(first.card.metrics, second.card.metrics),
        config=pairs(config_of(first), config_of(second)),
        frozen_model=pairs(frozen_model_of(store, first), frozen_model_of(store, second)),
        tail=Pair(a=list(first.card.tail), b=list(second.card.tail)),
        classes=Pair(a=list(first.card.classes), b=list(second.card.classes)),
        labels=label_difference(*snapshots),
        order=_likeness(effective(settings, store), folder, (first, second), snapshots),
    )


def spearman(a: FloatArray, b: FloatArray) -> float | None:
    """Rank correlation with ties at their mean rank; None where one is constant."""
    first, second = _ranks(np.asarray(a)), _ranks(np.asarray(b))
    if len(first) < 2 or first.std() == 0 or second.std() == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: NDArray[np.float64] = ends - (counts - 1) / 2
    return means[at]


def _likeness(
    settings: Settings,
    folder: VersionFolder,
    versions: tuple[Version, Version],
    snapshots: tuple[LabelSnapshot, LabelSnapshot],
) -> OrderLikeness:
    reader = MirrorReader(folder.store.path("mirror"))
    tasks = reader.tasks()
    if tasks is None:
        return OrderLikeness(why_not="nothing is mirrored yet")
    tables: dict[str, FeatureTable | None] = {}
    for version in versions:
        fingerprint = version.card.backbone_fingerprint
        if fingerprint not in tables:
            tables[fingerprint] = reader.features(fingerprint)
        if tables[fingerprint] is None:
            return OrderLikeness(
                why_not=f"nothing is embedded with the frozen model of {version.name} any more"
            )
    known = {fingerprint: table for fingerprint, table in tables.items() if table is not None}
    pool = tasks.ids[tasks.states == "unlabeled"]
    for table in known.values():
        pool = pool[np.isin(pool, tasks.ids[table.embedded(tasks)])]
    try:
        orders = [
            _order(settings, folder, version, snapshot, tasks, known, pool)
            for version, snapshot in zip(versions, snapshots, strict=True)
        ]
    except ModelError as error:
        return OrderLikeness(tasks=len(pool), why_not=str(error))
    (first, rare_a), (second, rare_b) = orders
    return OrderLikeness(
        tasks=len(pool),
        overlap=tuple(
            Overlap(
                first=places,
                common=len(set(first.ids[:places].tolist()) & set(second.ids[:places].tolist())),
            )
            for places in sorted({*_FIRST, settings.top_k})
        ),
        spearman=spearman(rare_a, rare_b),
    )


def _order(
    settings: Settings,
    folder: VersionFolder,
    version: Version,
    snapshot: LabelSnapshot,
    tasks: TaskTable,
    tables: Mapping[str, FeatureTable],
    pool: NDArray[np.int64],
) -> tuple[RankedQueue, FloatArray]:
    """The first places of a version's order over the pool, and the rarity of each of the pool."""
    miner = load_miner(version.path)
    table = tables[version.card.backbone_fingerprint]
    state = known_state(folder.store, version.card.backbone_fingerprint)
    ids = tasks.ids[table.embedded(tasks)]
    queue, judgement = window(
        miner,
        shown(table.examples(ids), state, version.card.classes),
        fitted_on=np.asarray(snapshot.ids, dtype=np.int64),
        open_ids=pool,
        size=max(*_FIRST, settings.top_k),
        draw=draw_of(version, settings),
        seed=version.card.seed,
    )
    return queue, judgement.rarity[np.searchsorted(judgement.ids, pool)]
