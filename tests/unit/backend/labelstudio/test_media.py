from __future__ import annotations

import base64
import gzip
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.errors import LabelStudioUnavailable, MediaError, Unauthorized
from backend.labelstudio.client import LabelStudioClient
from backend.labelstudio.image_bytes import check_image, decode_data_uri
from backend.labelstudio.media import MediaFetcher
from backend.settings import Settings
from tests.unit.backend.labelstudio.conftest import TOKEN, Serve
from tests.unit.backend.labelstudio.local_http import Answer, Reply, Request, Server

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
IMAGE = Answer(200, PNG, {"Content-Type": "image/png"})
Fetch = Callable[[str], bytes]


def fetcher(server: Server, tmp_path: Path, **options: object) -> MediaFetcher:
    given: dict[str, object] = {
        "allowed_hosts": (),
        "cache_dir": tmp_path / "images",
        "cache_bytes": 1 << 20,
        "max_bytes": 1000,
        "timeout_s": 2.0,
    }
    client = LabelStudioClient(server.url, TOKEN)
    return MediaFetcher(client, **{**given, **options})  # type: ignore[arg-type]


@pytest.fixture
def label_studio_files(serve: Serve) -> Callable[[Reply], Server]:
    """Label Studio's files, for those who send the token."""

    def start(reply: Reply) -> Server:
        def guarded(request: Request) -> Answer:
            if request.headers.get("authorization") != f"Token {TOKEN}":
                return Answer(401, {"detail": "no token"})
            return reply(request)

        return serve(guarded)

    return start


def elsewhere(server: Server) -> str:
    """The server under another name, which makes it another origin."""
    return f"http://localhost:{server.port}"


def fetch(media: MediaFetcher, uri: str, *, project: str = "1-a", task: int = 7) -> bytes:
    return media.fetch(uri, task_id=task, project_key=project)


def test_an_upload_is_fetched_with_the_token_and_cached(
    label_studio_files: Callable[[Reply], Server], tmp_path: Path
) -> None:
    server = label_studio_files(lambda request: IMAGE)
    media = fetcher(server, tmp_path)
    assert fetch(media, "/data/upload/1/a.png") == PNG
    assert fetch(media, "/data/upload/1/a.png") == PNG
    assert len(server.requests) == 1
    fetch(media, "/data/upload/1/a.png", project="2-b")  # another project's cache is its own
    fetch(media, server.url + "/data/upload/1/b.png")
    fetch(media, "/data/local-files/?d=folder/c.png")
    assert [request.path for request in server.requests[1:]] == [
        "/data/upload/1/a.png",
        "/data/upload/1/b.png",
        "/data/local-files/",
    ]
    assert server.requests[-1].query == {"d": "folder/c.png"}
    assert server.connections == 1


def test_cloud_addresses_go_through_label_studio(
    label_studio_files: Callable[[Reply], Server], tmp_path: Path
) -> None:
    server = label_studio_files(lambda request: IMAGE)
    assert fetch(fetcher(server, tmp_path), "s3://bucket/a.png", task=42) == PNG
    (request,) = server.requests
    assert request.path == "/tasks/42/resolve/"
    assert base64.urlsafe_b64decode(request.query["fileuri"]) == b"s3://bucket/a.png"


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("s3://bucket/a.png", "does a storage"),
        ("/data/local-files/?d=a.png", "Local Files storage"),
        ("/data/upload/1/a.png", "deleted"),
    ],
)
def test_what_label_studio_does_not_have(
    label_studio_files: Callable[[Reply], Server], tmp_path: Path, uri: str, hint: str
) -> None:
    server = label_studio_files(lambda request: Answer(404, {"detail": "Not found."}))
    with pytest.raises(MediaError, match=hint) as caught:
        fetch(fetcher(server, tmp_path), uri)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "  ",
        "a.png",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://host/a.png",
        "//host/a.png",
        "/api/projects/",
        "/data/upload/../../api/projects/",
        "/data/upload/%2e%2e/%2e%2e/api/projects/",
        "/data/upload/..\\..\\api",
        "http://images.test/a.png",
        "http://user:pass@images.test/a.png",
        "http://[::1",
        "http://host:99999/a.png",
        "http:///a.png",
        "javascript:alert(1)",
    ],
)
def test_addresses_that_are_never_asked(serve: Serve, tmp_path: Path, uri: str) -> None:
    server = serve(lambda request: IMAGE)
    with pytest.raises(MediaError) as caught:
        fetch(fetcher(server, tmp_path), uri)
    assert not caught.value.retryable
    assert server.connections == 0


