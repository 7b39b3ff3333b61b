"""Checks of a project's settings: whether Label Studio serves our order, and what it is made of."""

from __future__ import annotations

import time
from collections.abc import Iterator

from backend.doctor.facts import ProjectFacts
from backend.doctor.finding import Finding, ago, error, note, ok, warning
from backend.errors import UnsupportedLabelConfig
from backend.labelstudio.connection_record import SAMPLING
from backend.labelstudio.tab import TAB_TITLE
from backend.pinning import pinned

_NOT_SERVED = "Label Studio does not serve the rarest first"


def sampling(facts: ProjectFacts) -> Iterator[Finding]:
    """The label stream goes by score."""
    if facts.info.sampling == SAMPLING:
        yield ok("sampling", SAMPLING)
        return
    yield error(
        "sampling.other",
        f"the project's sampling is {facts.info.sampling!r}",
        why=f"{_NOT_SERVED} in Label All Tasks; only the tab {TAB_TITLE!r} does",
        mend="`rarefirst doctor --fix`; the settings page of the community edition does not offer "
        f"{SAMPLING!r}",
    )


def predictions(facts: ProjectFacts) -> Iterator[Finding]:
    """Predictions are used at all."""
    if facts.info.show_collab_predictions:
        yield ok("predictions", "predictions are used")
        return
    yield error(
        "predictions.hidden",
        "the project shows no predictions (show_collab_predictions is false)",
        why=f"Label Studio then empties the model version: {_NOT_SERVED}",
        mend="`rarefirst doctor --fix`; or in the project's settings, Annotation: use predictions, "
        "and choose the model version again",
    )


def overlap(facts: ProjectFacts) -> Iterator[Finding]:
    """Each task is labeled once."""
    wanted = facts.info.maximum_annotations
    if wanted <= 1:
        yield ok("overlap", "one annotation a task")
        return
    yield warning(
        "overlap.above_one",
        f"{wanted} annotations are wanted of each task",
        why="Label Studio first serves tasks that somebody else has begun, in random order, and "
        "only then the rarest",
        mend="PATCH the project's maximum_annotations to 1; it is not changed for you, since it is "
        "a decision about the project",
    )


def model_version(facts: ProjectFacts) -> Iterator[Finding]:
    """Label Studio orders by the scores that we published last."""
    now = facts.model_version
    known = facts.publications
    served = known.published
    begun = known.candidate
    own = now.startswith(facts.service.own_prefix)
    titles = {c.title for c in facts.ours}
    fix = f"`rarefirst doctor --fix`, or `rarefirst connect --project {facts.id} --take-over`"
    if begun is not None and now == begun.name:
        yield ok("model_version", f"{now}, being switched to")
    elif now and not own and now not in titles:
        yield _taken(facts)
    elif served is None:
        yield note(
            "queue.none",
            "nothing is published yet",
            why="Label Studio serves its own order until then",
            mend=f"wait; `rarefirst status --project {facts.id}` says what comes next",
        )
    elif own and not facts.predictions.get(now):
        yield error(
            "model_version.gone",
            f"the project's model version {now} has no predictions any more",
            why=f"there is nothing to order by: {_NOT_SERVED}",
            mend="`rarefirst doctor --fix` has the queue published again",
        )
    elif now == served.name:
        count = facts.predictions[now]
        yield ok("model_version", f"{now}: {count} scores, of {served.version}")
    elif own:
        yield warning(
            "model_version.older",
            f"the project uses {now}, and {served.name} was published last",
            why="somebody chose an older order, or saved the settings page Annotation, opened "
            "before the last publication; what was learned since comes with the next publication",
            mend=f"label on: the next publication takes its place; or choose {served.name} in the "
            "project's settings, Annotation, now. To go back to an older version for good: "
            f"`rarefirst versions activate --project {facts.id}`",
        )
    elif now:
        yield error(
            "model_version.title",
            f"the project's model version is the connection's title, {now!r}",
            why=f"no score has that name: {_NOT_SERVED}",
            mend=fix,
        )
    else:
        yield error(
            "model_version.empty",
            "the project's model version is empty",
            why=f"no score counts: {_NOT_SERVED}",
            mend=fix,
        )


def _taken(facts: ProjectFacts) -> Finding:
    """The model version is somebody else's."""
    now = facts.model_version
    others = [c for c in facts.called.connections if c not in facts.ours]
    whose = next(
        (f"the backend {c.title!r}" for c in others if now in (c.title, c.model_version)),
        "another backend or a person",
    )
    return error(
        "model_version.other",
        f"the project's model version is {now!r}, set by {whose}",
        why=f"its order is served, not ours: {_NOT_SERVED}; it is left alone until you say so",
        mend=f"`rarefirst connect --project {facts.id} --take-over`",
    )


