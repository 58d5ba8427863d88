"""An operator allows hosts; actions say which they need."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from dynasaur_mcp.types import META_TOOLS

from .conftest import OpenClient, environment
from .raw import open_raw

pytestmark = pytest.mark.anyio

FETCH = '''\
# /// script
# [tool.dynasaur]
# network = ["{host}"]
# ///
import urllib.request


def fetch_rate() -> str:
    """Fetch the rate of the day.

    >>> fetch_rate.__name__
    'fetch_rate'
    """
    return urllib.request.urlopen("http://{host}/rate").read().decode()
'''
DOUBLE = '''\
from actions import fetch_rate


def double_rate() -> str:
    """Twice the rate of the day.

    >>> double_rate.__name__
    'double_rate'
    """
    return 2 * fetch_rate()
'''


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"1.08")

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def host() -> Iterator[str]:
    """Of a web server on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


async def test_action_that_needs_the_network_works_where_it_is_allowed(
    open_client: OpenClient, sandbox: str, host: str
) -> None:
    async with open_client(sandbox, network=f"allow:{host}") as model:
        kept = await model.text("define_action", source=FETCH.format(host=host))
        assert "Call it: tool 'fetch_rate'" in kept
        await model.text("define_action", source=DOUBLE)
        assert await model.text("fetch_rate") == "1.08"
        assert await model.text("execute_action", name="double_rate") == "1.081.08"
        assert "'1.081.08'" in await model.text("run_python", code="from actions import double_rate\ndouble_rate()")


async def test_action_that_needs_the_network_is_kept_but_not_called_where_it_is_not_allowed(
    open_client: OpenClient, sandbox: str
) -> None:
    why = "needs api.example.org: not allowed by this server. "
    why += "The operator of this server allows it with --network allow:api.example.org."
    async with open_client(sandbox, network="allow:*.example.com") as model:
        kept = await model.text("define_action", source=FETCH.format(host="api.example.org"))
        assert "1/1 tests" in kept
        assert f"It cannot be called here yet. 'fetch_rate' {why}" in kept
        assert "Call it" not in kept
        assert "uses 'fetch_rate', which needs" in await model.text("define_action", source=DOUBLE)
        for name in ("fetch_rate", "double_rate"):
            who = repr(name) if name == "fetch_rate" else "'double_rate' uses 'fetch_rate', which"
            assert await model.error("execute_action", name=name) == f"{who} {why}"
            assert await model.error(name) == f"{who} {why}"
        error = await model.error("run_python", code="from actions import double_rate\ndouble_rate()")
        assert f"'fetch_rate' {why}" in error
        assert "network: api.example.org" in await model.text("manage_action", name="fetch_rate", op="show")
        assert "Network: api.example.org" in await model.text("search_actions", query="rate of the day")


async def test_tools_say_what_code_can_reach(
    open_client: OpenClient, host: str, require: Callable[[str], None]
) -> None:
    require("jail")
    async with open_client(network="none") as model:
        await model.text("define_action", source=FETCH.format(host=host))
        tools = {tool.name: tool for tool in (await model.client.list_tools(cache_mode="bypass")).tools}
        assert "in a sandbox without network." in (tools["run_python"].description or "")
        assert f"needs the network: {host}, not allowed here)" in (tools["fetch_rate"].description or "")
    async with open_client(network=f"allow:{host},api.example.org") as model:
        tools = {tool.name: tool for tool in (await model.client.list_tools(cache_mode="bypass")).tools}
        assert f"in a sandbox with HTTP(S) to {host}, api.example.org only." in (tools["run_python"].description or "")
        assert f"needs the network: {host})" in (tools["fetch_rate"].description or "")
        for name in ("run_python", "execute_action", "fetch_rate"):
            hints = tools[name].annotations
            assert hints
            assert hints.open_world_hint
        assert set(tools) == {*META_TOOLS, "fetch_rate"}


def test_proxy_ends_with_a_server_that_is_killed(library: Path, sandbox: str, host: str) -> None:
    with open_raw(environment(library, sandbox, network=f"allow:{host}")) as server:
        whole = psutil.Process(server.process.pid)
        assert find_proxies(whole) == []
        code = f"import urllib.request\nurllib.request.urlopen('http://{host}/rate').read()"
        assert "1.08" in str(server.call("run_python", 2, code=code))
        (proxy,) = find_proxies(whole)
        os.kill(server.process.pid, signal.SIGKILL)
        assert psutil.wait_procs([proxy], timeout=10)[1] == []


def find_proxies(server: psutil.Process) -> list[psutil.Process]:
    return [child for child in server.children() if "dynasaur_mcp.sandbox.egress" in child.cmdline()]
