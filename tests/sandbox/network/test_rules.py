"""What is listed is reached, and nothing else: refusals, what they say, and what is logged."""

from __future__ import annotations

import logging
import socket

import pytest

from dynasaur_mcp.sandbox.addresses import is_public
from dynasaur_mcp.types import Ending
from tests.sandbox.conftest import OpenPool

from .conftest import failure, run, shown
from .origin import Origin

pytestmark = pytest.mark.anyio


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
