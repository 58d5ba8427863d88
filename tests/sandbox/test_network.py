"""What code can reach, on each sandbox, through the real proxy to real servers on this machine's loopback."""

from __future__ import annotations

import logging
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from functools import partial

import anyio
import anyio.to_thread
import psutil
import pytest
import trustme

from dynasaur_mcp.sandbox.addresses import is_public
from dynasaur_mcp.sandbox.session import Session
from dynasaur_mcp.types import Ending, Outcome

from .conftest import RUNTIME, OpenPool
from .origin import Origin, open_origin

pytestmark = pytest.mark.anyio

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


async def test_request_to_a_listed_address_is_answered_and_logged_without_its_query(
    open_sandbox: OpenPool, origin: Origin, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "dynasaur_mcp")
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("ada", "work") as session:
        assert await shown(session, f"get('{origin.url}/hello?token=secret')") == "b'hello'"
        assert await shown(session, f"get('{origin.url}/hello', data=b'sent')") == "b'sent'"
    logged = capfd.readouterr().err
    assert f"GET {origin.host} for 'ada' in session 'work' allowed" in logged
    assert "4 bytes out" in logged
    assert "secret" not in logged
    assert f"Host: {origin.host}" in origin.heads[0]


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
    ("code", "refusal"),
    [
        ("get('http://other.example.org/')", "HTTP Error 403: 'other.example.org' is not allowed by this server"),
        ("get('https://other.example.org/')", "403 'other.example.org' is not allowed by this server"),
        ("get('http://bad.example.com.evil.org/')", "403: 'bad.example.com.evil.org' is not allowed"),
        ("get('http://example.com/')", "403: 'example.com' is not allowed"),
        ("get('http://api.example.org:8080/')", "403: 'api.example.org:8080' is not allowed"),
        ("get('https://api.example.org:22/')", "403 'api.example.org:22' is not allowed"),
        ("get('https://api.example.org:25/')", "403 'api.example.org:25' is not allowed"),
        ("get('http://169.254.169.254/latest/meta-data/')", "403: '169.254.169.254' is not allowed"),
        ("get('http://10.0.0.5/')", "403: '10.0.0.5' is not allowed"),
        ("get('http://93.184.216.34/')", "403: '93.184.216.34' is not allowed"),
        ("get('http://[fd00::1]/')", "403: '[fd00::1]' is not allowed"),
        ("get('http://127.0.0.1:1/')", "403: '127.0.0.1:1' is not allowed"),
        ("by_proxy('http://localhost/')", "403: 'localhost:80' never leads to this machine"),
        ("get('http://2130706433/')", "403: '2130706433:80' is no host"),
        ("get('http://0x7f.1/')", "403: '0x7f.1:80' is no host"),
        ("get('http://127.0.0.1./')", "403: '127.0.0.1.:80' is no host"),
        ("get('http://api.example.org@10.0.0.5/')", "HTTP Error 400"),
    ],
)
async def test_what_is_not_listed_is_refused_with_what_allows_it(
    open_sandbox: OpenPool, origin: Origin, code: str, refusal: str
) -> None:
    network = (origin.host, "api.example.org", "*.example.com")
    async with open_sandbox(network=network) as pool, pool.session("me") as session:
        error = await failure(session, code)
        assert refusal in error
        assert "is not allowed" not in error or "The operator of this server allows it with --network allow:" in error
        assert origin.heads == []


async def test_refusal_is_told_in_the_body_too_and_logged_as_a_warning(
    open_sandbox: OpenPool, capfd: pytest.CaptureFixture[str]
) -> None:
    async with open_sandbox(network=("api.example.org",)) as pool, pool.session("ada") as session:
        answer = await shown(
            session, "print(say(b'GET http://x.example.org/?key=1 HTTP/1.1\\r\\nHost: y\\r\\n\\r\\n'))"
        )
        del answer
        outcome = await run(session, "print(say(b'CONNECT x.example.org:443 HTTP/1.1\\r\\n\\r\\n'))")
    _, _, body = outcome.stdout.partition("\r\n\r\n")
    sentence = "'x.example.org' is not allowed by this server. "
    sentence += "The operator of this server allows it with --network allow:x.example.org"
    assert outcome.stdout.startswith(f"HTTP/1.1 403 {sentence}")
    assert body.strip() == sentence
    logged = capfd.readouterr().err
    assert (
        f"WARNING dynasaur_mcp.egress: GET x.example.org:80 for 'ada' in session 'default' refused: {sentence}"
        in logged
    )
    assert "key" not in logged


