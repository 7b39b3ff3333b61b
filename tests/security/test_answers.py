"""What Label Studio, or who poses as it, may answer; and who may read what is kept of it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from backend.errors import LabelStudioUnavailable
from backend.files import make_data_dir
from backend.jobs import Jobs
from backend.labelstudio.transport import Transport
from backend.settings import Settings
from tests.security.conftest import Serve, Tried
from tests.unit.backend.conftest import Recorder
from tests.unit.backend.labelstudio.local_http import Answer

TOKEN = "0" * 40
READ = {
    b'{"a": "\\ud800"}': {"a": "?"},
    b'{"\\uDFFF": ["\\ud83d"]}': {"?": ["?"]},
    b'{"a": "\\ud83d\\ude00"}': {"a": "\U0001f600"},
    b'{"a": "\\\\ud800"}': {"a": "\\ud800"},
    b"null": None,
    b"[1, 2.5, true]": [1, 2.5, True],
    b"": None,
}
REFUSED = [
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b'{"id": ' + b"9" * 5000 + b"}",
    b'{"id": ', b"<html>", b"\xff\xfe{}", b"{}{}", b"\x00", b"nothing", b"'a'",
]  # fmt: skip


def test_no_answer_breaks_what_reads_it(serve: Serve, tried: Tried) -> None:
    for raw, expected in READ.items():
        label_studio = serve(lambda request, body=raw: Answer(200, body))
        found = Transport(label_studio.url, TOKEN).json("GET", "/api/version")
        assert found == expected
        json.dumps(found, ensure_ascii=False).encode()
    for raw in REFUSED:
        label_studio = serve(lambda request, body=raw: Answer(200, body))
        with pytest.raises(LabelStudioUnavailable, match="expected JSON") as caught:
            Transport(label_studio.url, TOKEN).json("GET", "/api/version")
        assert len(str(caught.value)) < 300
        refusing = serve(lambda request, body=raw: Answer(400, body))
        with pytest.raises(Exception, match="400") as caught:
            Transport(refusing.url, TOKEN).json("GET", "/api/version")
        assert len(str(caught.value)) < 1000
    tried(len(READ) + 2 * len(REFUSED))


def test_a_new_data_directory_is_for_its_owner_only(settings: Settings, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Jobs(settings, handler=Recorder(), immediate=True)
        assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700
        shared = tmp_path / "shared"
        shared.mkdir(mode=0o770)
        make_data_dir(shared)
        assert stat.S_IMODE(shared.stat().st_mode) == 0o770
        make_data_dir(tmp_path / "a" / "b")
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    finally:
        os.umask(before)
