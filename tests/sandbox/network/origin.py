"""A web server on this machine's loopback, for code in sandboxes that is allowed to reach it."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Origin(ThreadingHTTPServer):
    """What it was asked, and how its connections went."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.scheme = "https" if tls else "http"
        self.host = f"127.0.0.1:{self.server_port}"
        self.url = f"{self.scheme}://{self.host}"
        self.heads: list[str] = []
        """Request line and headers of each request."""
        self.sent_bytes = 0
        """Of endless answers."""
        self.begun = threading.Event()
        """An answer that never ends has begun."""
        self.closed = threading.Event()
        """The client of such an answer went away."""

    def handle_error(self, request: Any, client_address: Any) -> None: ...


class _Answer(BaseHTTPRequestHandler):
    """`/bytes/5` gives so many, `/endless` more and more, `/hang` nothing, `/to/HOST` a redirect; POST what came."""

    protocol_version = "HTTP/1.1"
    server: Origin

    def do_GET(self) -> None:
        self.server.heads.append(f"{self.requestline}\n{self.headers}")
        _, what, *rest = self.path.partition("?")[0].split("/")
        match what:
            case "bytes":
                self._answer(b"x" * int(rest[0]))
            case "to":
                self.send_response(302)
                self.send_header("Location", f"http://{rest[0]}/")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case "endless":
                self.send_response(200)
                self.end_headers()
                self._wait_for_the_end(b"x" * 65536)
            case "hang":
                self._wait_for_the_end(b"")
            case _:
                self._answer(b"hello")

    def do_POST(self) -> None:
        self.server.heads.append(f"{self.requestline}\n{self.headers}")
        came = bytearray()
        while self.headers["Transfer-Encoding"] and (size := int(self.rfile.readline(), 16)):
            came += self.rfile.read(size)
            self.rfile.readline()
        left = int(self.headers["Content-Length"] or 0)
        while left and (part := self.rfile.read(min(left, 1 << 16))):
            came += part
            left -= len(part)
        self._answer(bytes(came))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _wait_for_the_end(self, part: bytes) -> None:
        self.server.begun.set()
        with contextlib.suppress(OSError):
            while part:
                self.wfile.write(part)
                self.server.sent_bytes += len(part)
            self.connection.recv(1)
        self.server.closed.set()
        self.close_connection = True

    def log_message(self, *_: Any) -> None: ...


@contextlib.contextmanager
def open_origin(tls: ssl.SSLContext | None = None) -> Iterator[Origin]:
    """One that serves until the end."""
    origin = Origin(tls)
    thread = threading.Thread(target=origin.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield origin
    finally:
        origin.shutdown()
        origin.server_close()
        thread.join()
