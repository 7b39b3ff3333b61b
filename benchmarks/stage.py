"""What the benchmarks of the running service share: a real Label Studio and `rarefirst serve`."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from demo.backend_process import Backend, BackendSettings
from demo.label_studio_api import LabelStudioApi
from demo.label_studio_process import Login, label_studio, prepare
from demo.ports import free_port
from demo.service import Service

#: Makes the server of a stage, which is not started yet: its folder, its port, its first user.
MakeServer = Callable[[Path, int, Login], Service]


@dataclass(frozen=True)
class Stage:
    """Both servers, running.

    Attributes:
        api: Label Studio as its first user sees it.
        backend: our service.
        data_dir: where our service keeps its state.
        server: Label Studio's own process.
    """

    api: LabelStudioApi
    backend: Backend
    data_dir: Path
    server: Service


def say(message: str) -> None:
    """Progress goes to standard error: standard output is the JSON."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)


def conclude(result: Mapping[str, object], *, met: bool) -> NoReturn:
    """Print a result as JSON with ``met``, and end with 1 where its limit was missed."""
    print(json.dumps({**result, "met": met}, indent=1))
    raise SystemExit(0 if met else 1)


def real_server(root: Path, port: int, login: Login) -> Service:
    """A Label Studio of its own environment, on SQLite."""
    prepare(root / "label-studio", progress=say)
    return label_studio(
        root / "label-studio",
        port=port,
        login=login,
        run_dir=root / "run",
        extra={
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(root),
        },
    )


@contextmanager
def stage(
    extra: Mapping[str, str] | None = None, *, make_server: MakeServer = real_server
) -> Iterator[Stage]:
    """Start both on free ports with fresh data, and stop them afterwards.

    Args:
        extra: further environment variables of our service.
        make_server: what stands for Label Studio; a real one by default.
    """
    with tempfile.TemporaryDirectory(prefix="rarefirst-bench-") as name:
        root = Path(name)
        login = Login("bench@example.com", secrets.token_hex(12), secrets.token_hex(20))
        port = free_port()
        server = make_server(root, port, login)
        url = f"http://127.0.0.1:{port}"
        backend = Backend(
            BackendSettings(
                label_studio_url=url,
                token=login.token,
                port=free_port(),
                data_dir=root / "var",
                user="bench",
                password=secrets.token_hex(12),
                extra=extra or {},
            ),
            run_dir=root / "run",
        )
        try:
            say("starting Label Studio")
            server.start()
            server.wait_until_up(url + "/health", timeout_s=180, progress=say)
            say("starting rarefirst serve")
            backend.start()
            api = LabelStudioApi(url, login.token)
            yield Stage(api, backend, root / "var", server)
            api.close()
        finally:
            backend.stop()
            server.stop()
