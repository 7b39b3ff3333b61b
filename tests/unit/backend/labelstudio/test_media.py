from __future__ import annotations

import base64
import gzip
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest

from backend.errors import LabelStudioUnavailable, MediaError, Unauthorized
from backend.labelstudio.client import LabelStudioClient
from backend.labelstudio.image_bytes import check_image, decode_data_uri
from backend.labelstudio.media import MediaFetcher, safe_name
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
    assert caught.value.retryable, "somebody may add the storage, or the file"


def test_local_files_without_a_storage_are_answered_with_403(serve: Serve, tmp_path: Path) -> None:
    media = fetcher(serve(lambda request: Answer(403, b"")), tmp_path)
    with pytest.raises(MediaError, match="Local Files storage"):
        fetch(media, "/data/local-files/?d=a.png")


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
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>Log in</html>", "a web page"),
        (b'<?xml version="1.0"?><svg/>', "an SVG drawing"),
        (b"<Error>AccessDenied</Error>", "an XML document"),
        (b'{"detail": "no"}', "a JSON document"),
        (b"what is this", "a text file"),
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
    check_image(head + bytes(40))


def test_a_file_that_is_too_large_is_cut_off(serve: Serve, tmp_path: Path) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield PNG
        for _ in range(1000):
            sent += 1
            yield bytes(10_000)

    server = serve(lambda request: Answer(200, None, {}, endless()))
    with pytest.raises(MediaError, match="more than the 1000 bytes"):
        fetch(fetcher(server, tmp_path), "/data/upload/1/a.png")
    declared = serve(lambda request: Answer(200, bytes(2000)))
    with pytest.raises(MediaError, match="more than the 1000 bytes"):
        fetch(fetcher(declared, tmp_path), "/data/upload/1/a.png")


def test_a_truncated_file_is_fetched_again_later(serve: Serve, tmp_path: Path) -> None:
    answer = Answer(200, PNG, {"Content-Length": str(len(PNG) + 50)}, close=True)
    media = fetcher(serve(lambda request: answer), tmp_path)
    with pytest.raises(MediaError, match="incomplete") as caught:
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


@pytest.mark.parametrize(
    ("status", "retryable", "said"),
    [
        (403, True, "does not let this token see"),
        (404, True, "was the file deleted"),
        (410, False, "gone for good"),
        (424, True, "could not get the file from its storage"),
        (429, True, "answered 429"),
        (500, True, "missing on its disk"),
        (503, True, "answered 503"),
    ],
)
def test_what_label_studio_says_of_one_file(
    serve: Serve, tmp_path: Path, status: int, retryable: bool, said: str
) -> None:
    media = fetcher(serve(lambda request: Answer(status, b"")), tmp_path)
    with pytest.raises(MediaError, match=str(status)) as caught:
        fetch(media, "/data/upload/1/a.png")
    assert caught.value.retryable is retryable
    assert said in str(caught.value)


def allowed(label_studio: Server, tmp_path: Path, **options: object) -> MediaFetcher:
    """One that may ask localhost, which counts as public here."""
    return fetcher(
        label_studio,
        tmp_path,
        allowed_hosts=("localhost",),
        address_allowed=lambda address: True,
        **options,
    )


@pytest.mark.parametrize(
    ("status", "retryable", "said"),
    [
        (400, False, "answered 400"),
        (401, True, "asks for a login"),
        (403, True, "is the file public"),
        (404, True, "moved or deleted"),
        (408, True, "answered 408"),
        (410, False, "gone for good"),
        (429, True, "answered 429"),
        (500, True, "answered 500"),
    ],
)
def test_what_another_host_says(
    serve: Serve, tmp_path: Path, status: int, retryable: bool, said: str
) -> None:
    images = serve(lambda request: Answer(status, b""))
    media = allowed(serve(lambda request: IMAGE), tmp_path)
    with pytest.raises(MediaError, match=f"localhost answered {status}") as caught:
        fetch(media, elsewhere(images) + "/very/private/a.png?signature=secret")
    assert caught.value.retryable is retryable
    assert said in str(caught.value) or said in f"answered {status}"
    assert "private" not in str(caught.value), "reasons are counted: no addresses in them"


