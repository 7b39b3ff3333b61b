from __future__ import annotations

import socket

import pytest
import urllib3

from backend.labelstudio.guarded_http import AddressRefused, GuardedHTTP, is_public
from tests.unit.backend.labelstudio.conftest import Serve
from tests.unit.backend.labelstudio.local_http import Answer


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "240.0.0.1",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "::127.0.0.1",
        "::ffff:0:10.0.0.1",
        "64:ff9b:1::1",
        "2001:db8::1",
        "2606:4700:4700::5efe:10.0.0.1",
        "2606:4700:4700::200:5efe:10.0.0.1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


def test_a_private_server_is_never_asked(serve: Serve) -> None:
    server = serve(lambda request: Answer(200, b"secret"))
    guarded = GuardedHTTP(is_public, connect_s=1, read_s=1)
    for url in (server.url, f"http://localhost:{server.port}", f"http://[::1]:{server.port}"):
        with pytest.raises(AddressRefused):
            guarded.get(url)
    assert server.connections == 0


def test_the_connection_goes_to_the_address_that_was_checked(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: a name that answers differently the second time it is asked."""
    server = serve(lambda request: Answer(200, b"secret"))
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *args: object, **kwargs: object) -> object:
        if host == "rebind.test":
            asked.append(host)
            address = "127.0.0.2" if len(asked) == 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, server.port))]
        return real(host, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    guarded = GuardedHTTP(lambda address: address == "127.0.0.2", connect_s=1, read_s=1)
    with pytest.raises(urllib3.exceptions.HTTPError):
        guarded.get(f"http://rebind.test:{server.port}/")  # nobody listens on 127.0.0.2
    assert asked == ["rebind.test"]
    assert server.connections == 0


def test_one_private_address_among_several_is_enough(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda request: Answer(200, b"x"))
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, server.port))
        for address in ("127.0.0.1", "10.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    guarded = GuardedHTTP(lambda address: address == "127.0.0.1", connect_s=1, read_s=1)
    with pytest.raises(AddressRefused):
        guarded.get("http://mixed.test/")
    assert server.connections == 0


def test_an_allowed_server_is_asked_on_one_connection(serve: Serve) -> None:
    server = serve(lambda request: Answer(200, b"fine"))
    guarded = GuardedHTTP(lambda address: True, connect_s=1, read_s=1)
    for _ in range(3):
        response = guarded.get(server.url)
        while response.read1(100):
            pass
        response.close()
    assert len(server.requests) == 3
    assert server.connections == 1


def test_no_proxy_of_the_environment_is_used(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(lambda request: Answer(200, b"proxied"))
    server = serve(lambda request: Answer(200, b"direct"))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("http_proxy", proxy.url)
    response = GuardedHTTP(lambda address: True, connect_s=1, read_s=1).get(server.url)
    assert response.read() == b"direct"
    assert proxy.connections == 0
