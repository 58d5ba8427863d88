"""The processes of the network, proxy and relay: when they start, what they see, and that either can end or hang."""

from __future__ import annotations

import os
import signal

import anyio
import anyio.to_thread
import psutil
import pytest

from dynasaur_mcp.types import Ending
from tests.sandbox.conftest import RUNTIME, OpenPool

from .conftest import proxies, run, shown
from .origin import Origin

pytestmark = pytest.mark.anyio


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
