"""`python -m dynasaur_mcp.sandbox.egress LEVEL HOST…`: the egress proxy, on connections that are handed over on stdin.

The proxy is proxy.py, whose handler of connections and parser of request heads are used, with our rule on top. It has
no dependency and takes 2 MB and 0.2 s to start; mitmproxy, the other one that is well kept, brings 30 packages with
pinned versions of cryptography and h11, and none of its strength is wanted here: no TLS is opened. Its servers, its
plugins from the command line and its folder in the user's home are left out. What follows from its ways of working:

- It keeps a whole request body and a whole response in memory before or while it passes them on, and sends later
  requests of a connection to the first one's host. So here a connection has one request: its head is parsed and judged,
  and from then on bytes are moved as they come, no more of them than the head says. Server and client are told so by
  `Connection: close`.
- It reads from either side however slow the other is. Here, not before what was read is written.
- Names are resolved once, here; the very address that was judged is connected to, whatever the name resolves to later.

All in one file: its classes only bend those of proxy.py, and none can be understood without what the others changed.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import resource
import select
import selectors
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from proxy.core.connection import TcpServerConnection
from proxy.http.connection import HttpClientConnection
from proxy.http.exception import HttpRequestRejected, ProxyConnectionFailed
from proxy.http.handler import HttpProtocolHandler
from proxy.http.parser import HttpParser, httpParserStates, httpParserTypes
from proxy.http.proxy import HttpProxyBasePlugin, HttpProxyPlugin

from dynasaur_mcp.hosts import Host, read_host
from dynasaur_mcp.sandbox.addresses import RefusedError, find_address

logger = logging.getLogger("dynasaur_mcp.egress")

MAX_CONNECTIONS = 256
"""At once, of all sandboxes."""
MAX_HEAD_BYTES = 64 << 10
_IDLE_SECONDS = 3600.0
"""The server closes what nobody waits for; this is for what it forgot."""
_CHUNK_BYTES = 64 << 10
_FULL = b"HTTP/1.1 503 Too many connections at once\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_HEAD_TOO_LARGE = b"HTTP/1.1 431 Headers over 64 KB\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)")
_HOP = re.compile(rb"(connection|keep-alive|proxy-connection)[ \t]*:", re.IGNORECASE)


class Rule(HttpProxyBasePlugin):
    """Judges each request, and logs it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._started = time.monotonic()
        self._refusal = ""
        self._request: HttpParser | None = None
        self.address = ""
        self.bytes_out = self.bytes_in = 0
        self._answer = b""
        self._is_raw = False
        """Whether what the host sends is passed on as it is."""

    def before_upstream_connection(self, request: HttpParser) -> HttpParser:
        self._request = request
        host = (request.host or b"").decode("latin-1").strip("[]")
        try:
            self.address = find_address(self.flags.hosts, host, request.port or 80)
        except RefusedError as error:
            raise self.reject(403, str(error)) from None
        except OSError as error:
            raise self.reject(502, f"{host!r} was not found: {error.strerror or error}") from None
        if not (_header(request, b"content-length") or b"0").isdigit():
            raise self.reject(400, "Content-Length is no number")
        if _header(request, b"transfer-encoding").lower() not in (b"", b"chunked"):
            raise self.reject(501, "Of transfer encodings only chunked is known")
        return request

    def reject(self, status: int, reason: str) -> HttpRequestRejected:
        """The reason is in the status line too: of an answer to CONNECT, most clients show nothing else."""
        self._refusal = _clean(reason, 500)
        text = self._refusal.encode("ascii", "replace")
        return HttpRequestRejected(status, reason=text, headers={b"Content-Type": b"text/plain"}, body=text + b"\n")

    def resolve_dns(self, _host: str, _port: int) -> tuple[str, None]:
        return self.address, None

    def handle_client_request(self, request: HttpParser) -> HttpParser:
        if request.is_https_tunnel:
            self._is_raw = True
        else:
            port = b"" if request.port == 80 else b":%d" % (request.port or 80)
            request.add_header(b"Host", (request.host or b"") + port)
            if request.is_chunked_encoded:
                request.del_header(b"content-length")
            if request.is_connection_upgrade:
                self._is_raw = True
            else:
                request.del_headers([b"keep-alive", b"connection"])
                request.add_header(b"Connection", b"close")
        return request

    def handle_upstream_chunk(self, chunk: memoryview) -> None:
        # Passed on here: what this gives back would be parsed, and kept.
        self.bytes_in += len(chunk)
        if self._is_raw:
            self.client.queue(chunk)
            return
        self._answer += chunk
        while not self._is_raw and (end := _END_OF_HEAD.search(self._answer)):
            head, rest = self._answer[: end.end()], self._answer[end.end() :]
            if _INTERIM.match(head):
                self.client.queue(memoryview(head))
                self._answer = rest
            else:
                kept = [line for line in head.splitlines() if line and not _HOP.match(line)]
                told = b"\r\n".join([*kept, b"Connection: close", b"", rest])
                self.client.queue(memoryview(told))
                self._is_raw = True
        if len(self._answer) > MAX_HEAD_BYTES and not self._is_raw:
            self.client.queue(memoryview(self._answer))
            self._is_raw = True

    def on_access_log(self, _context: dict[str, Any]) -> None:
        request = self._request
        if request is None:
            return
        host = _clean((request.host or b"").decode("latin-1"), 260)
        what = f"{_clean((request.method or b'').decode('latin-1'), 20)} {host}:{request.port}"
        if self._refusal:
            logger.warning("%s for %s refused: %s", what, self.flags.who, self._refusal)
            return
        seconds = time.monotonic() - self._started
        sizes = f"{self.bytes_out:,} bytes out, {self.bytes_in:,} in, {seconds:.2f} s"
        logger.info("%s for %s allowed, to %s: %s", what, self.flags.who, self.address, sizes)