def test_hosts_are_asked_only_if_the_settings_allow_them(serve: Serve, tmp_path: Path) -> None:
    label_studio, images = serve(lambda request: IMAGE), serve(lambda request: IMAGE)
    uri = elsewhere(images) + "/a.png?signature=secret"
    with pytest.raises(MediaError, match="RAREFIRST_ALLOWED_HOSTS") as caught:
        fetch(fetcher(label_studio, tmp_path), uri)
    assert "secret" not in str(caught.value)
    allowed = fetcher(
        label_studio, tmp_path, allowed_hosts=("LocalHost",), address_allowed=lambda a: True
    )
    assert fetch(allowed, uri) == PNG
    assert "authorization" not in images.requests[0].headers
    assert label_studio.connections == 0


def test_an_allowed_host_on_a_private_address_is_refused(serve: Serve, tmp_path: Path) -> None:
    label_studio, images = serve(lambda request: IMAGE), serve(lambda request: IMAGE)
    media = fetcher(label_studio, tmp_path, allowed_hosts=("localhost", "127.0.0.1"))
    for url in (elsewhere(images), images.url):
        with pytest.raises(MediaError, match="private or reserved") as caught:
            fetch(media, url + "/a.png")
        assert not caught.value.retryable
    assert images.connections == 0


def test_a_redirect_to_a_private_address_is_refused(serve: Serve, tmp_path: Path) -> None:
    inside = serve(lambda request: IMAGE, host="127.0.0.2")
    outside = serve(lambda request: Answer(302, b"", {"Location": inside.url + "/a.png"}))
    media = fetcher(
        serve(lambda request: IMAGE),
        tmp_path,
        allowed_hosts=("localhost", "127.0.0.2"),
        address_allowed=lambda address: address == "127.0.0.1",  # counts as public here
    )
    with pytest.raises(MediaError, match="private or reserved"):
        fetch(media, f"http://localhost:{outside.port}/a.png")
    assert len(outside.requests) == 1
    assert inside.connections == 0


def test_a_redirect_to_a_host_not_allowed_is_refused(serve: Serve, tmp_path: Path) -> None:
    outside = serve(lambda request: Answer(302, b"", {"Location": "http://evil.test/a.png"}))
    media = fetcher(
        serve(lambda request: IMAGE),
        tmp_path,
        allowed_hosts=("localhost",),
        address_allowed=lambda address: True,
    )
    with pytest.raises(MediaError, match=r"evil\.test"):
        fetch(media, elsewhere(outside) + "/a.png")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://h/x", "http://[::1", "data:,x"])
def test_a_redirect_to_another_scheme_is_refused(
    serve: Serve, tmp_path: Path, location: str
) -> None:
    server = serve(lambda request: Answer(302, b"", {"Location": location}))
    with pytest.raises(MediaError):
        fetch(fetcher(server, tmp_path), "/data/upload/1/a.png")


def test_label_studios_storage_redirects_without_the_token(serve: Serve, tmp_path: Path) -> None:
    bucket = serve(lambda request: IMAGE)
    label_studio = serve(
        lambda request: Answer(302, b"", {"Location": elsewhere(bucket) + "/signed?x=1"})
    )
    media = fetcher(label_studio, tmp_path, address_allowed=lambda address: True)
    assert fetch(media, "s3://bucket/a.png") == PNG
    assert "authorization" in label_studio.requests[0].headers
    assert "authorization" not in bucket.requests[0].headers
    private = fetcher(label_studio, tmp_path / "other")
    with pytest.raises(MediaError, match="private or reserved"):
        fetch(private, "s3://bucket/a.png")
    assert len(bucket.requests) == 1


def test_a_chain_that_left_label_studio_gets_no_token_back(serve: Serve, tmp_path: Path) -> None:
    label_studio = serve(lambda request: IMAGE)
    location = {"Location": label_studio.url + "/data/upload/1/a.png"}
    outside = serve(lambda request: Answer(302, b"", location))
    media = fetcher(
        label_studio, tmp_path, allowed_hosts=("localhost",), address_allowed=lambda a: True
    )
    assert fetch(media, elsewhere(outside) + "/a.png") == PNG
    assert "authorization" not in label_studio.requests[0].headers


