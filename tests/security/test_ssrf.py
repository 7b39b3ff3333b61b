"""Addresses in task data: whatever they are, nothing private is asked and the token stays."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.errors import LabelStudioUnavailable, MediaError
from backend.labelstudio.client import LabelStudioClient
from backend.labelstudio.guarded_http import AddressRule, is_public
from backend.labelstudio.media import MediaFetcher, safe_name
from backend.projects import ProjectStore
from tests.security.conftest import Serve, Tried
from tests.unit.backend.labelstudio.local_http import Answer, Request, Server

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
TOKEN = "canary0123456789"
ALLOWED = ("images.test", "localhost", "127.0.0.1", "::1", "2130706433", "0x7f000001", "127.1")
#: Every way to write an address of this machine, of its network, or of a cloud's metadata.
PRIVATE_HOSTS = (
    *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1"),
    *("017700000001", "0177.0.0.1", "0177.1", "127.000.000.001", "0", "0.0.0.0", "00000000"),
    *("localhost", "LOCALHOST", "localhost.", "lOcAlHoSt.", "127.0.0.1."),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::ffff:0:127.0.0.1]"),
    *("[fe80::1]", "[fe80::1%25lo]", "[fe80::1%lo]", "[fc00::1]", "[fec0::1]", "[ff02::1]"),
    *("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "167772161", "0x0a000001"),
    *("169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376"),
    *(
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "168.63.129.16.nip.test",
        "[64:ff9b::a9fe:a9fe]",
    ),
    *("metadata.google.internal", "metadata", "instance-data", "kubernetes.default.svc"),
    *("①②⑦.⓪.⓪.①", "127。0。0。1", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "xn--localhost", "xn--a"),
)
WRAPPINGS = (
    "http://{h}:{p}/a.png",
    "http://images.test@{h}:{p}/a.png",
    "http://images.test:80@{h}:{p}/a.png",
    "http://{h}:{p}#@images.test/a.png",
    "http://{h}:{p}?@images.test/a.png",
    "http://{h}:{p}\\@images.test/a.png",
    "http://images.test\\@{h}:{p}/a.png",
    "http://images.test%40{h}:{p}/a.png",
    "http://images.test%00{h}:{p}/a.png",
    "http://images.test\t@{h}:{p}/a.png",
    "http://{h}:{p}\r\nHost: images.test/a.png",
    "HTTP://{h}:{p}/a.png",
    " http://{h}:{p}/a.png",
    "http:\\\\{h}:{p}\\a.png",
    "http:{h}:{p}/a.png",
    "https://{h}:{p}/a.png",
)
SCHEMES = (
    *("file", "ftp", "gopher", "dict", "ldap", "jar", "netdoc", "javascript", "vbscript", "ws"),
    *("unix", "http+unix", "sftp", "tftp", "smb", "view-source", "blob", "about", "mailto", "php"),
)


@pytest.fixture
def fetcher(serve: Serve, tmp_path: Path) -> Callable[..., MediaFetcher]:
    def make(
        label_studio: Server, *, rule: AddressRule = is_public, **options: object
    ) -> MediaFetcher:
        given: dict[str, object] = {
            "allowed_hosts": ALLOWED,
            "cache_dir": tmp_path / "images",
            "cache_bytes": 0,
            "max_bytes": 10_000,
            "timeout_s": 2.0,
            "address_allowed": rule,
        }
        client = LabelStudioClient(label_studio.url, TOKEN)
        return MediaFetcher(client, **{**given, **options})  # type: ignore[arg-type]

    return make


@pytest.fixture
def only_local_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names are answered here: numbers as the C library does, every other one privately."""
    real = socket.getaddrinfo
    asked: list[str] = []

    def answer(host: object, port: object, *args: object, **kwargs: object) -> object:
        asked.append(str(host))
        try:
            return real(host, port, *args, **{**kwargs, "flags": socket.AI_NUMERICHOST})  # type: ignore[arg-type]
        except socket.gaierror:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(str(port))))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


def fetch(media: MediaFetcher, uri: str) -> bytes:
    return media.fetch(uri, task_id=1, project_key="p")


