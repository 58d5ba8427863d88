"""What code can reach, on each sandbox, through the real proxy to real servers on this machine's loopback."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import psutil
import pytest
import trustme

from dynasaur_mcp.sandbox.session import Session
from dynasaur_mcp.types import Ending, Outcome

from .origin import Origin, open_origin

HELPERS = """
import hashlib, os, socket, ssl, threading, time
import urllib.request
from urllib.parse import urlsplit

def get(url, **options):
    with urllib.request.urlopen(url, **options) as answer:
        return answer.read()

def by_proxy(url):
    'Also where the environment says to go directly.'
    request = urllib.request.Request(url)
    request.set_proxy(urlsplit(os.environ['http_proxy']).netloc, 'http')
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read()

def say(data):
    'Send bytes to the proxy; all it answers.'
    with socket.create_connection(urlsplit(os.environ['http_proxy']).netloc.split(':')) as connection:
        connection.sendall(data)
        answer = b''
        while part := connection.recv(65536):
            answer += part
        return answer.decode('latin-1')
"""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with open_origin() as origin:
        yield origin


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Origin]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with open_origin(context) as origin:
        yield origin


async def run(session: Session, code: str, timeout_seconds: float | None = None) -> Outcome:
    return await session.run(HELPERS + code, {}, (), timeout_seconds=timeout_seconds)


async def shown(session: Session, code: str) -> str:
    outcome = await run(session, code)
    assert outcome.ending is Ending.RETURNED, outcome
    return outcome.shown


async def failure(session: Session, code: str) -> str:
    """The last line of the traceback."""
    outcome = await run(session, code)
    assert outcome.ending is Ending.RAISED, outcome
    return [line for line in outcome.error.splitlines() if not line.startswith("Hint: ")][-1]


def proxies() -> list[psutil.Process]:
    """The egress proxies of this process."""
    return [p for p in psutil.Process().children() if "dynasaur_mcp.sandbox.egress" in p.cmdline()]
