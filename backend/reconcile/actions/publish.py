"""Publish: the head of the queue carries the active version's scores in Label Studio.

The order of steps is forced by Label Studio (a version must exist before the switch) and by
kills: a name is used for one import only, so whatever a killed round left behind is abandoned
and made again under a fresh name, never imported twice.
"""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from backend.errors import LabelStudioRefused, PublishError
from backend.instance import version_prefix
from backend.labelstudio.client import PredictionItem
from backend.preannotation import shown
from backend.projects import Publication, Publications, PublishedScores
from backend.queue_scores import queue_scores
from backend.reconcile.actions import embed
from backend.reconcile.context import ProjectContext
from backend.reconcile.ledger import DrawNote
from backend.reconcile.made_with import publication_settings
from backend.reconcile.order import Window, control_ids, draw_notes, draw_of, window
from backend.reconcile.ownership import ownership
from backend.reconcile.plan import Plan
from backend.reconcile.state import snapshot_of
from backend.why_rare import HEAD, HeadWhy, newest_of_tail, why_rare
from models.recipes.fit_detection_miner import DetectionMiner
from models.recipes.fit_miner import Miner
from models.recipes.load_miner import load_miner
from models.registry import Version
from models.tasks.base import FittedMiner, LabeledTexts
from models.types import Examples, Judgement, RankedQueue

logger = logging.getLogger(__name__)

_KEEP_SCORES = 3


def run(context: ProjectContext, plan: Plan) -> None:
    """Import the scores under a new name, compare what was created, switch."""
    version = context.registry.active()
    if version is None:
        raise RuntimeError("the plan asked to publish before Fit made a version")
    _settle_candidate(context)
    context.ledger.condense()
    context.store.note("publish", 0, 3, "ranking the pool")
    miner = load_miner(version.path)
    rows = context.embedded_rows()
    examples = context.examples(rows)
    ranked, judged = _window(context, version, miner, examples, rows)
    scores = _scores(context, judged, ranked)
    publication = Publication(
        name=_fresh_name(context, version),
        version=version.name,
        kind=miner.kind,
        state="importing",
        created_at=datetime.now(UTC),
        task_ids=tuple(int(i) for i in ranked.ids),
        control_ids=control_ids(ranked),
        labels=len(context.labels()),
        embedded=len(rows),
        tail=version.card.tail,
        settings=publication_settings(context),
    )
    why = _why(context, version, miner, examples, ranked)
    draws = _draws(context, version, ranked, examples.ids)
    _import(context, publication, scores, version, draws, why)


def _fresh_name(context: ProjectContext, version: Version) -> str:
    """A name that no publication of the project ever had: scores may still lie under an old one."""
    known = context.store.publications()
    while True:
        name = version_prefix(context.settings.data_dir) + f"{version.name}-{_mark()}"
        if name in known.leftovers or context.ledger.knows(name):
            continue
        if not context.store.path("publications", name).exists():
            return name


def _mark() -> str:
    return secrets.token_hex(3)


def _draws(
    context: ProjectContext, version: Version, queue: Window, ids: NDArray[np.int64]
) -> list[DrawNote]:
    """What the ledger keeps of the control slice.

    While images of a later import are still being embedded, its tasks cannot be drawn alike.
    """
    before = context.ledger.newest_drawn()
    newest = int(context.tasks().ids.max())
    if before is not None and len(embed.missing_rows(context, labeled=False)):
        newest = min(newest, before)
    return draw_notes(queue, draw_of(version, context.settings), examples=ids, newest=newest)


def _window(
    context: ProjectContext,
    version: Version,
    miner: FittedMiner,
    examples: Examples,
    rows: NDArray[np.int64],
) -> tuple[Window, Judgement]:
    """What of the version's order is to be published: its first unlabeled tasks; all judged."""
    settings, tasks = context.settings, context.tasks()
    return window(
        miner,
        examples,
        fitted_on=np.asarray(snapshot_of(version).ids, dtype=np.int64),
        open_ids=tasks.ids[rows[tasks.states[rows] == "unlabeled"]],
        size=settings.top_k,
        draw=draw_of(version, settings),
        seed=version.card.seed,
    )


def _why(
    context: ProjectContext,
    version: Version,
    miner: Miner | DetectionMiner,
    examples: Examples,
    ranked: RankedQueue,
) -> HeadWhy:
    """Why the tasks of the queue's head stand there, from the features that were just ranked."""
    tasks, labels = context.tasks(), context.labels()
    known = newest_of_tail(context.classes_by_task(), version.card.tail)
    rows = context.embedded_rows()
    rows = rows[np.isin(tasks.ids[rows], known)]
    at = np.searchsorted(examples.ids, ranked.ids[:HEAD])
    texts = tuple(labels[int(i)] for i in tasks.ids[rows])
    known_texts = LabeledTexts(context.examples(rows), texts)
    return HeadWhy(by_task=why_rare(miner, examples.take(at), known_texts))


def _settle_candidate(context: ProjectContext) -> None:
    """Finish a publication that was switched before a kill, or abandon it."""
    known = context.store.publications()
    if known.candidate is None:
        return
    project = context.client.project(context.project_id)
    if project.model_version == known.candidate.name:
        _switched(context, known.candidate)
    else:
        _abandon(context, known.candidate.name)


