"""The local mirror of one project: its tasks with their label vote, and their features.

Two kinds of LanceDB table: ``tasks`` (one row a task) and one ``features_*`` table for each
backbone that was ever active (append-only, the last row of an id counts). Label Studio is the
source of truth: a mirror that cannot be opened is set aside and read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import lancedb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.tasks import is_usable
from models.tasks.base import CLASSIFICATION
from models.types import Examples

if TYPE_CHECKING:
    from lancedb.db import DBConnection
    from lancedb.table import Table

logger = logging.getLogger(__name__)

#: ``other``: annotated, but with nothing made with a control that we serve.
LabelState = Literal["unlabeled", "labeled", "conflict", "skipped", "other"]

_TASKS = pa.schema(
    [
        ("id", pa.int64()),
        ("uri", pa.string()),
        ("uri_digest", pa.string()),
        ("state", pa.string()),
        ("label", pa.string()),
        ("annotations", pa.int32()),
    ]
)
#: What LanceDB raises for tables that are torn or gone.
UNREADABLE = (OSError, RuntimeError, ValueError)


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Let a panic of LanceDB's Rust code be a RuntimeError: damaged files make it panic.

    Raises:
        RuntimeError: LanceDB panicked.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        # Its class, RustPanic, is made inside LanceDB and has no place to be imported from.
        if type(error).__name__ != "RustPanic":
            raise
        raise RuntimeError(f"LanceDB gave up on damaged files: {error}") from error


# Of a connection. LanceDB's own limits are gigabytes, and each write leaves some 60 KB in there,
# which nobody asks for again once there is a newer version of the table.
_CACHED_BYTES = 4_000_000


def connected(path: Path) -> DBConnection:
    """A new connection to a mirror's tables; whatever another one remembers, it reads anew."""
    caches = lancedb.Session(
        index_cache_size_bytes=_CACHED_BYTES, metadata_cache_size_bytes=_CACHED_BYTES
    )
    return lancedb.connect(path, session=caches)


_COMPACT_EVERY = 50
_READ_ROWS = 8192
_KEEP_OLD = timedelta(minutes=1)  # longer than any reader holds a version open


def uri_digest(uri: str) -> str:
    """Sixteen hex digits that change when a task points to another image."""
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class MirroredTask:
    """One task as the mirror keeps it.

    Attributes:
        id: Label Studio's task id.
        uri: where its image is, as stored in ``task.data``; empty where there is none.
        state: what the vote over its annotations came to.
        label: the label that won, empty unless ``state`` is ``labeled``; of boxes their text
            (``models.detection.boxes.to_text``).
        annotations: annotations that count (skips left out).
    """

    id: int
    uri: str
    state: LabelState = "unlabeled"
    label: str = ""
    annotations: int = 0


@dataclass(frozen=True)
class TaskTable:
    """All mirrored tasks, column by column, ordered by id.

    Attributes:
        ids: (N,) int64.
        uris, digests, states, labels: (N,) arrays of str objects.
    """

    ids: NDArray[np.int64]
    uris: NDArray[np.object_]
    digests: NDArray[np.object_]
    states: NDArray[np.object_]
    labels: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.ids)

    def same_as(self, other: TaskTable) -> bool:
        """Whether another table holds the same, cell by cell."""
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("ids", "uris", "digests", "states", "labels")
        )

    def rows(self, *, state: LabelState) -> NDArray[np.int64]:
        """Rows of the tasks in one state."""
        return np.flatnonzero(self.states == state)

    def usable_labels(self, classes: Collection[str], task: str = CLASSIFICATION) -> dict[int, str]:
        """Labels that say something of some classes, by task id.

        Args:
            classes: the label config's.
            task: which kind of labels; see ``models.tasks``.
        """
        rows, known = self.rows(state="labeled"), frozenset(classes)
        return {
            int(self.ids[row]): str(self.labels[row])
            for row in rows
            if is_usable(task, self.labels[row], known)
        }