async def test_listed_name_that_resolves_to_this_machine_is_refused(open_sandbox: OpenPool, origin: Origin) -> None:
    name = socket.gethostname()
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, 80)}
    except OSError:
        pytest.skip("this machine's name resolves to nothing")
    if all(map(is_public, found)):
        pytest.skip("this machine's name resolves to an address of the internet")
    listed = f"{name}:{origin.server_port}".lower()
    async with open_sandbox(network=(listed,)) as pool, pool.session("me") as session:
        error = await failure(session, f"get('http://{listed}/')")
    assert f"{name.lower()!r} resolves to an address that is not public" in error, found
    assert origin.heads == []


async def test_redirect_to_what_is_not_listed_is_refused(open_sandbox: OpenPool, origin: Origin) -> None:
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        error = await failure(session, f"get('{origin.url}/to/169.254.169.254')")
        assert "403: '169.254.169.254' is not allowed by this server" in error
        assert await shown(session, f"get('{origin.url}/to/{origin.host}')") == "b'hello'"


async def test_past_the_proxy_there_is_nothing_and_the_error_says_what_is_allowed(
    open_sandbox: OpenPool, origin: Origin
) -> None:
    directly = f"socket.create_connection(('127.0.0.1', {origin.server_port}), 5)"
    tries = [directly, "socket.create_connection(('93.184.216.34', 80), 5)", "socket.getaddrinfo('example.org', 80)"]
    tries.append("urllib.request.build_opener(urllib.request.ProxyHandler({})).open('http://api.example.org/')")
    async with open_sandbox(network=("api.example.org",)) as pool, pool.session("me") as session:
        for code in tries:
            hint = (await run(session, code)).error.splitlines()[-1]
            assert hint.startswith("Hint: only HTTP(S) by the proxy in $HTTP_PROXY gets out"), code
            assert "to api.example.org." in hint
            assert "--network allow:HOST" in hint
    async with open_sandbox() as pool, pool.session("me") as session:
        for code in tries:
            hint = (await run(session, code)).error.splitlines()[-1]
            assert hint.startswith("Hint: the sandbox has no network, and 127.0.0.1 is its own."), code
            assert "--network allow:HOST" in hint


async def test_large_upload_and_download_arrive_whole(open_sandbox: OpenPool, origin: Origin) -> None:
    code = f"""
data = os.urandom(1 << 20) * 50
hashlib.sha256(get('{origin.url}/', data=data)).digest() == hashlib.sha256(data).digest()
"""
    sandbox = open_sandbox(network=(origin.host,), memory_bytes=512 << 20, wall_seconds=60)
    async with sandbox as pool, pool.session("me") as session:
        assert await shown(session, code) == "True"


async def test_fast_server_is_held_up_by_a_slow_reader_who_stalls_no_other(
    open_sandbox: OpenPool, origin: Origin
) -> None:
    code = f"""
slow = urllib.request.urlopen('{origin.url}/endless')
print('begun', flush=True)
answers = [get('{origin.url}/bytes/100000') for _ in range(30)]
[len(answer) for answer in answers] == [100000] * 30
"""
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        assert await shown(session, code) == "True"
        assert await anyio.to_thread.run_sync(partial(origin.closed.wait, 10))
    # Windows and socket buffers on the way, and no more.
    assert 0 < origin.sent_bytes < 16 << 20


async def test_server_that_never_answers_costs_the_step_its_time_and_no_more(
    open_sandbox: OpenPool, origin: Origin
) -> None:
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        await run(session, "kept = 1")
        outcome = await run(session, f"get('{origin.url}/hang')", timeout_seconds=0.5)
        assert outcome.ending is Ending.TIMEOUT
        assert await anyio.to_thread.run_sync(partial(origin.closed.wait, 10))
        assert await shown(session, f"kept, get('{origin.url}/')") == "(1, b'hello')"