def tab(facts: ProjectFacts) -> Iterator[Finding]:
    """The Data Manager has our tab."""
    if any(view.title == TAB_TITLE for view in facts.views):
        yield ok("tab", TAB_TITLE)
        return
    yield note(
        "tab.missing",
        f"the Data Manager has no tab {TAB_TITLE!r}",
        why="the order is served all the same; the tab only shows it",
        mend=f"`rarefirst doctor --fix`, or `rarefirst connect --project {facts.id}`",
    )


def label_config(facts: ProjectFacts) -> Iterator[Finding]:
    """The label config is one that we serve, and holds the classes that the settings name."""
    from backend.labelstudio.interface import parse_label_config

    try:
        interface = parse_label_config(facts.info.label_config)
    except UnsupportedLabelConfig as failure:
        yield error(
            "label_config.unsupported",
            str(failure),
            why="nothing is learned and no queue is made",
            mend="change it in the project's settings, Labeling Interface",
        )
        return
    what = "" if interface.task == "classification" else ", boxes"
    count = len(interface.labels)
    classes = "1 class" if count == 1 else f"{count} classes"
    yield ok("label_config", f"{interface.control_name}: {classes}{what}")
    named = {*facts.settings.tail_classes, *facts.settings.not_tail_classes}
    unknown = sorted(named - set(interface.labels))
    if unknown:
        yield warning(
            "label_config.tail_classes",
            f"the settings name classes that the label config does not hold: {', '.join(unknown)}",
            why="they are never found; perhaps they were renamed, or are spelt differently",
            mend="set RAREFIRST_TAIL_CLASSES and RAREFIRST_NOT_TAIL_CLASSES to classes of "
            f"{', '.join(interface.labels[:20])}",
        )


def own_settings(facts: ProjectFacts) -> Iterator[Finding]:
    """The connection's extra params are settings that we know."""
    found = facts.own_settings
    for problem in found.problems:
        yield warning(
            "settings.extra_params",
            problem,
            why="what is wrong there is not taken, and the service's own setting counts",
            mend="correct the extra params of the connection in the project's settings, Model",
        )
    if not found.problems and found.overrides:
        named = ", ".join(sorted(found.overrides))
        yield ok("settings.extra_params", f"the project has settings of its own: {named}")


def labels(facts: ProjectFacts) -> Iterator[Finding]:
    """There are labels to learn from."""
    report, settings = facts.report, facts.settings
    # What Label Studio itself counts is still 0 right after an import.
    count = facts.info.num_tasks_with_annotations if report is None else report.labeled
    if not count:
        yield note(
            "labels.none",
            "no task is labeled yet",
            why="the queue is a diversity order until there are labels",
            mend="label a few tasks of each class, the rare ones included",
        )
    elif settings.weights == "none" and count < settings.bootstrap_min_labels:
        yield note(
            "labels.few",
            f"{count} tasks are labeled; a first model is trained at "
            f"{settings.bootstrap_min_labels} labels",
            why="the queue is a diversity order until then",
            mend="go on labeling; or give a pretrained model (RAREFIRST_WEIGHTS)",
        )
    elif report is not None and not report.tail:
        yield note(
            "labels.no_tail",
            f"{count} tasks are labeled, and no class is rare yet",
            why="the queue is a diversity order while there is no rare class",
            mend="go on labeling, or name the rare classes in RAREFIRST_TAIL_CLASSES",
        )
    else:
        yield ok("labels", f"{count} tasks are labeled")


def loop(facts: ProjectFacts) -> Iterator[Finding]:
    """The loop looks at the project, and has nothing to complain about."""
    report, settings = facts.report, facts.service.settings
    if facts.store.paused:
        return
    if report is None:
        yield note(
            "loop.none",
            "the loop has not looked at the project yet",
            why="it does so within a minute of connecting",
            mend=f"wait; `rarefirst status --project {facts.id}` says what it does",
        )
        return
    age = time.time() - report.at.timestamp()
    doing = facts.store.progress().doing
    if doing == "nothing" and age > 3 * settings.timer_s + settings.backoff_max_s:
        yield warning(
            "loop.stuck",
            f"the loop looked at the project {ago(age)}",
            why=f"it should every {settings.timer_s:g} s",
            mend="see the worker's log; restart `rarefirst serve`",
        )
    elif report.label_studio != "reachable":
        yield warning(
            "loop.trouble",
            f"the loop's last round ended early: {report.label_studio}",
            why="the queue is not brought up to date while that lasts",
            mend="what is said above; the loop tries again by itself",
        )
    else:
        yield ok("loop", f"looked {ago(age)}, next: {report.next}")
    fixed = pinned(facts.store)
    if fixed is not None:
        yield note(
            "loop.pinned",
            f"version {fixed.version} is pinned",
            why="the loop publishes with it, and fits nothing anew",
            mend=f"`rarefirst versions follow --project {facts.id}` when that is over",
        )
    for problem in report.problems:
        if problem not in facts.own_settings.problems:
            yield note("loop.says", problem, why="the loop noted it in its last round")
