"""Requests as they are sent and answered: by TLS, in one connection or chunks, with lengths that lie, and nonsense."""

from __future__ import annotations

import ssl

import pytest
import trustme

from dynasaur_mcp.types import Ending
from tests.sandbox.conftest import OpenPool

from .conftest import failure, run, shown
from .origin import Origin, open_origin

pytestmark = pytest.mark.anyio


async def test_tls_goes_through_unopened(open_sandbox: OpenPool, secure: Origin, authority: trustme.CA) -> None:
    pem = authority.cert_pem.bytes().decode()
    async with open_sandbox(network=(secure.host,)) as pool, pool.session("me") as session:
        trusting = f"context = ssl.create_default_context(cadata={pem!r})\n"
        assert await shown(session, f"{trusting}get('{secure.url}/', context=context)") == "b'hello'"
        size = 8 << 20
        assert await shown(session, f"len(get('{secure.url}/bytes/{size}', context=context))") == str(size)
        assert "CERTIFICATE_VERIFY_FAILED" in await failure(session, f"get('{secure.url}/')")


async def test_public_authorities_are_trusted_where_the_network_is_allowed(open_sandbox: OpenPool) -> None:
    if not ssl.create_default_context().get_ca_certs():
        pytest.skip("no authorities on this machine")
    async with open_sandbox(network=("api.example.org",)) as pool, pool.session("me") as session:
        assert await shown(session, "len(ssl.create_default_context().get_ca_certs()) > 0") == "True"


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + bytes(range(256)) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET ftp://{host}/ HTTP/1.1\r\n\r\n",
        b"GET http:///x HTTP/1.1\r\n\r\n",
        b"GET http://{host}/ HTTP/9\r\n\r\n",
        b"CONNECT :443 HTTP/1.1\r\n\r\n",
        b"CONNECT 127.0.0.1:99999 HTTP/1.1\r\n\r\n",
        b"CONNECT 127.0.0.1:-1 HTTP/1.1\r\n\r\n",
        b"CONNECT a\x00b:443 HTTP/1.1\r\n\r\n",
        b"POST http://{host}/ HTTP/1.1\r\nContent-Length: -5\r\n\r\nhello",
        b"POST http://{host}/ HTTP/1.1\r\nContent-Length: many\r\n\r\nhello",
        b"POST http://{host}/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET http://{host}/ HTTP/1.1\r\nX: " + b"y" * 70000 + b"\r\n\r\n",
        b"z" * 200000,
    ],
)
async def test_nonsense_is_answered_with_an_error_and_goes_no_further(
    open_sandbox: OpenPool, origin: Origin, data: bytes
) -> None:
    data = data.replace(b"{host}", origin.host.encode())
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        outcome = await run(session, f"say({data!r})")
        assert outcome.ending is Ending.RETURNED, outcome
        assert outcome.shown[1:].startswith(("HTTP/1.1 4", "HTTP/1.1 5")), outcome.shown
        assert origin.heads == []
        assert await shown(session, f"get('{origin.url}/')") == "b'hello'"


async def test_second_request_of_a_connection_goes_nowhere(open_sandbox: OpenPool, origin: Origin) -> None:
    one = f"GET {origin.url}/first HTTP/1.1\r\nHost: elsewhere\r\nConnection: keep-alive\r\n\r\n"
    two = "GET http://169.254.169.254/second HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"
    three = f"POST {origin.url}/third HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        assert "hello" in await shown(session, f"say({(one + two).encode()!r})")
        assert "hello" in await shown(session, f"say({(three + two).encode()!r})")
    assert [head.splitlines()[0] for head in origin.heads] == ["GET /first HTTP/1.1", "POST /third HTTP/1.1"]
    assert f"Host: {origin.host}" in origin.heads[0]


async def test_client_that_keeps_its_connection_reaches_each_host_in_turn(
    open_sandbox: OpenPool, origin: Origin
) -> None:
    with open_origin() as other:
        code = f"""
import http.client
connection = http.client.HTTPConnection(urlsplit(os.environ['http_proxy']).netloc)
def fetch(url):
    connection.request('GET', url)
    with connection.getresponse() as answer:
        return answer.read(), answer.will_close
[fetch(url) for url in ['{origin.url}/', '{other.url}/'] * 3] == [(b'hello', True)] * 6
"""
        async with open_sandbox(network=(origin.host, other.host)) as pool, pool.session("me") as session:
            assert await shown(session, code) == "True"
        assert [f"Host: {one.host}" in head for one in (origin, other) for head in one.heads] == [True] * 6


async def test_body_in_chunks_and_one_that_is_asked_for_arrive(open_sandbox: OpenPool, origin: Origin) -> None:
    head = f"POST {origin.url}/ HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        assert await shown(session, f"get('{origin.url}/', data=iter([b'he', b'llo']))") == "b'hello'"
        answer = await shown(session, f"say({head.encode()!r} + b'hello')")
        assert answer.startswith("'HTTP/1.1 100 Continue")
        assert "Connection: close" in answer
        assert answer.endswith("hello'")


async def test_both_lengths_of_a_body_become_the_one_that_counts(open_sandbox: OpenPool, origin: Origin) -> None:
    head = f"POST {origin.url}/ HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        await shown(session, f"say({head.encode()!r} + b'5\\r\\nhello\\r\\n0\\r\\n\\r\\n')")
    assert "content-length" not in origin.heads[0].lower()