class Plugin(HttpProxyPlugin):
    """Says why there is no connection, rather than 'Bad Gateway'."""

    def connect_upstream(self) -> None:
        try:
            super().connect_upstream()
        except ProxyConnectionFailed as error:
            cause = error.__cause__
            reason = getattr(cause, "strerror", None) or str(cause)
            raise self.rule.reject(502, f"'{error.host}:{error.port}' cannot be reached: {reason}") from None

    @property
    def rule(self) -> Rule:
        (rule,) = self.plugins.values()
        assert isinstance(rule, Rule)
        return rule


class Head(HttpParser):
    """A request that counts as complete with its head."""

    @property
    def is_complete(self) -> bool:
        return self.state >= httpParserStates.HEADERS_COMPLETE


class Handler(HttpProtocolHandler):
    """One connection, see the module's docstring."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = Head(httpParserTypes.REQUEST_PARSER)
        self._head = b""
        self._body_bytes: int | None = None
        """Still to be passed on; None: as long as there is something."""

    def handle_data(self, data: memoryview) -> bool | None:
        """What the client sent; whether the connection is over."""
        if self.plugin is not None:
            self._pass_on(data)
            return False
        self._head += data.tobytes()
        head, mark, body = self._head.partition(b"\r\n\r\n")
        if not mark:
            if len(self._head) <= MAX_HEAD_BYTES:
                return False
            self.work.queue(memoryview(_HEAD_TOO_LARGE))
            return True
        if super().handle_data(memoryview(head + mark)):
            return True
        if not (self.request.is_https_tunnel or self.request.is_connection_upgrade or self.request.is_chunked_encoded):
            self._body_bytes = int(_header(self.request, b"content-length") or 0)
        self._pass_on(memoryview(body))
        return False

    def _pass_on(self, data: memoryview) -> None:
        upstream = self._upstream
        if self._body_bytes is not None:
            data = data[: self._body_bytes]
            self._body_bytes -= len(data)
        if upstream and data:
            assert isinstance(self.plugin, Plugin)
            self.plugin.rule.bytes_out += len(data)
            upstream.queue(data)

    @property
    def _upstream(self) -> TcpServerConnection | None:
        upstream = self.plugin.upstream if isinstance(self.plugin, Plugin) else None
        return None if upstream is None or upstream.closed else upstream

    async def get_events(self) -> dict[int, int]:
        events: dict[int, int] = await super().get_events()
        if upstream := self._upstream:
            ours, theirs = self.work.connection, upstream.connection
            if self.work.has_buffer():
                events[theirs.fileno()] &= ~selectors.EVENT_READ
            if upstream.has_buffer() and not _is_hung_up(ours):
                events[ours.fileno()] &= ~selectors.EVENT_READ
        return {descriptor: event for descriptor, event in events.items() if event}


def _is_hung_up(stream: socket.socket) -> bool:
    poll = select.poll()
    poll.register(stream, 0)
    return bool(poll.poll(0))


def _header(request: HttpParser, name: bytes) -> bytes:
    return request.header(name) if request.has_header(name) else b""


def _clean(text: str, limit: int) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:limit]


def serve(control: socket.socket, hosts: Sequence[Host]) -> None:
    """Take connections until `control` ends."""
    places = threading.BoundedSemaphore(MAX_CONNECTIONS)
    while True:
        mark, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not mark:
            return
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            if places.acquire(blocking=False):
                threading.Thread(target=_serve_one, args=(connection, hosts, places), daemon=True).start()
            else:
                with connection, suppress(OSError):
                    connection.sendall(_FULL)


def _serve_one(connection: socket.socket, hosts: Sequence[Host], places: threading.BoundedSemaphore) -> None:
    who = b""
    try:
        while not who.endswith(b"\n"):
            who += connection.recv(1) or b"\n"
        flags = argparse.Namespace(
            hosts=hosts,
            who=who.decode(errors="replace").strip(),
            plugins={b"HttpProtocolHandlerPlugin": [Plugin], b"HttpProxyBasePlugin": [Rule]},
            threadless=False,
            timeout=_IDLE_SECONDS,
            client_recvbuf_size=_CHUNK_BYTES,
            server_recvbuf_size=_CHUNK_BYTES,
            max_sendbuf_size=_CHUNK_BYTES,
            disable_headers=[],
            enable_proxy_protocol=False,
            enable_conn_pool=False,
            enable_events=False,
            keyfile=None,
            certfile=None,
            ca_key_file=None,
            ca_cert_dir=None,
            ca_signing_key_file=None,
            ca_cert_file=None,
        )
        Handler(HttpClientConnection(connection), flags=flags).run()
    finally:
        connection.close()
        places.release()


def main() -> None:
    logging.basicConfig(level=int(sys.argv[1]), stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    # Of its own it tells what clients did wrong, with what they sent.
    logging.getLogger("proxy").setLevel(logging.CRITICAL + 1)
    # A connection takes seven descriptors, as the handler has a loop of its own.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    serve(socket.socket(fileno=os.dup(0)), [read_host(text) for text in sys.argv[2:]])
    sys.stderr.flush()
    # Threads still at work are none that anybody waits for.
    os._exit(0)


if __name__ == "__main__":
    main()