def test_other_paths_of_label_studio_are_asked_without_the_token(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(lambda request: IMAGE)
    assert fetch(fetcher(server, tmp_path), server.url + "/static/a.png") == PNG
    assert "authorization" not in server.requests[0].headers


def test_redirects_end(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda request: Answer(302, b"", {"Location": "/data/upload/1/a.png"}))
    with pytest.raises(MediaError, match="more than 5 redirects"):
        fetch(fetcher(server, tmp_path), "/data/upload/1/a.png")
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Log in</html>", "a web page"),
        (b'<?xml version="1.0"?><svg/>', "an SVG drawing"),
        (b"<Error>AccessDenied</Error>", "an XML document"),
        (b'{"detail": "no"}', "a JSON document"),
        (b"what is this", "of an unknown kind"),
    ],
)
def test_what_is_no_image_is_refused_and_not_cached(
    serve: Serve, tmp_path: Path, body: bytes, reason: str
) -> None:
    server = serve(lambda request: Answer(200, body, {"Content-Type": "image/png"}))
    media = fetcher(server, tmp_path)
    for _ in range(2):
        with pytest.raises(MediaError, match=reason):
            fetch(media, "/data/upload/1/a.png")
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "head",
    [
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"BM",
        b"II*\x00",
        b"RIFF\x00\x00\x00\x00WEBPVP8 ",
        b"\x00\x00\x00\x20ftypavif",
        b"P5\n8 8\n255\n",
    ],
)
def test_image_formats_are_known_by_their_beginning(head: bytes) -> None:
    check_image(head + bytes(40), what="it")


def test_a_file_that_is_too_large_is_cut_off(serve: Serve, tmp_path: Path) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield PNG
        for _ in range(1000):
            sent += 1
            yield bytes(10_000)

    server = serve(lambda request: Answer(200, None, {}, endless()))
    with pytest.raises(MediaError, match="larger than the 1000 bytes"):
        fetch(fetcher(server, tmp_path), "/data/upload/1/a.png")
    declared = serve(lambda request: Answer(200, bytes(2000)))
    with pytest.raises(MediaError, match="has 2000 bytes"):
        fetch(fetcher(declared, tmp_path), "/data/upload/1/a.png")


def test_a_truncated_file_is_fetched_again_later(serve: Serve, tmp_path: Path) -> None:
    answer = Answer(200, PNG, {"Content-Length": str(len(PNG) + 50)}, close=True)
    media = fetcher(serve(lambda request: answer), tmp_path)
    with pytest.raises(MediaError, match="broke") as caught:
        fetch(media, "/data/upload/1/a.png")
    assert caught.value.retryable
    assert list((tmp_path / "images").glob("*/*")) == []


def test_a_drip_is_ended_by_the_deadline(serve: Serve, tmp_path: Path) -> None:
    def drip() -> Iterator[bytes]:
        yield PNG
        for _ in range(100):
            time.sleep(0.05)
            yield b"x"

    server = serve(lambda request: Answer(200, None, {}, drip()))
    media = fetcher(server, tmp_path, deadline_s=0.3)
    start = time.monotonic()
    with pytest.raises(MediaError, match=r"after 0\.3 s") as caught:
        fetch(media, "/data/upload/1/a.png")
    assert caught.value.retryable
    assert time.monotonic() - start < 2


def test_headers_that_drip_are_ended_by_the_deadline(serve: Serve, tmp_path: Path) -> None:
    answer = Answer(200, PNG, header_drip_s=0.05)
    images = serve(lambda request: answer)
    media = fetcher(
        serve(lambda request: IMAGE),
        tmp_path,
        deadline_s=0.3,
        allowed_hosts=("localhost",),
        address_allowed=lambda address: True,
    )
    start = time.monotonic()
    with pytest.raises(MediaError, match="in time") as caught:
        fetch(media, elsewhere(images) + "/a.png")
    assert caught.value.retryable
    assert time.monotonic() - start < 3
    answer.header_drip_s = 0
    assert fetch(media, elsewhere(images) + "/a.png") == PNG


def test_the_deadline_is_for_all_redirects_together(serve: Serve, tmp_path: Path) -> None:
    now = 0.0

    def slow(request: Request) -> Answer:
        nonlocal now
        now += 4.0
        return Answer(302, b"", {"Location": "/data/upload/1/b.png"})

    server = serve(slow)
    media = fetcher(server, tmp_path, deadline_s=10.0, clock=lambda: now)
    with pytest.raises(MediaError, match="after 10 s") as caught:
        fetch(media, "/data/upload/1/a.png")
    assert caught.value.retryable
    assert len(server.requests) == 3


