"""HTTP that refuses to connect to private addresses, whatever a name resolves to.

Names are resolved once and the connection goes to the very address that was checked, so a name
that changes between check and use (DNS rebinding) gains nothing. Proxies of the environment are
not used: behind one, nobody could check where the connection goes.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.response import HTTPResponse
from urllib3.util.connection import create_connection
from urllib3.util.timeout import Timeout

AddressRule = Callable[[str], bool]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ISATAP = frozenset({0x5EFE, 0x02005EFE})  # RFC 5214: before the last 32 bits, an IPv4 address


class AddressRefused(Exception):  # noqa: N818 -- as in backend.errors; turned into MediaError there
    """A name resolved to an address that must not be connected to."""


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet, looking through IPv6 wrappings of IPv4."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        # Deprecated, but routed inside some networks (RFC 3879): Python calls them global.
        if ip.is_site_local or ip.teredo is not None:
            return False
        if int(ip) >> 32 & 0xFFFFFFFF in _ISATAP:
            return False
        if wrapped is not None:
            return is_public(str(wrapped))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class GuardedHTTP:
    """GET requests without redirects, to addresses that a rule allows; safe between threads.

    Args:
        allowed: whether an IP address may be connected to.
        connect_s: seconds to connect.
        read_s: seconds without a byte.
    """

    def __init__(self, allowed: AddressRule, *, connect_s: float, read_s: float) -> None:
        self._timeout = Timeout(connect=connect_s, read=read_s)
        self._pools = urllib3.PoolManager(num_pools=16, maxsize=8)
        self._pools.pool_classes_by_scheme = _pool_classes(allowed)

    def get(self, url: str) -> urllib3.BaseHTTPResponse:
        """Open a URL; the caller reads and releases the response.

        Raises:
            AddressRefused: its host resolves to an address that is not allowed.
            urllib3.exceptions.HTTPError: it could not be connected to, or timed out.
        """
        return self._pools.request(
            "GET",
            url,
            headers={"User-Agent": "rarefirst", "Accept": "image/*", "Accept-Encoding": "identity"},
            preload_content=False,
            redirect=False,
            retries=False,
            timeout=self._timeout,
        )

    @contextmanager
    def opened(self, url: str, *, within_s: float) -> Iterator[urllib3.BaseHTTPResponse]:
        """Open a URL for as long as the block lasts.

        Args:
            url: which.
            within_s: seconds for everything together, from the TLS handshake to the last byte:
                a server that sends a byte now and then never runs into ``read_s``.

        Raises:
            AddressRefused: its host resolves to an address that is not allowed.
            TimeoutError: the time is over. Raised at the end of the block, too, since a
                connection that was cut can look like the end of a file.
            urllib3.exceptions.HTTPError: it could not be connected to, or timed out.
        """
        watch = _Watch(within_s)
        _watched.by = watch
        try:
            response = self.get(url)
            try:
                yield response
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if watch.over:
                raise TimeoutError(f"not complete after {within_s:g} s") from error
            raise
        finally:
            _watched.by = None
            watch.end()
        if watch.over:
            raise TimeoutError(f"not complete after {within_s:g} s")


class _Watch:
    """Ends the connections of one request when its time is over.

    Attributes:
        over: it did.
    """

    def __init__(self, within_s: float) -> None:
        self.over = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._copies: list[socket.socket] = []
        self._timer = threading.Timer(max(within_s, 0.0), self._cut)
        self._timer.daemon = True
        self._timer.start()

    def hold(self, sock: socket.socket, *, copy: bool = False) -> None:
        """Watch a socket; as a copy where TLS is about to take the socket itself over."""
        with self._lock:
            if copy:
                sock = sock.dup()
                self._copies.append(sock)
            self._sockets.append(sock)
            if self.over:
                _shut(sock)

    def end(self) -> None:
        """Watch no longer."""
        self._timer.cancel()
        with self._lock:
            self._sockets.clear()
            for sock in self._copies:
                sock.close()
            self._copies.clear()

    def _cut(self) -> None:
        with self._lock:
            self.over = True
            for sock in self._sockets:
                _shut(sock)


class _Watched(threading.local):
    """The watch of the request that this thread is about."""

    by: _Watch | None = None


_watched = _Watched()


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # closed already
        # Not SSLSocket's own, which would first forget its TLS state while a thread reads.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _pool_classes(
    allowed: AddressRule,
) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's own pools, with connections that check the address before they connect."""

    class CheckedHTTPConnection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, allowed)

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 does
            _watch_answer(self)
            return super().getresponse()

    class CheckedHTTPSConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, allowed)

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 does
            _watch_answer(self)
            return super().getresponse()

    class CheckedHTTPPool(HTTPConnectionPool):
        ConnectionCls = CheckedHTTPConnection

    class CheckedHTTPSPool(HTTPSConnectionPool):
        ConnectionCls = CheckedHTTPSConnection

    return {"http": CheckedHTTPPool, "https": CheckedHTTPSPool}


def _watch_answer(connection: HTTPConnection) -> None:
    """A connection of the pool was made for another request: this one's watch must know it."""
    if _watched.by is not None and connection.sock is not None:
        _watched.by.hold(connection.sock)


def _connect(connection: HTTPConnection, allowed: AddressRule) -> socket.socket:
    """Resolve once, check every address, connect to a checked one, check the peer."""
    host, port = connection.host, connection.port
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
        raise NameResolutionError(host, connection, reason) from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not allowed(address):
            raise AddressRefused(f"{host} resolves to a private or reserved address")
    trouble: OSError | None = None
    for address in addresses:
        try:
            sock = create_connection(
                (address, port),
                connection.timeout,
                source_address=connection.source_address,
                socket_options=connection.socket_options,
            )
        except OSError as error:
            trouble = error
            continue
        if not allowed(str(sock.getpeername()[0])):
            sock.close()
            raise AddressRefused(f"{host} led to a private or reserved address")
        if _watched.by is not None:
            _watched.by.hold(sock, copy=True)
        return sock
    if isinstance(trouble, TimeoutError):
        raise ConnectTimeoutError(connection, f"connecting to {host} timed out") from trouble
    raise NewConnectionError(connection, f"cannot connect to {host}: {trouble}") from trouble


def host_of(url: str) -> str:
    """The host of a URL in lower case, without a final dot."""
    return (urlsplit(url).hostname or "").lower().rstrip(".")