def test_relative_redirects_and_chunks(serve: Serve, tmp_path: Path) -> None:
    def reply(request: Request) -> Answer:
        if request.path == "/deep/a.png":
            return Answer(302, b"", {"Location": "../other/b.png?x=1"})
        return Answer(200, None, {}, iter([PNG[:10], PNG[10:50], PNG[50:]]))

    images = serve(reply)
    media = allowed(serve(lambda request: IMAGE), tmp_path)
    assert fetch(media, elsewhere(images) + "/deep/a.png") == PNG
    assert [request.path for request in images.requests] == ["/deep/a.png", "/other/b.png"]


def test_redirects_in_a_circle_end(serve: Serve, tmp_path: Path) -> None:
    images = serve(lambda request: Answer(302, b"", {"Location": "/a.png"}))
    media = allowed(serve(lambda request: IMAGE), tmp_path)
    with pytest.raises(MediaError, match="more than 5 redirects"):
        fetch(media, elsewhere(images) + "/a.png")
    assert len(images.requests) == 6


def test_an_incomplete_download_of_another_host_is_told_as_such(
    serve: Serve, tmp_path: Path
) -> None:
    answer = Answer(200, PNG, {"Content-Length": str(len(PNG) + 50)}, close=True)
    images = serve(lambda request: answer)
    media = allowed(serve(lambda request: IMAGE), tmp_path)
    for _ in range(20):  # it answers, if badly: it is not left alone
        with pytest.raises(MediaError, match="incomplete from localhost") as caught:
            fetch(media, elsewhere(images) + "/a.png")
        assert caught.value.retryable
    answer.headers = {}
    answer.close = False
    assert fetch(media, elsewhere(images) + "/a.png") == PNG


def test_a_server_that_hangs_after_its_headers(serve: Serve, tmp_path: Path) -> None:
    def hang() -> Iterator[bytes]:
        yield PNG[:10]
        time.sleep(1.0)
        yield PNG[10:]

    images = serve(lambda request: Answer(200, None, {}, hang()))
    label_studio = serve(lambda request: Answer(200, None, {}, hang()))
    media = allowed(label_studio, tmp_path, timeout_s=0.2)
    for uri in (elsewhere(images) + "/a.png", "/data/upload/1/a.png"):
        with pytest.raises(MediaError, match="no answer in time") as caught:
            fetch(media, uri)
        assert caught.value.retryable