def _abandon(context: ProjectContext, name: str) -> None:
    """A publication that will never be served: its scores leave Label Studio when idle."""
    known = context.store.publications()
    context.ledger.abandon(name)
    context.store.write(
        "publication.json",
        known.model_copy(update={"candidate": None, "leftovers": (*known.leftovers, name)}),
    )
    shutil.rmtree(context.store.path("publications", name), ignore_errors=True)


def _scores(context: ProjectContext, judged: Judgement, ranked: RankedQueue) -> PublishedScores:
    return PublishedScores(
        ids=judged.ids,
        rarity=judged.rarity,
        predicted=judged.predicted,
        confidence=judged.confidence,
        classes=context.sync.classes,
        # A tenth of a kilobyte a task, in the memory of the web process too.
        boxes=judged.boxes if context.settings.preannotate else None,
        queue=ranked.ids,
        reasons=ranked.reasons,
    )


def _import(
    context: ProjectContext,
    publication: Publication,
    scores: PublishedScores,
    version: Version,
    draws: Sequence[DrawNote],
    why: HeadWhy,
) -> None:
    store, client = context.store, context.client
    folder = store.path("publications", publication.name)
    folder.mkdir(parents=True)
    why.save(folder)
    scores.save(folder)
    context.ledger.append(
        publication.name,
        kind=publication.kind,
        task_ids=publication.task_ids,
        control_ids=publication.control_ids,
        draws=draws,
    )
    known = store.publications()
    store.write("publication.json", known.model_copy(update={"candidate": publication}))
    items = _items(context, publication, scores)
    store.note("publish", 1, 3, f"importing {len(items)} scores")
    try:
        created = client.import_predictions(context.project_id, items)
    except LabelStudioRefused:
        # A task that was deleted after it was embedded refuses the whole import. The candidate
        # stays begun, ids are compared, and the next publication has a fresh name.
        if set(publication.task_ids) <= client.task_ids(context.project_id):
            raise
        logger.info("project %s: tasks were deleted while publishing", context.project_id)
        context.demand_look("deleted")
        return
    if created != len(items):
        dropped = _dropped(context, publication)
        logger.error(
            "project %s: Label Studio stored %s of %s scores of %s; dropped tasks: %s",
            context.project_id,
            created,
            len(items),
            publication.name,
            dropped[:20],
        )
        if created == 0:
            raise PublishError(
                f"Label Studio stored none of {len(items)} scores of {publication.name}; "
                "look for 'validation' in its log"
            )
        publication = publication.model_copy(
            update={
                "task_ids": tuple(i for i in publication.task_ids if i not in set(dropped)),
                "dropped": len(dropped),
            }
        )
    store.note("publish", 2, 3, f"switching to {publication.name}")
    # Minutes may lie between the last look and now: a person's change in between is a wish.
    context.project = client.project(context.project_id)
    owned = ownership(context, store.publications())
    if not owned.ours:
        logger.warning("project %s: not switched: %s", context.project_id, owned.owner)
        _abandon(context, publication.name)
        return
    client.update_project(context.project_id, model_version=publication.name)
    _switched(context, publication)


def _switched(context: ProjectContext, publication: Publication) -> None:
    """Remember that Label Studio serves this publication now."""
    known = context.store.publications()
    served = publication.model_copy(
        update={"state": "published", "published_at": datetime.now(UTC)}
    )
    old = (known.previous.name,) if known.previous else ()
    context.store.write(
        "publication.json",
        Publications(
            published=served,
            previous=known.published,
            candidate=None,
            leftovers=(*known.leftovers, *old),
        ),
    )
    record = context.connection
    if record is not None and record.replaceable_model_version is not None:
        # It was taken over once; whoever sets it again means it.
        taken = record.model_copy(update={"replaceable_model_version": None})
        context.store.write("connection.json", taken)
    context.project = context.client.project(context.project_id)
    keep = {served.name, known.published.name if known.published else served.name}
    _prune_scores(context, keep)


def _prune_scores(context: ProjectContext, keep: Collection[str]) -> None:
    """Drop the local scores of publications that nothing serves any more."""
    folder = context.store.path("publications")
    newest = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in newest[_KEEP_SCORES:]:
        if path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)


def _items(
    context: ProjectContext, publication: Publication, scores: PublishedScores
) -> list[PredictionItem]:
    return [
        PredictionItem(
            task=task_id,
            score=score,
            model_version=publication.name,
            result=_region(context, scores, scores.row(task_id)),
        )
        for task_id, score in queue_scores(scores).items()
    ]


def _region(
    context: ProjectContext, scores: PublishedScores, row: int | None
) -> Sequence[dict[str, object]]:
    """A pre-annotation where the settings ask for one: what the original head sees."""
    if not context.settings.preannotate or row is None:
        return ()
    return shown(context.interface, scores.classes, scores, row)


def _dropped(context: ProjectContext, publication: Publication) -> list[int]:
    """Which tasks of an import Label Studio silently dropped."""
    stored = set(context.client.predicted_tasks(context.project_id, publication.name))
    return [i for i in publication.task_ids if i not in stored]
