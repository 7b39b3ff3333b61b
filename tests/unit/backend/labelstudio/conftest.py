from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from backend.labelstudio.client import LabelStudioClient
from tests.unit.backend.labelstudio.fake_label_studio import FakeLabelStudio
from tests.unit.backend.labelstudio.local_http import Reply, Server

TOKEN = "0123456789abcdef0123456789abcdef01234567"
Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers; all are stopped afterwards."""
    servers: list[Server] = []

    def start(reply: Reply, host: str = "127.0.0.1") -> Server:
        servers.append(Server(reply, host))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def label_studio(serve: Serve) -> FakeLabelStudio:
    """A Label Studio with one project, behind a real port."""
    fake = FakeLabelStudio()
    fake.url = serve(fake.reply).url
    return fake


@pytest.fixture
def client(label_studio: FakeLabelStudio) -> LabelStudioClient:
    return LabelStudioClient(label_studio.url, TOKEN, timeout_s=5)