@pytest.mark.usefixtures("only_local_names")
def test_no_way_of_writing_a_private_address_reaches_it(
    serve: Serve, fetcher: Callable[..., MediaFetcher], tried: Tried
) -> None:
    label_studio, inside = (
        serve(lambda request: Answer(200, PNG)),
        serve(lambda r: Answer(200, PNG)),
    )
    # As if the settings allowed every one of them: the address alone must be enough.
    names = {host.strip("[]").lower().rstrip(".") for host in PRIVATE_HOSTS}
    media = fetcher(label_studio, allowed_hosts=(*ALLOWED, *names))
    asked = 0
    for host, wrapping in itertools.product(PRIVATE_HOSTS, WRAPPINGS):
        with pytest.raises(MediaError) as caught:
            fetch(media, wrapping.format(h=host, p=inside.port))
        assert len(str(caught.value)) < 300
        media._patience._records.clear()
        asked += 1
    tried(asked)
    assert asked == len(PRIVATE_HOSTS) * len(WRAPPINGS) >= 800
    assert inside.connections == label_studio.connections == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_only_http_and_cloud_schemes_are_known(
    serve: Serve, fetcher: Callable[..., MediaFetcher], scheme: str
) -> None:
    label_studio = serve(lambda request: Answer(200, PNG))
    media = fetcher(label_studio)
    for uri in (
        f"{scheme}:///etc/passwd",
        f"{scheme}:{label_studio.url}/",
        f"{scheme}://images.test/",
    ):
        with pytest.raises(MediaError, match="expected /data/upload/"):
            fetch(media, uri)
    assert label_studio.connections == 0


@pytest.mark.usefixtures("only_local_names")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_leads_to_a_private_address(
    serve: Serve, fetcher: Callable[..., MediaFetcher], status: int, tried: Tried
) -> None:
    inside = serve(lambda request: Answer(200, PNG))
    where: list[str] = []
    label_studio = serve(lambda request: Answer(status, b"", {"Location": where[-1]}))
    media = fetcher(label_studio)
    for host in (h for h in PRIVATE_HOSTS if h.isascii()):
        for target in (f"http://{host}:{inside.port}/a.png", f"//{host}:{inside.port}/a.png"):
            where.append(target)
            for uri in ("/data/upload/1/a.png", label_studio.url + "/public/a.png"):
                with pytest.raises(MediaError):
                    fetch(media, uri)
                media._patience._records.clear()
    assert len(where) > 80
    tried(2 * len(where))
    assert inside.connections == 0


