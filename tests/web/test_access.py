"""Access over HTTP is never open: every path looks at Host, Origin and token, and no secret is written anywhere."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests.flows.conftest import SERVER, environment

from .conftest import ERAS, TOKEN, StartServer, start_server
from .raw import ACCEPT, INITIALIZE

pytestmark = pytest.mark.anyio

PATHS = [
    "/mcp",
    "/sse",
    "/messages/",
    "/messages/?session_id=" + "0" * 32,
    "/metrics",
    "/",
    "/nothing",
    "/.well-known/x",
]
OPEN_PATHS = ["/healthz", "/readyz"]
METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"]


async def ask_all(http: httpx2.AsyncClient, paths: list[str], headers: dict[str, str]) -> set[int]:
    return {
        (await http.request(method, path, json=INITIALIZE, headers=ACCEPT | headers)).status_code
        for path in paths
        for method in METHODS
    }


async def test_no_path_answers_a_wrong_host_origin_or_token(serve_http: StartServer) -> None:
    async with serve_http() as server, server.http() as http:
        for host in ("evil.test", "evil.test:80", "127.0.0.1.evil.test", "localhost.evil.test:8000", "0.0.0.0:8000"):
            assert await ask_all(http, PATHS + OPEN_PATHS, {"Host": host}) == {421}
        for origin in ("http://evil.test", "null", server.url, "http://localhost:3000", "file://"):
            assert await ask_all(http, PATHS + OPEN_PATHS, {"Origin": origin}) == {403}
        for authorization in (
            "",
            "Bearer",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            f"Basic {TOKEN}",
            TOKEN,
        ):
            assert await ask_all(http, PATHS, {"Authorization": authorization}) == {401}
        assert await ask_all(http, [f"{path}?token={TOKEN}" for path in ("/mcp", "/sse")], {"Authorization": ""}) == {
            401
        }
        assert (await http.get("/healthz", headers={"Authorization": ""})).content == b""
        assert (await http.get("/readyz", headers={"Authorization": ""})).content == b""


async def test_request_without_a_host_is_refused(serve_http: StartServer) -> None:
    async with serve_http() as server:
        port = int(server.url.rpartition(":")[2])
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert b" 421 " in await stream.receive()


async def test_names_of_the_server_are_the_same_in_capitals(serve_http: StartServer) -> None:
    async with serve_http(allowed_hosts="MCP.example.com") as server, server.http() as http:
        for host in ("LOCALHOST", "LocalHost:8000", "mcp.EXAMPLE.com", "[::1]:8000", "127.0.0.1"):
            answer = await http.post("/mcp", json=INITIALIZE, headers=ACCEPT | {"Host": host})
            assert answer.status_code == 200, host
        assert (await http.get("/healthz", headers={"Host": "EVIL.test"})).status_code == 421


async def test_hosts_and_origins_that_are_allowed_are_served(serve_http: StartServer) -> None:
    settings = {"allowed_hosts": "mcp.example.com", "allowed_origins": "https://app.example.com"}
    page = {"Host": "mcp.example.com", "Origin": "https://app.example.com"}
    async with serve_http(**settings) as server, server.http() as http:
        answer = await http.post("/mcp", json=INITIALIZE, headers=ACCEPT | page)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        preflight = await http.options("/mcp", headers=page | asked | {"Authorization": ""})
        assert preflight.status_code == 200
        assert await ask_all(http, PATHS, page | {"Origin": "https://app.example.com.evil.test"}) == {403}


@pytest.mark.parametrize("era", ERAS)
async def test_token_is_in_no_log_whatever_the_level(serve_http: StartServer, era: str, require: Any) -> None:
    require("jail")
    async with serve_http(log_level="debug") as server, server.http() as http:
        async with server.connect(era) as model:
            await model.text("run_python", code="1")
            await model.error("run_python", code="1 / 0")
            everything = (
                "import os, glob\nstr(os.environ) + str([open(f, 'rb').read() for f in glob.glob('/proc/*/cmdline')])"
            )
            assert TOKEN not in await model.text("run_python", code=everything)
        for path in PATHS:
            await http.put(path)
            await http.post(path, content=b"{")
            await http.get(path, headers={"Authorization": f"Bearer {TOKEN}-that-is-wrong", "Host": "evil.test"})
        assert TOKEN not in server.log.read_text()
        arguments = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
        assert TOKEN.encode() not in arguments


async def test_token_that_is_made_is_printed_once_and_works(library: Path) -> None:
    with start_server(library, token="", log_level="debug") as server:
        made = re.findall(r"have to send this token .*: (\S{32,})$", server.log.read_text(), re.MULTILINE)
        assert len(made) == 1
        async with server.http(made[0]) as http:
            assert (await http.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 200
        assert server.log.read_text().count(made[0]) == 1


def test_token_that_is_made_is_not_printed_where_the_server_cannot_listen(library: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = environment(library, sandbox="jail", port=port, transport="http", token="")
        done = subprocess.run([*SERVER, "serve"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f"dynasaur-mcp: Cannot listen on '127.0.0.1', port {port}: Address already in use\n"


async def test_server_goes_by_its_address_of_version_6(serve_http: StartServer) -> None:
    async with serve_http(host="::1") as server, server.http() as http:
        assert server.url.startswith("http://[::1]:")
        assert (await http.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 200
        for page in ("http://[::1]:3000", "http://[::2]"):
            assert (await http.post("/mcp", json=INITIALIZE, headers=ACCEPT | {"Origin": page})).status_code == 403
        assert (await http.get("/healthz", headers={"Host": "[::2]"})).status_code == 421


@pytest.mark.parametrize(("mark", "newline"), [("", "\n"), ("\ufeff", "\r\n")], ids=["plain", "of Windows"])
async def test_token_file_gives_each_name_a_token(
    serve_http: StartServer, tmp_path: Path, mark: str, newline: str
) -> None:
    file = tmp_path / "tokens"
    lines = ["# who", f"ada {TOKEN}-of-ada", "", f"bob {TOKEN}-of-bob", ""]
    file.write_bytes((mark + newline.join(lines)).encode())
    async with serve_http("--token-file", str(file), token="") as server:
        for token, status in ((f"{TOKEN}-of-ada", 200), (f"{TOKEN}-of-bob", 200), ("ada", 401), (TOKEN, 401)):
            async with server.http(token) as http:
                assert (await http.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == status


WRONG = {
    "short token": ({"token": "short"}, "Wrong setting: token: a token has at least 16 characters"),
    "token twice": ({"token_file": __file__}, "exclude each other"),
    "token file that is none": ({"token": "", "token_file": __file__}, "Entry 1 of the token_file is not `NAME TOKEN`"),
    "token file not there": ({"token": "", "token_file": "/nowhere"}, "cannot be read"),
    "port": ({"host": "192.0.2.1"}, "Cannot listen on '192.0.2.1'"),
    "certificate": ({"tls_certificate": __file__}, "cannot be used"),
    "key alone": ({"tls_key": __file__}, "Wrong setting: tls_key counts only with tls_certificate"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_access_settings_end_in_one_line_that_shows_no_token(case: str, library: Path) -> None:
    settings, told = WRONG[case]
    env = environment(library, **{"sandbox": "jail", "port": 0, "transport": "http", "token": TOKEN, **settings})
    done = subprocess.run(
        [*SERVER, "serve"], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr
    assert "short" not in done.stderr


def test_token_as_an_option_is_refused_and_not_repeated(library: Path) -> None:
    done = subprocess.run(
        [*SERVER, "serve", "--token", TOKEN], env=os.environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "--token" in done.stderr
    assert TOKEN not in done.stderr


@pytest.mark.parametrize(
    ("settings", "warns"),
    [({"host": "0.0.0.0"}, True), ({"host": "0.0.0.0", "behind_proxy": True}, False), ({"host": "::1"}, False)],
)
async def test_address_that_others_reach_without_tls_warns_plainly(
    serve_http: StartServer, settings: dict[str, Any], warns: bool
) -> None:
    async with serve_http(**settings) as server:
        assert ("WARNING" in server.log.read_text()) == warns
