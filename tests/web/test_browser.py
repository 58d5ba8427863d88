"""What a web page can reach in a real browser on the server's machine: nothing, whatever it knows and tries."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from .browser import Browser, open_browser
from .conftest import TOKEN, StartServer, WebServer
from .raw import INITIALIZE, call

pytestmark = pytest.mark.anyio

ATTACKS = """
(async () => {
  const url = URL_HERE, token = TOKEN_HERE, body = BODY_HERE, initialize = INITIALIZE_HERE;
  const json = {'Content-Type': 'application/json', 'Accept': 'application/json, text/event-stream'};
  const known = {...json, 'Authorization': 'Bearer ' + token};
  const modern = {...known, 'MCP-Protocol-Version': '2026-07-28', 'Mcp-Method': 'tools/call', 'Mcp-Name': 'run_python'};
  const plain = {'Content-Type': 'text/plain'};
  const ask = async (path, options) => {
    try {
      const stop = AbortSignal.timeout(5000);
      const answer = await fetch(url + path, {signal: stop, ...options});
      return answer.type === 'opaque' ? 'opaque' : String(answer.status);
    } catch (error) { return error.name; }
  };
  const event = (target, good) => new Promise(resolve => {
    target['on' + good] = () => resolve('reached');
    target.onerror = () => resolve('refused');
    setTimeout(() => resolve('nothing'), 5000);
  });
  const element = (tag, attributes) => {
    const made = Object.assign(document.createElement(tag), attributes);
    document.body.append(made);
    return event(made, 'load');
  };
  const form = (path, text) => new Promise(resolve => {
    const frame = Object.assign(document.createElement('iframe'), {name: 'frame' + Math.random()});
    document.body.append(frame);
    const sent = Object.assign(document.createElement('form'),
      {method: 'POST', enctype: 'text/plain', action: url + path, target: frame.name});
    sent.append(Object.assign(document.createElement('input'), {name: text.slice(0, -1), value: '}'}));
    document.body.append(sent);
    frame.onload = () => {
      try { resolve(frame.contentDocument.body.innerText); } catch (error) { resolve('unreadable'); }
    };
    sent.submit();
    setTimeout(() => resolve('nothing'), 5000);
  });
  const results = {};
  for (const path of ['/mcp', '/sse', '/messages/', '/metrics', '/healthz', '/readyz', '/nothing']) {
    results['GET ' + path] = await ask(path, {headers: known});
    results['GET plain ' + path] = await ask(path, {});
    results['GET no-cors ' + path] = await ask(path, {mode: 'no-cors'});
    results['POST ' + path] = await ask(path, {method: 'POST', headers: known, body: initialize});
    results['POST plain ' + path] = await ask(path, {method: 'POST', headers: plain, body: initialize});
    results['POST no-cors ' + path] = await ask(path, {method: 'POST', mode: 'no-cors', headers: plain, body: body});
  }
  results['POST a call'] = await ask('/mcp', {method: 'POST', headers: modern, body: body});
  results['DELETE'] = await ask('/mcp', {method: 'DELETE', headers: known});
  results['POST kept'] = await ask('/mcp', {method: 'POST', credentials: 'include', headers: known, body: initialize});
  results['EventSource'] = await event(new EventSource(url + '/sse'), 'open');
  results['WebSocket'] = await event(new WebSocket(url.replace('http', 'ws') + '/mcp'), 'open');
  results['script'] = await element('script', {src: url + '/sse'});
  results['image'] = await element('img', {src: url + '/healthz'});
  results['form'] = await form('/mcp', body);
  results['beacon'] = String(navigator.sendBeacon(url + '/mcp', body));
  return results;
})()
"""
MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def attacks(server: WebServer, url: str) -> str:
    asked = call(1, "run_python", code="open('reached', 'w')")
    asked["params"]["_meta"] = MODERN_META
    code = ATTACKS
    values = {"URL": url, "TOKEN": TOKEN, "BODY": json.dumps(asked), "INITIALIZE": json.dumps(INITIALIZE)}
    for name, value in values.items():
        code = code.replace(f"{name}_HERE", json.dumps(value), 1)
    return code


@pytest.fixture
def page() -> Iterator[int]:
    """The port of a web site that is nobody's friend."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><body>hello</body>")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def browser(tmp_path: Path, require: Callable[[str], None]) -> Iterator[Browser]:
    require("browser")
    with open_browser(tmp_path / "profile", ["evil.test", "rebind.test"]) as browser:
        yield browser


async def count_answers(server: WebServer) -> dict[str, int]:
    """How many there were of each status."""
    async with server.http() as http:
        text = (await http.get("/metrics")).text
    found = re.findall(r'^dynasaur_http_answers_total\{status="(\d+)"\} (\d+)', text, re.MULTILINE)
    return {status: int(float(count)) for status, count in found}


async def test_page_of_another_origin_reaches_nothing(serve_http: StartServer, browser: Browser, page: int) -> None:
    async with serve_http() as server:
        for host in ("127.0.0.1", "localhost"):
            url = server.url.replace("127.0.0.1", host)
            code = attacks(server, url)
            results = await anyio.to_thread.run_sync(browser.run, f"http://evil.test:{page}/", code)
            assert set(results.values()) <= {"TypeError", "opaque", "refused", "unreadable", "true"}, results
        answers = await count_answers(server)
        assert set(answers) == {"403"}
        assert answers["403"] > 40


async def test_page_of_another_port_of_this_machine_reaches_nothing(
    serve_http: StartServer, browser: Browser, page: int
) -> None:
    async with serve_http() as server:
        code = attacks(server, server.url)
        results = await anyio.to_thread.run_sync(browser.run, f"http://127.0.0.1:{page}/", code)
        assert set(results.values()) <= {"TypeError", "opaque", "refused", "unreadable", "true"}, results
        assert set(await count_answers(server)) == {"403"}


async def test_rebound_name_reaches_nothing_though_it_is_the_same_origin(
    serve_http: StartServer, browser: Browser
) -> None:
    """What a page can do once its name leads to this machine: the browser sees requests to the page's own site."""
    async with serve_http() as server:
        url = server.url.replace("127.0.0.1", "rebind.test")
        results = await anyio.to_thread.run_sync(browser.run, f"{url}/page", attacks(server, url))
        assert {status for name, status in results.items() if name.startswith(("GET ", "POST ", "DELETE"))} <= {
            "421",
            "opaque",
        }, results
        assert results["EventSource"] == results["WebSocket"] == results["script"] == results["image"] == "refused"
        assert results["form"] == "Invalid Host header"
        assert set(await count_answers(server)) == {"421"}


async def test_page_that_is_allowed_reaches_what_its_token_is_good_for(
    serve_http: StartServer, browser: Browser, page: int
) -> None:
    """So the others reach nothing because they are refused."""
    async with serve_http(allowed_origins=f"http://evil.test:{page}") as server:
        code = attacks(server, server.url)
        results = await anyio.to_thread.run_sync(browser.run, f"http://evil.test:{page}/", code)
        assert results["POST /mcp"] == results["GET /metrics"] == results["GET plain /healthz"] == "200"
        assert results["GET plain /metrics"] == results["POST plain /mcp"] == "401"
        assert results["EventSource"] == "refused"
