"""Nothing in the source can run code out of a file: no pickle, no eval, no unsafe loader."""

from __future__ import annotations

import ast
import json
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.jobs import Jobs
from backend.serializer import JsonSerializer, MessageRefused, queue_key
from backend.settings import Settings
from tests.security.conftest import ROOT, Tried
from tests.security.test_model_files import Exploit
from tests.unit.backend.conftest import Recorder

PACKAGES = ("backend", "models", "demo", "benchmarks", "docs")
MODULES = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"),
    *("jsonpickle", "torch.package", "code", "codeop", "xmlrpc"),
}
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
#: Attributes by what they are called, wherever from.
METHODS = {"read_pickle", "to_pickle", "loads_pickle", "unpickle", "unsafe_load", "full_load"}


def sources() -> list[Path]:
    found = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    assert len(found) > 200
    return found


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def findings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that could run what a file says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in MODULES or alias.name.split(".")[0] in MODULES:
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            names = {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
            if names & MODULES or (node.module or "").split(".")[0] in MODULES:
                yield node.lineno, str(node.module)
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            given = {word.arg: word.value for word in node.keywords}
            last = name.rpartition(".")[2]
            if name in CALLS or last in METHODS or name in {"os.system", "os.popen"}:
                yield node.lineno, name
            if name == "torch.load" and not _is(given.get("weights_only"), True):
                yield node.lineno, "torch.load without weights_only=True"
            # Off by default since numpy 1.16.3.
            if "allow_pickle" in given and not _is(given["allow_pickle"], False):
                yield node.lineno, "allow_pickle"
            if "shell" in given and not _is(given["shell"], False):
                yield node.lineno, "a shell"
            if last == "load_state_dict_from_url":
                yield node.lineno, name


def _is(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_nothing_in_the_source_unpickles_or_evaluates() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in sources()
        for line, what in findings(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "import joblib", "import yaml",
        "import shelve",
        "torch.load(p)", "torch.load(p, weights_only=False)", "eval(x)", "exec(x)",
        "np.load(p, allow_pickle=True)", "pd.read_pickle(p)", "os.system(x)", "run(x, shell=True)",
        "def f():\n    import marshal", "from torch import package",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_is_for(code: str) -> None:
    assert list(findings(ast.parse(code)))


def test_modules_are_imported_by_name_in_three_places_only() -> None:
    """Two look a name up in a table of ours, the third takes the network of the settings."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if path.parts[len(ROOT.parts)] in {"backend", "models"}
        and "import_module(" in path.read_text()
    }
    assert found == {
        "models/backbones/__init__.py",
        "models/backbones/networks.py",
        "models/tasks/base.py",
    }


# Queue messages ----------------------------------------------------------------------------------


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def put(settings: Settings, data: bytes) -> None:
    """Write into the queue's own file, as somebody with access to it would."""
    with sqlite3.connect(settings.data_dir / "queue.db") as connection:
        connection.execute(
            "insert into task (queue, data, priority) values (?, ?, ?)", ("rarefirst", data, 0)
        )
    connection.close()


def forgeries(settings: Settings, proof: Path) -> dict[str, bytes]:
    key = queue_key(settings.data_dir)
    right = JsonSerializer(key)
    other = JsonSerializer(bytes(32))
    plain: dict[str, object] = dict.fromkeys(("priority", "retry_backoff", "eta"))
    plain |= {"id": "1", "name": "reconcile", "retries": 0, "retry_delay": 0, "kwargs": {}}
    body = json.dumps({**plain, "args": ["1-0123abcd"]}).encode()
    pickled = pickle.dumps(Exploit(proof))
    signature = right._sign(body)
    return {
        "pickled": pickled,
        "pickled, signed as huey signs": right._sign(pickled) + b":" + pickled,
        "no signature": body,
        "empty signature": b"." + body,
        "another key": other._sign(body) + b"." + body,
        "cut signature": signature[:-1] + b"." + body,
        "long signature": signature + b"0." + body,
        "upper case": signature.upper() + b"." + body,
        "changed body": signature + b"." + body.replace(b"0123abcd", b"ffffffff"),
        "more behind": signature + b"." + body + b" ",
        "signature of nothing": right._sign(b"") + b"." + body,
        "nothing": b"",
        "a dot": b".",
        "not text": b"\xff" * 64 + b"." + body,
        "nested without end": b"0" * 64 + b"." + b"[" * 100_000,
    }  # fmt: skip


def test_a_forged_queue_message_is_never_run(
    settings: Settings, recorder: Recorder, tmp_path: Path, tried: Tried
) -> None:
    jobs = Jobs(settings, handler=recorder)
    proof = tmp_path / "it ran"
    for name, data in forgeries(settings, proof).items():
        put(settings, data)
        with pytest.raises(MessageRefused):
            jobs.huey.dequeue()
        assert jobs.huey.pending_count() == 0, name
    tried(len(forgeries(settings, proof)))
    assert recorder.calls == []
    assert not proof.exists()
    jobs.discover()
    jobs.huey.execute(jobs.huey.dequeue())
    assert recorder.calls == [("discover", None)], "the queue itself works"