@dataclass(frozen=True)
class FeatureTable:
    """Features of the tasks that have them, ordered by id, one row an id.

    Attributes:
        ids: (N,) int64.
        digests: (N,) str objects: which image the features are of.
        vectors: (N, D) float16.
        logits: (N, W) float32, what else the frozen model says of each, or None where it says
            nothing: W = K logits of a classifier, or J * (6 + K) numbers of J detections.
    """

    ids: NDArray[np.int64]
    digests: NDArray[np.object_]
    vectors: NDArray[np.float16]
    logits: NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.ids)

    def embedded(self, tasks: TaskTable) -> NDArray[np.int64]:
        """Rows of the tasks that have features of the image they point to now, ascending."""
        if not len(self) or not len(tasks):
            return np.empty(0, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.ids, tasks.ids), len(self) - 1)
        return np.flatnonzero((self.ids[at] == tasks.ids) & (self.digests[at] == tasks.digests))

    def examples(self, ids: NDArray[np.int64]) -> Examples:
        """A view of the tasks named, ascending, which must be here: nothing is copied."""
        at = np.searchsorted(self.ids, ids)
        whole = len(at) == len(self) and bool((np.diff(at) == 1).all())
        return Examples(ids, self.vectors, self.logits, at=None if whole else at)


class Mirror:
    """The mirror of one project. Open it after a fork, not before."""

    def __init__(self, path: Path, *, keep_old: timedelta = _KEEP_OLD) -> None:
        self.path = path
        self._keep_old = keep_old
        self._open()
        # A worker that is killed again and again would else never come to a compaction.
        self._writes = sum(1 for _ in path.glob("*.lance/_versions/*.manifest"))

    def _open(self) -> None:
        try:
            self._db = connected(self.path)
            with panics_as_errors():
                self._tasks = self._table("tasks", _TASKS)
                self._tasks.count_rows()
        except UNREADABLE as error:
            self.set_aside(error)

    def set_aside(self, error: Exception) -> None:
        """Move an unreadable mirror out of the way and begin an empty one."""
        aside = self.path.with_name(f"{self.path.name}.unreadable-{time.time_ns()}")
        logger.error("mirror %s cannot be read and is set aside: %s", self.path, error)
        for older in self.path.parent.glob(f"{self.path.name}.unreadable-*"):
            shutil.rmtree(older, ignore_errors=True)
        if self.path.exists():
            self.path.rename(aside)
        self._db = connected(self.path)
        self._tasks = self._table("tasks", _TASKS)

    def _names(self) -> list[str]:
        names: list[str] = []
        token: str | None = None
        while True:
            page = self._db.list_tables(page_token=token)
            names += page.tables
            token = page.page_token
            if not token:
                return names

    def _table(self, name: str, schema: pa.Schema) -> Table:
        return self._db.create_table(name, schema=schema, exist_ok=True)

    # Tasks ------------------------------------------------------------------------------------

    def upsert(self, tasks: Sequence[MirroredTask]) -> None:
        """Add or replace tasks by id."""
        if not tasks:
            return
        last = {task.id: task for task in tasks}
        rows = [
            {
                "id": task.id,
                "uri": task.uri,
                "uri_digest": uri_digest(task.uri),
                "state": task.state,
                "label": task.label,
                "annotations": task.annotations,
            }
            for task in last.values()
        ]
        data = pa.Table.from_pylist(rows, schema=_TASKS)
        if self._tasks.count_rows() == 0:
            self._tasks.add(data)
        else:
            (
                self._tasks.merge_insert("id")
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .execute(data)
            )
        self._written()

    def remove(self, ids: Iterable[int]) -> None:
        """Forget tasks that Label Studio no longer has."""
        gone = sorted(ids)
        for start in range(0, len(gone), 500):
            some = ", ".join(str(int(i)) for i in gone[start : start + 500])
            self._tasks.delete(f"id IN ({some})")
        if gone:
            self._written()

    def tasks(self) -> TaskTable:
        """Every mirrored task."""
        with panics_as_errors():
            self._tasks.checkout_latest()  # type: ignore[no-untyped-call]
            return task_table(self._tasks)

    def on_disk(self) -> TaskTable:
        """Every mirrored task as the files hold it now; a table that is open is not read again.

        Raises:
            OSError, RuntimeError, ValueError: they cannot be read.
        """
        with panics_as_errors():
            return task_table(connected(self.path).open_table("tasks"))

    def check(self) -> None:
        """Read every table from its files.

        Raises:
            OSError, RuntimeError, ValueError: one cannot be read.
        """
        self.on_disk()
        with panics_as_errors():
            disk = connected(self.path)
            for name in self._names():
                if name.startswith("features_"):
                    feature_table(disk.open_table(name))

    # Features ---------------------------------------------------------------------------------

    def add_features(
        self,
        fingerprint: str,
        *,
        ids: NDArray[np.int64],
        digests: Sequence[str],
        vectors: NDArray[np.floating],
        logits: NDArray[np.floating] | None,
    ) -> None:
        """Append features (N, D) and what else one frozen model says, (N, W)."""
        width = vectors.shape[1]
        classes = 0 if logits is None else logits.shape[1]
        schema = _feature_schema(width, classes)
        columns: list[pa.Array] = [
            pa.array(ids, pa.int64()),
            pa.array(list(digests), pa.string()),
            _matrix(vectors.astype(np.float16), pa.float16()),
        ]
        if logits is not None:
            columns.append(_matrix(logits.astype(np.float32), pa.float32()))
        self._table(feature_name(fingerprint), schema).add(pa.table(columns, schema=schema))
        self._written(feature_name(fingerprint))

    def features(self, fingerprint: str) -> FeatureTable | None:
        """The features of one backbone, or None where nothing was embedded with it yet."""
        name = feature_name(fingerprint)
        if name not in self._names():
            return None
        with panics_as_errors():
            return feature_table(self._db.open_table(name))

    def drop_features_except(self, keep: Iterable[str]) -> None:
        """Drop the features of backbones that are no longer used."""
        kept = {feature_name(fingerprint) for fingerprint in keep}
        for name in self._names():
            if name.startswith("features_") and name not in kept:
                self._db.drop_table(name)

    # Upkeep -----------------------------------------------------------------------------------

    def _written(self, name: str = "tasks") -> None:
        self._writes += 1
        if self._writes % _COMPACT_EVERY == 0:
            self.compact()

    def compact(self) -> None:
        """Merge small files and drop old table versions (Lance keeps every one otherwise)."""
        for name in self._names():
            self._db.open_table(name).optimize(cleanup_older_than=self._keep_old)
        self._tasks.checkout_latest()  # type: ignore[no-untyped-call]


