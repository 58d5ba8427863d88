"""Tokens of an authorization server: a real one as far as this server sees it, with metadata and keys on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.shared.exceptions import MCPError
from starlette.types import Receive, Scope, Send

from dynasaur_mcp.server.door import Turns

from .conftest import ERAS, StartServer
from .raw import ACCEPT, INITIALIZE
from .test_clients import DOUBLE

pytestmark = pytest.mark.anyio

AUDIENCE = "https://mcp.example.com/mcp"
TRIPLE = DOUBLE.replace("double", "triple").replace("Double", "Triple").replace("2 *", "3 *").replace("    4", "    6")
EVERYTHING = "actions:read actions:run actions:define actions:manage actions:approve"


class Issuer:
    """An authorization server that has made out its tokens already."""

    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.rotate("first")
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = issuer.answers().get(self.path)
                self.send_response(200 if answer else 404)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/realm"

    def answers(self) -> dict[str, Any]:
        keys = [
            RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig", "alg": "RS256"}
            for kid, key in self.keys.items()
        ]
        return {
            "/realm/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/realm/keys": {"keys": keys},
        }

    def rotate(self, kid: str) -> None:
        self.keys = {kid: rsa.generate_private_key(public_exponent=65537, key_size=2048)}

    def token(
        self, scope: str = EVERYTHING, *, kid: str = "", key: Any = None, algorithm: str = "RS256", **claims: Any
    ) -> str:
        known = next(iter(self.keys))
        now = int(time.time())
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 600, "scope": scope} | claims
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, key or self.keys[known], algorithm, headers={"kid": kid or known})


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    thread = threading.Thread(target=issuer.server.serve_forever)
    thread.start()
    yield issuer
    issuer.server.shutdown()
    thread.join()
    issuer.server.server_close()


def settings(issuer: Issuer) -> dict[str, Any]:
    return {"token": "", "auth_issuer": issuer.url, "audience": AUDIENCE}


async def test_audience_may_have_an_address_of_version_6(serve_http: StartServer, issuer: Issuer) -> None:
    audience = "https://[2001:db8::5]:8443/mcp"
    async with serve_http(**settings(issuer) | {"audience": audience}) as server, server.http() as http:
        named = {"Host": "[2001:DB8::5]:8443", "Authorization": f"Bearer {issuer.token(aud=audience)}"}
        assert (await http.post("/mcp", json=INITIALIZE, headers=ACCEPT | named)).status_code == 200
        unknown = await http.post("/mcp", json=INITIALIZE, headers=ACCEPT | named | {"Authorization": ""})
        metadata = "https://[2001:db8::5]:8443/.well-known/oauth-protected-resource/mcp"
        assert f'resource_metadata="{metadata}"' in unknown.headers["www-authenticate"]
        path = metadata.partition(":8443")[2]
        assert (await http.get(path, headers={"Host": named["Host"]})).json()["resource"] == audience


async def test_only_tokens_for_this_server_by_its_issuer_are_taken(serve_http: StartServer, issuer: Issuer) -> None:
    now = int(time.time())
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = issuer.answers()["/realm/keys"]["keys"][0]["n"]
    unsigned = jwt.encode({"iss": issuer.url, "aud": AUDIENCE, "sub": "ada", "exp": now + 600}, None, "none")
    refused = {
        "another key": issuer.token(key=other),
        "unknown key": issuer.token(key=other, kid="made-up"),
        "signed with what is public": issuer.token(key=public, algorithm="HS256"),
        "unsigned": unsigned,
        "expired": issuer.token(exp=now - 120),
        "not yet": issuer.token(nbf=now + 300),
        "another audience": issuer.token(aud="https://other.example.com/mcp"),
        "no audience": issuer.token(aud=None),
        "another issuer": issuer.token(iss="https://evil.test"),
        "no expiry": issuer.token(exp=None),
        "no subject": issuer.token(sub=None),
        "subject of this machine": issuer.token(sub="local"),
        "an author that is none": issuer.token(sub="file"),
        "subject that breaks lines": issuer.token(sub="ada\nbob"),
        "no token at all": "abc",
        "dots": "a.b.c",
    }
    async with serve_http(log_level="debug", **settings(issuer)) as server:
        for what, token in refused.items():
            async with server.http(token) as http:
                answer = await http.post("/mcp", json=INITIALIZE, headers=ACCEPT)
            assert answer.status_code == 401, what
            assert (
                'resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp"'
                in (answer.headers["www-authenticate"])
            )
        good = issuer.token(aud=["https://other.example.com", AUDIENCE])
        async with server.http(good) as http:
            assert (await http.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 200
            metadata = (
                await http.get("/.well-known/oauth-protected-resource/mcp", headers={"Authorization": ""})
            ).json()
            assert metadata["resource"] == AUDIENCE
            assert metadata["authorization_servers"] == [issuer.url]
            assert set(metadata["scopes_supported"]) == set(EVERYTHING.split())
            assert (await http.get("/metrics")).status_code == 200
        async with server.http(issuer.token("actions:run")) as http:
            assert (await http.get("/metrics")).status_code == 403
        log = server.log.read_text()
        assert not [what for what, token in refused.items() if len(token) > 20 and token in log]
        assert good not in log
        assert "Traceback" not in log


async def test_stream_ends_with_the_token_that_opened_it(serve_http: StartServer, issuer: Issuer) -> None:
    async with serve_http(**settings(issuer)) as server:
        ends_soon = issuer.token(exp=int(time.time()) - 26)  # clocks may differ by 30 s
        async with server.http(ends_soon) as http, http.stream("GET", "/sse") as stream:
            assert stream.status_code == 200
            with anyio.fail_after(15):
                assert "session_id" in "".join([line async for line in stream.aiter_lines()])
            assert (await http.get("/sse")).status_code == 401


async def test_stream_whose_token_ends_before_its_first_byte_says_so() -> None:
    ended = AccessToken(token="", client_id="ada", subject="ada", scopes=[], expires_at=1)

    async def silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await anyio.sleep_forever()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Turns(8).admit(silent)({**scope, "user": AuthenticatedUser(ended)}, receive, send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1") as http:
        answer = await http.get("/mcp")
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert answer.text == "The token has expired.\n"


async def test_new_key_of_the_issuer_is_taken_and_the_old_one_is_not(serve_http: StartServer, issuer: Issuer) -> None:
    async with serve_http(**settings(issuer)) as server:
        old = issuer.token()
        async with server.http(old) as http:
            assert (await http.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 200
        issuer.rotate("second")
        async with server.http(issuer.token()) as http:
            with anyio.fail_after(20):  # keys are not fetched more often than every few seconds
                while (await http.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code != 200:
                    await anyio.sleep(0.2)
        async with server.http(old) as http:
            assert (await http.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 401


ACTIONS = {
    "actions:read": {"search_actions", "manage_action"},
    "actions:run": {"run_python", "execute_action", "check_run", "manage_action", "double"},
    "actions:define": {"define_action"},
    "actions:manage": {"manage_action"},
    "other:scope": set(),
}
CALLS = {
    "actions:read": [("search_actions", {"query": "double"}), ("manage_action", {"name": "double", "op": "show"})],
    "actions:run": [
        ("run_python", {"code": "1"}),
        ("double", {"number": 2}),
        ("execute_action", {"name": "double", "arguments": {"number": 2}}),
        ("manage_action", {"name": "default", "op": "close_session"}),
    ],
    "actions:define": [("define_action", {"source": TRIPLE})],
    "actions:manage": [("manage_action", {"name": "double", "op": "pin"})],
}


@pytest.mark.parametrize("era", ERAS)
async def test_scopes_shape_the_tool_list_and_each_call(
    serve_http: StartServer, issuer: Issuer, era: str, require: Callable[[str], None]
) -> None:
    require("jail")
    async with serve_http(**settings(issuer)) as server:
        async with server.connect(era, issuer.token(sub="grace")) as model:
            await model.text("define_action", source=DOUBLE)
            assert len(await model.tools()) == 7
        for scope, names in ACTIONS.items():
            async with server.connect(era, issuer.token(scope)) as model:
                assert set(await model.tools()) == names
                for needed, calls in CALLS.items():
                    for tool, arguments in calls:
                        if scope == needed:
                            await model.text(tool, **arguments)
                        else:
                            assert f"needs the scope {needed}" in await model.error(tool, **arguments)
                resource = "dynasaur://actions/double"
                if scope == "actions:read":
                    await model.client.read_resource(resource)
                else:
                    with pytest.raises(MCPError, match="actions:read"):
                        await model.client.read_resource(resource)
        async with server.connect(era, issuer.token()) as model:
            assert "grace" in await model.text("manage_action", name="double", op="history")