def test_a_name_that_changes_its_answer_gains_nothing(
    serve: Serve, fetcher: Callable[..., MediaFetcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fetch asks once; a public answer is what is connected to, a private one is refused."""
    inside = serve(lambda request: Answer(200, PNG))
    answers = itertools.cycle(["93.184.216.34", "127.0.0.1"])
    asked: list[str] = []
    connected: list[object] = []

    def rebinding(host: str, *args: object, **kwargs: object) -> object:
        address = host if host[:1].isdigit() else next(answers)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, inside.port))]

    def connect(self: socket.socket, address: object) -> None:
        connected.append(address)
        raise ConnectionRefusedError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket.socket, "connect", connect)
    media = fetcher(inside)
    for _ in range(10):
        with pytest.raises(MediaError):
            fetch(media, f"http://images.test:{inside.port}/a.png")
        media._patience._records.clear()
    assert asked.count("images.test") == 10
    assert connected == [("93.184.216.34", inside.port)] * 5
    assert inside.connections == 0


def test_the_token_goes_to_files_of_label_studio_only(
    serve: Serve, fetcher: Callable[..., MediaFetcher]
) -> None:
    """Own paths, other paths, other hosts, and redirects between them: who gets the header."""
    seen: list[tuple[str, str, bool]] = []

    def note(name: str) -> Callable[[Request], Answer]:
        def reply(request: Request) -> Answer:
            seen.append((name, request.path, "authorization" in request.headers))
            return Answer(200, PNG)

        return reply

    label_studio, other = serve(note("own")), serve(note("other"))
    media = fetcher(label_studio, rule=lambda address: True)
    elsewhere = f"http://localhost:{other.port}"
    for uri in (
        "/data/upload/1/a.png",
        label_studio.url + "/api/users/",
        label_studio.url + "/data/upload/%2e%2e/%2e%2e/api/token",
        label_studio.url + "//data/upload/1/a.png",
        elsewhere + "/data/upload/1/a.png",
        elsewhere + "/tasks/1/resolve/",
    ):
        fetch(media, uri)
    assert {(name, path) for name, path, told in seen if told} == {("own", "/data/upload/1/a.png")}
    assert {name for name, _, _ in seen} == {"own", "other"}


PIECES = (
    *("/data/upload/", "/data/local-files/?d=", "http://", "https://", "images.test", "localhost"),
    *("127.0.0.1", ":80", "@", "\\", "\t", "\n", "\r", "\x00", "\x01", "%", "%00", "%2e%2e", ".."),
    *(
        "/",
        "?",
        "#",
        "[",
        "]",
        "::1",
        ";",
        "é",
        "\ud800",
        "。",
        "①",
        "\u202e",
        " ",
        "a",
        ":",
        "s3:",
    ),
    *("//", "data:", ",", ";base64", "%0d%0a", "&", "=", "fileuri=", "/tasks/1/resolve/?"),
)


@pytest.mark.usefixtures("only_local_names")
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_address_is_an_image_or_that_images_own_trouble(
    serve: Serve, fetcher: Callable[..., MediaFetcher], data: st.DataObject
) -> None:
    """Never an error of another kind, nor one that says Label Studio itself is away."""
    label_studio = _shared(serve)
    starts = (
        label_studio.url,
        label_studio.url + "/data/upload/",
        "http://images.test/",
        "s3://b/",
        "",
    )
    uri = data.draw(st.sampled_from(starts)) + "".join(
        data.draw(st.lists(st.sampled_from((*PIECES, label_studio.url)), max_size=6))
    )
    refusal = ""
    try:
        assert fetch(fetcher(label_studio), uri) == PNG
    except MediaError as error:
        refusal = str(error)
    assert len(refusal.encode()) < 400
    assert len(safe_name(uri)) < 300


_SERVERS: dict[object, Server] = {}


def _shared(serve: Serve) -> Server:
    """One server for all examples of a property."""
    if serve not in _SERVERS:
        _SERVERS.clear()
        _SERVERS[serve] = serve(lambda request: Answer(200, PNG))
    return _SERVERS[serve]


def test_no_redirect_of_the_api_takes_the_token_along(serve: Serve) -> None:
    inside = serve(lambda request: Answer(200, {"version": "1"}))
    for status in (301, 302, 303, 307, 308):
        location = {"Location": f"http://localhost:{inside.port}/api/version"}
        label_studio = serve(lambda request, s=status, to=location: Answer(s, b"", to))
        client = LabelStudioClient(label_studio.url, TOKEN)
        for act in (client.version, client.whoami, lambda c=client: c.project(1)):
            with pytest.raises(LabelStudioUnavailable, match="redirects to"):
                act()
    assert inside.connections == 0


def test_no_request_says_where_label_studio_is(
    serve: Serve, app: Flask, store: ProjectStore
) -> None:
    """The host name, token and addresses in bodies and headers are claims: nobody calls there."""
    posing = serve(lambda request: Answer(200, {}))
    url = posing.url
    named = {"hostname": url, "access_token": "x", "schema": "<View/>", "url": url}
    headers = {"Host": url[7:], "Origin": url, "Referer": url, "X-Forwarded-Host": url[7:]}
    for path in ("/setup", "/predict", "/webhook", "/train"):
        for project in ("1.1795231806", "5.7", {"id": 1, "url": url, "hostname": url}):
            body = {**named, "project": project, "action": "START_TRAINING", "tasks": [{"id": 1}]}
            assert app.test_client().post(path, json=body, headers=headers).status_code < 500
    assert posing.connections == 0
