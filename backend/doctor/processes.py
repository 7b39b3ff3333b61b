"""Checks of our own processes: the queue between them, the worker, the web part."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping

import requests

from backend import heartbeat
from backend.doctor.facts import ServiceFacts
from backend.doctor.finding import Finding, ago, error, note, ok, shown, warning
from backend.labelstudio.transport import object_of

_BACKLOG = 50
_LATE_S = 120.0
_FUTURE_S = 5.0
_BEATS_S = 1.25 * heartbeat.HEARTBEAT_S
_WAIT_S = (2.0, 4.0)
_SLOW_S = 0.5
_UNAUTHORIZED = 401


def queue(facts: ServiceFacts) -> Iterator[Finding]:
    """The queue between web and worker can be read and is short."""
    path = facts.data_dir / "queue.db"
    if not path.exists():
        yield note("queue.new", "there is no queue yet; the first start makes it")
        return
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2)
        ) as database:
            (waiting,) = database.execute("select count(*) from task").fetchone()
    except sqlite3.Error as failure:
        yield error(
            "queue.unreadable",
            f"{path} cannot be read: {failure}",
            why="hints of new labels do not reach the worker; only its timer is left",
            mend="restart `rarefirst serve`: what cannot be read is set aside and made anew, and "
            "nothing is lost by it",
        )
        return
    oldest = max((time.time() - at for at in _hints(facts)), default=0.0)
    if waiting > _BACKLOG or oldest > _LATE_S + 2 * facts.settings.timer_s:
        yield warning(
            "queue.backlog",
            f"{waiting} messages wait, the oldest hint came {ago(oldest)}",
            why="new labels are not looked at",
            mend="see the worker's log and `rarefirst status`; restarting `rarefirst serve` "
            "empties the queue and looks at every project, nothing is lost by it",
        )
    else:
        yield ok("queue", f"{waiting} messages wait")


def _hints(facts: ServiceFacts) -> list[float]:
    """When the hints came that wait to be looked at."""
    found = []
    for store in facts.stores.all():
        if not store.paused and store.progress().doing == "nothing":
            found += [at for what in ("changed", "deleted") if (at := store.hinted_at(what))]
    return found


def worker(facts: ServiceFacts) -> Iterator[Finding]:
    """The worker lives, and its clock and ours agree."""
    why = "nothing is read, learned or published without it; Label Studio serves an old order"
    stamp = heartbeat.stamp(facts.data_dir)
    if stamp is None:
        yield error(
            "worker.absent",
            "the worker does not run",
            why=why,
            mend="start it: `rarefirst serve`, or `rarefirst worker` beside `rarefirst web`; with "
            f"the same RAREFIRST_DATA_DIR as here ({facts.data_dir.resolve()})",
        )
        return
    age = time.time() - stamp
    who = heartbeat.read(facts.data_dir)
    pid = f"pid {who.pid}" if who is not None else "its pid is not known"
    if age < -_FUTURE_S and not _beats(facts, stamp):
        yield error(
            "worker.future",
            f"the worker's last sign of life ({pid}) is dated {-age:.0f} s in the future, and no "
            "other came",
            why=f"the clock was set back and the worker is gone, though `rarefirst status` takes "
            f"it for alive; {why}",
            mend="delete the sign (`rarefirst doctor --fix`), set the clock right, and restart "
            "`rarefirst serve`",
        )
    elif age >= heartbeat.STALE_S:
        yield error(
            "worker.silent",
            f"the worker ({pid}) gave its last sign of life {ago(age)}",
            why=why,
            mend="restart `rarefirst serve`; its log says what the worker did last",
        )
    else:
        yield ok("worker", f"the worker runs, {pid}, last sign of life {ago(age)}")


def _beats(facts: ServiceFacts, stamp: float) -> bool:
    """Whether another sign of life comes."""
    time.sleep(_BEATS_S)
    return heartbeat.stamp(facts.data_dir) != stamp


def web(facts: ServiceFacts) -> Iterator[Finding]:
    """At our own address our own web part answers, and takes our password."""
    url = facts.settings.url
    local = f"http://{_local(facts.settings.host)}:{facts.settings.port}"
    found = list(_web_at(facts, url))
    if any(f.severity == "error" for f in found) and local != url:
        here = list(_web_at(facts, local))
        if not any(f.severity == "error" for f in here):
            yield note(
                "web.elsewhere",
                f"the web part answers at {local}, but not from here at {shown(url)}",
                why="Label Studio must reach it there; this machine need not",
                mend="set RAREFIRST_OWN_URL if that is not the address as Label Studio reaches it",
            )
            return
        if all(f.code == "web.absent" for f in found):
            found = here
    yield from found


def _web_at(facts: ServiceFacts, url: str) -> Iterator[Finding]:
    shown_url = shown(url)
    began = time.monotonic()
    answered, health = _ask(url + "/health", None)
    took = time.monotonic() - began
    if not answered:
        yield error(
            "web.absent",
            f"nothing answers at {shown_url}",
            why="Label Studio cannot tell us of new labels or ask for scores",
            mend="start it: `rarefirst serve` (or `rarefirst web`); where Label Studio reaches us "
            "under another address, set RAREFIRST_OWN_URL",
        )
        return
    if str(health.get("model_class")).lower() != "rarefirst":
        yield error(
            "web.other_program",
            f"another program answers at {shown_url}",
            why="Label Studio would ask that one for scores",
            mend="stop it, or choose another port with PORT=..., then `rarefirst connect` again",
        )
        return
    yield from _login(facts, url, shown_url, took)


def _login(facts: ServiceFacts, url: str, shown_url: str, took: float) -> Iterator[Finding]:
    """Whether it is the web part of this data directory, with this password."""
    login = facts.settings.basic_auth
    status, answer = _ask(url + "/versions", login)
    if not status:
        yield warning(
            "web.no_answer",
            f"the rarefirst at {shown_url} answers /health, but not /versions within "
            f"{_WAIT_S[1]:g} s",
            why="it is overloaded or hangs: Label Studio's calls may fail too, and its data "
            "directory and password could not be compared",
            mend="see the log of the web part; give the machine more cores, or the web part more "
            "processes (WORKERS), then run `rarefirst doctor` again",
        )
        return
    if status == _UNAUTHORIZED:
        yield error(
            "web.login",
            f"the rarefirst at {shown_url} refuses the user and password of this environment",
            why="it was started with others, so that what this command sets in Label Studio does "
            "not fit it",
            mend="run this command with the environment of `rarefirst serve`, or restart that with "
            "this one (BASIC_AUTH_USER, BASIC_AUTH_PASS)",
        )
        return
    names = answer.get("versions")
    if not isinstance(names, list):
        yield note(
            "web.no_versions",
            f"the rarefirst at {shown_url} does not list its versions",
            why="another server than `rarefirst web` runs it; whether it works in this data "
            "directory is seen when Label Studio calls it",
        )
        return
    if not all(str(name).startswith(facts.own_prefix) for name in names):
        yield error(
            "web.other_service",
            f"the rarefirst at {shown_url} works in another data directory",
            why="it answers with versions of its own; what this command looks at is not what "
            "Label Studio is served from",
            mend="run this command with its RAREFIRST_DATA_DIR (here: "
            f"{facts.data_dir.resolve()}), or give one of the two another PORT",
        )
        return
    if login is not None and _ask(url + "/versions", None)[0] not in (0, _UNAUTHORIZED):
        yield warning(
            "web.open",
            f"the rarefirst at {shown_url} asks for no password, though one is set here",
            why="it was started without one, and anybody who reaches it can use it",
            mend="restart `rarefirst serve` with this environment",
        )
        return
    if took > _SLOW_S:
        yield warning(
            "web.slow",
            f"{shown_url}/health took {took:.2f} s",
            why="Label Studio waits one second for it, then counts us as disconnected",
            mend="give the machine more cores, or the web part more processes (WORKERS)",
        )
        return
    yield ok("web", f"our web part answers at {shown_url} in {took * 1000:.0f} ms")


def _ask(url: str, login: tuple[str, str] | None) -> tuple[int, Mapping[str, object]]:
    """Status and JSON object at a URL: 0 where nobody answers, empty where it is something else."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy, no .netrc: what is on this machine is asked itself
        try:
            answer = session.get(url, auth=login, timeout=_WAIT_S, allow_redirects=False)
        except (requests.RequestException, UnicodeDecodeError):
            return 0, {}
    return answer.status_code, object_of(answer)


def _local(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