async def test_cancelled_step_closes_its_connections_in_the_middle(open_sandbox: OpenPool, origin: Origin) -> None:
    code = f"""
streams = [urllib.request.urlopen('{origin.url}/endless') for _ in range(4)]
while True:
    for stream in streams: stream.read(1 << 16)
"""
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        await run(session, "kept = 1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, session, code)
            while origin.sent_bytes < 4 << 20:
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        assert not session.is_lost
        assert await anyio.to_thread.run_sync(partial(origin.closed.wait, 10))
        assert await shown(session, f"kept, get('{origin.url}/')") == "(1, b'hello')"


async def test_connections_live_no_longer_than_the_step_that_made_them(open_sandbox: OpenPool, origin: Origin) -> None:
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        await run(session, f"stream = urllib.request.urlopen('{origin.url}/endless')")
        assert await anyio.to_thread.run_sync(partial(origin.closed.wait, 10))
        assert (await run(session, "while stream.read(1 << 16): pass")).ending in (Ending.RETURNED, Ending.RAISED)
        assert await shown(session, f"get('{origin.url}/')") == "b'hello'"


@pytest.mark.parametrize("number", [50, 100])
async def test_many_connections_at_once_are_all_served(open_sandbox: OpenPool, origin: Origin, number: int) -> None:
    code = f"""
results = []
threading.stack_size(256 << 10)
def fetch(number): results.append(len(get('{origin.url}/bytes/' + str(10000 + number))) - 10000)
threads = [threading.Thread(target=fetch, args=[number]) for number in range({number})]
for thread in threads: thread.start()
for thread in threads: thread.join()
sorted(results) == list(range({number}))
"""
    sandbox = open_sandbox(network=(origin.host,), wall_seconds=30)
    async with sandbox as pool, pool.session("me") as session:
        assert await shown(session, code) == "True"


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


async def test_proxy_that_was_killed_is_started_again(open_sandbox: OpenPool, origin: Origin) -> None:
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        assert await shown(session, f"get('{origin.url}/')") == "b'hello'"
        (proxy,) = proxies()
        proxy.kill()
        while proxy.status() != psutil.STATUS_ZOMBIE:
            await anyio.sleep(0.01)
        assert await shown(session, f"get('{origin.url}/')") == "b'hello'"
    assert proxies() == []


async def test_code_that_kills_its_relay_loses_its_network_for_the_step_only(
    open_sandbox: OpenPool, origin: Origin
) -> None:
    code = f"""
import signal
before = {{name for name in os.listdir('/proc') if name.isdigit()}}
stream = urllib.request.urlopen('{origin.url}/endless')
(relay,) = {{name for name in os.listdir('/proc') if name.isdigit()}} - before
try:
    open(f'/proc/{{relay}}/environ').read()
except PermissionError:
    print('unreadable')
os.kill(int(relay), signal.SIGKILL)
while stream.read(1 << 16): pass
"""
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        outcome = await run(session, code)
        if RUNTIME == "runsc":
            # It has the uid of the supervisor there: its environment can be read, but nothing can end it.
            assert "PermissionError" in outcome.error
        else:
            assert outcome.stdout == "unreadable\n"
            assert outcome.ending in (Ending.RETURNED, Ending.RAISED)
        assert await shown(session, f"get('{origin.url}/')") == "b'hello'"


async def test_nothing_is_started_for_the_network_before_it_is_used(open_sandbox: OpenPool, origin: Origin) -> None:
    count = "len([name for name in os.listdir('/proc') if name.isdigit()])"
    async with open_sandbox() as pool, pool.session("me") as session:
        usual = [await shown(session, count) for _ in range(3)]
        assert await shown(session, "[name for name in os.environ if 'proxy' in name.lower()]") == "[]"
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        assert [await shown(session, count) for _ in range(3)] == usual
        assert proxies() == []
        assert await shown(session, f"before = {count}; get('{origin.url}/'); {count} - before") == "1"
        assert len(proxies()) == 1
        assert await shown(session, count) == usual[-1]


async def test_proxy_sees_nothing_of_the_server_and_listens_on_nothing(
    open_sandbox: OpenPool, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY_OF_THE_SERVER", "secret")
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        await shown(session, f"get('{origin.url}/')")
        (proxy,) = proxies()
        assert set(proxy.environ()) <= {"PYTHONPATH", "HOME", "LC_CTYPE"}
        assert all(c.status != psutil.CONN_LISTEN for c in proxy.net_connections("inet"))
        assert not any(c.laddr for c in proxy.net_connections("unix"))


async def test_tests_of_an_action_run_without_network(open_sandbox: OpenPool, origin: Origin) -> None:
    source = f'''\
import urllib.request

def fetch() -> str:
    """Fetch it.

    >>> fetch()
    'hello'
    """
    return urllib.request.urlopen("{origin.url}/").read().decode()
'''
    async with open_sandbox(network=(origin.host,)) as pool:
        check = await pool.workers.check("fetch", {"fetch": source}, ())
        (failed,) = check.tests.failures
        assert "Connection refused" in failed
        assert origin.heads == []
        async with pool.session("me") as session:
            outcome = await session.call("fetch", {"fetch": source}, (), {})
            assert (outcome.ending, outcome.value) == (Ending.RETURNED, "hello")


async def test_stopped_proxy_holds_up_a_step_no_longer_than_its_time(open_sandbox: OpenPool, origin: Origin) -> None:
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        await shown(session, f"get('{origin.url}/')")
        (proxy,) = proxies()
        os.kill(proxy.pid, signal.SIGSTOP)
        try:
            outcome = await run(session, f"get('{origin.url}/', data=bytes(10 << 20))", timeout_seconds=0.5)
            assert outcome.ending is Ending.TIMEOUT
            assert await shown(session, "1 + 1") == "2"
        finally:
            os.kill(proxy.pid, signal.SIGCONT)
        assert await shown(session, f"get('{origin.url}/')") == "b'hello'"