def test_a_server_that_does_not_accept(serve: Serve, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = []
        for _ in range(4):  # the queue of connections is full: further ones hang
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        media = allowed(serve(lambda request: IMAGE), tmp_path, timeout_s=0.4)
        start = time.monotonic()
        with pytest.raises(MediaError, match="localhost") as caught:
            fetch(media, f"http://localhost:{port}/a.png")
        assert caught.value.retryable
        assert time.monotonic() - start < 3
        for filler in fillers:
            filler.close()


def test_a_host_that_is_silent_again_and_again_is_left_alone(serve: Serve, tmp_path: Path) -> None:
    now = 0.0
    asked = 0

    def hang(request: Request) -> Answer:
        nonlocal asked
        asked += 1
        if now < 100:
            time.sleep(0.3)
        return IMAGE

    images, other = serve(hang), serve(lambda request: IMAGE, host="127.0.0.2")
    media = fetcher(
        serve(lambda request: IMAGE),
        tmp_path,
        allowed_hosts=("localhost", "127.0.0.2"),
        address_allowed=lambda address: True,
        timeout_s=0.1,
        clock=lambda: now,
    )
    start = time.monotonic()
    for n in range(1000):
        with pytest.raises(MediaError) as caught:
            fetch(media, f"{elsewhere(images)}/{n}.png")
        assert caught.value.retryable
    assert "several times in a row" in str(caught.value)
    assert asked == 6
    assert time.monotonic() - start < 20
    assert fetch(media, f"{other.url}/a.png") == PNG
    now = 200.0
    assert fetch(media, f"{elsewhere(images)}/1.png") == PNG
    assert fetch(media, f"{elsewhere(images)}/2.png") == PNG


def test_a_private_storage_says_what_to_switch(serve: Serve, tmp_path: Path) -> None:
    bucket = serve(lambda request: IMAGE)
    location = {"Location": bucket.url + "/signed?x=secret"}
    label_studio = serve(lambda request: Answer(303, b"", location), host="127.0.0.2")
    with pytest.raises(MediaError, match="switch pre-signed URLs off") as caught:
        fetch(fetcher(label_studio, tmp_path), "s3://bucket/a.png")
    assert "secret" not in str(caught.value)
    assert bucket.connections == 0


def test_what_could_not_be_decoded_is_fetched_anew(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda request: IMAGE)
    media = fetcher(server, tmp_path)
    fetch(media, " /data/upload/1/a.png")
    media.forget("/data/upload/1/a.png ", project_key="1-a")
    fetch(media, "/data/upload/1/a.png")
    fetch(media, "/data/upload/1/a.png")
    assert len(server.requests) == 2


def test_names_that_may_be_shown() -> None:
    assert safe_name("https://user:pw@h.test:8/a.png?X-Amz-Signature=s") == "https://h.test:8/a.png"
    assert safe_name("s3://bucket/a b.png") == "s3://bucket/a b.png"
    assert safe_name("/data/local-files/?d=x/a.png") == "/data/local-files/?d=x/a.png"
    assert safe_name("data:image/png;base64,AAAA") == "data:image/png;base64"
    assert len(safe_name("http://h.test/" + "a" * 5000)) == 120
    assert safe_name("http://[::1") == "the address"
    encoded = base64.urlsafe_b64encode(b"s3://bucket/a.png?x=secret").decode()
    assert safe_name(f"/tasks/7/resolve/?fileuri={encoded}") == "s3://bucket/a.png"
    assert safe_name("/tasks/7/resolve/?fileuri=%FF") == "/tasks/7/resolve/"


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
    packed = base64.b64encode(PNG).decode()
    for odd in (
        "data:image/png;charset=utf-8;base64," + packed,
        "DATA:image/png;BASE64," + packed,
        " data:image/png;base64," + packed.rstrip("=") + " ",
        "data:image/png;base64," + packed.replace("=", "%3D").replace("+", "%2B"),
        "data:image/png;base64," + packed[:20] + "\n" + packed[20:],
        "data:text/html," + quote_from_bytes(PNG),
    ):
        assert fetch(media, odd) == PNG
    assert decode_data_uri("data:,P5%0A", max_bytes=4) == b"P5\n"


def test_threads_share_a_fetcher(
    label_studio_files: Callable[[Reply], Server], tmp_path: Path
) -> None:
    server = label_studio_files(lambda request: IMAGE)
    media = fetcher(server, tmp_path, timeout_s=20.0)  # the machine may be busy
    uris = [f"/data/upload/1/{n % 10}.png" for n in range(60)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda uri: fetch(media, uri), uris)) == {PNG}
    assert len({request.path for request in server.requests}) == 10


def test_the_services_settings(tmp_path: Path, serve: Serve) -> None:
    server = serve(lambda request: Answer(200, PNG + bytes(1 << 20)))
    settings = Settings(data_dir=tmp_path, max_image_mb=1, allowed_hosts="a.test, b.test")
    media = MediaFetcher.from_settings(LabelStudioClient(server.url, TOKEN), settings)
    with pytest.raises(MediaError, match="more than the 1048576 bytes"):
        fetch(media, "/data/upload/1/a.png")