def task_table(table: Table, *, only: str = "") -> TaskTable:
    """All rows of a ``tasks`` table, or ``only`` those of which a condition holds."""
    found = table.search().where(only).limit(None).to_arrow() if only else table.to_arrow()
    rows = found.sort_by("id")
    return TaskTable(
        ids=rows["id"].to_numpy().astype(np.int64),
        uris=_strings(rows["uri"]),
        digests=_strings(rows["uri_digest"]),
        states=_strings(rows["state"]),
        labels=_strings(rows["label"]),
    )


def feature_table(table: Table) -> FeatureTable:
    """The rows of a ``features_*`` table that count: of an id the last one.

    Read in batches into their places, so that the features are in memory once.
    """
    ids = table.search().select(["id"]).to_arrow()["id"].to_numpy()
    unique = np.unique(ids.astype(np.int64))
    names = table.schema.names
    digests = np.empty(len(unique), dtype=object)
    arrays: dict[str, NDArray[np.floating]] = {
        name: np.empty(
            (len(unique), table.schema.field(name).type.list_size),
            dtype=table.schema.field(name).type.value_type.to_pandas_dtype(),
        )
        for name in ("vector", "logits")
        if name in names
    }
    for batch in table.search().select(names).to_batches(_READ_ROWS):
        at = np.searchsorted(unique, batch["id"].to_numpy())
        digests[at] = batch["digest"].to_pylist()
        for name, array in arrays.items():
            flat = batch[name].flatten().to_numpy(zero_copy_only=False)
            array[at] = flat.reshape(len(at), -1)
    return FeatureTable(
        ids=unique,
        digests=digests,
        vectors=arrays["vector"],
        logits=arrays.get("logits"),
    )


def feature_name(fingerprint: str) -> str:
    """Name of the table that holds a frozen model's features."""
    return f"features_{fingerprint[:16]}"


def _feature_schema(width: int, classes: int) -> pa.Schema:
    fields = [
        ("id", pa.int64()),
        ("digest", pa.string()),
        ("vector", pa.list_(pa.float16(), width)),
    ]
    if classes:
        fields.append(("logits", pa.list_(pa.float32(), classes)))
    return pa.schema(fields)


def _matrix(values: NDArray[np.floating], kind: pa.DataType) -> pa.Array:
    """(N, D) as a fixed-size list column."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind)
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _strings(column: pa.ChunkedArray) -> NDArray[np.object_]:
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values