def test_what_other_hosts_compress_is_not_unpacked(serve: Serve, tmp_path: Path) -> None:
    packed = Answer(200, gzip.compress(PNG), {"Content-Encoding": "gzip"})
    server = serve(lambda request: packed)
    media = fetcher(
        server, tmp_path, allowed_hosts=("localhost",), address_allowed=lambda address: True
    )
    with pytest.raises(MediaError, match="compressed"):
        fetch(media, elsewhere(server) + "/a.png")
    assert fetch(media, "/data/upload/1/a.png") == PNG


def test_a_host_taken_off_the_list_is_not_served_from_the_cache(
    serve: Serve, tmp_path: Path
) -> None:
    label_studio, images = serve(lambda request: IMAGE), serve(lambda request: IMAGE)
    uri = elsewhere(images) + "/a.png"
    allowed = fetcher(
        label_studio, tmp_path, allowed_hosts=("localhost",), address_allowed=lambda a: True
    )
    assert fetch(allowed, uri) == fetch(allowed, uri) == PNG
    with pytest.raises(MediaError, match="RAREFIRST_ALLOWED_HOSTS"):
        fetch(fetcher(label_studio, tmp_path), uri)
    assert len(images.requests) == 1


def test_one_slow_file_is_its_own_trouble(serve: Serve, tmp_path: Path) -> None:
    def slow(request: Request) -> Answer:
        time.sleep(0.6)
        return IMAGE

    media = fetcher(serve(slow), tmp_path, timeout_s=0.2)
    with pytest.raises(MediaError, match="no answer in time") as caught:
        fetch(media, "/data/upload/1/a.png")
    assert caught.value.retryable
    with pytest.raises(MediaError, match="no answer in time") as caught:
        fetch(media, media._origin + "/static/a.png")
    assert caught.value.retryable


@pytest.mark.parametrize(("status", "retryable"), [(500, True), (503, True), (429, True)])
def test_trouble_with_one_file_may_pass(
    serve: Serve, tmp_path: Path, status: int, retryable: bool
) -> None:
    media = fetcher(serve(lambda request: Answer(status, b"")), tmp_path)
    with pytest.raises(MediaError, match=str(status)) as caught:
        fetch(media, "/data/upload/1/a.png")
    assert caught.value.retryable is retryable


def test_a_forbidden_file_stays_forbidden(serve: Serve, tmp_path: Path) -> None:
    media = fetcher(serve(lambda request: Answer(403, b"")), tmp_path)
    with pytest.raises(MediaError, match="403") as caught:
        fetch(media, "/data/upload/1/a.png")
    assert not caught.value.retryable


def test_a_dead_token_and_an_absent_label_studio_are_everybodys_trouble(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(lambda request: Answer(401, {"detail": "Invalid token."}))
    with pytest.raises(Unauthorized):
        fetch(fetcher(server, tmp_path), "/data/upload/1/a.png")
    gone = MediaFetcher(
        LabelStudioClient("http://127.0.0.1:9", TOKEN),
        allowed_hosts=(),
        cache_dir=tmp_path,
        cache_bytes=0,
        max_bytes=10,
    )
    with pytest.raises(LabelStudioUnavailable):
        fetch(gone, "/data/upload/1/a.png")


def test_data_addresses(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda request: IMAGE)
    media = fetcher(server, tmp_path)
    good = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert fetch(media, good) == PNG
    for bad, reason in (
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,!!!", "not valid base64"),
        ("data:text/html,<html></html>", "a web page"),
        ("data:image/png;base64," + "A" * 2000, "larger than 1000"),
        ("data:," + "%41" * 1001, "larger than 1000"),
    ):
        with pytest.raises(MediaError, match=reason) as caught:
            fetch(media, bad)
        assert not caught.value.retryable
    assert server.connections == 0
    assert decode_data_uri("data:,P5%0A", max_bytes=4) == b"P5\n"


def test_threads_share_a_fetcher(
    label_studio_files: Callable[[Reply], Server], tmp_path: Path
) -> None:
    server = label_studio_files(lambda request: IMAGE)
    media = fetcher(server, tmp_path)
    uris = [f"/data/upload/1/{n % 10}.png" for n in range(60)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda uri: fetch(media, uri), uris)) == {PNG}
    assert len({request.path for request in server.requests}) == 10


def test_the_services_settings(tmp_path: Path, serve: Serve) -> None:
    server = serve(lambda request: Answer(200, PNG + bytes(1 << 20)))
    settings = Settings(data_dir=tmp_path, max_image_mb=1, allowed_hosts="a.test, b.test")
    media = MediaFetcher.from_settings(LabelStudioClient(server.url, TOKEN), settings)
    with pytest.raises(MediaError, match="at most 1048576"):
        fetch(media, "/data/upload/1/a.png")
