"""The server with the fixtures of the conformance suite, which cannot send a token: each request gets it here."""

import os
import sys
from typing import Any

from dynasaur_mcp.cli import main
from dynasaur_mcp.server import web

from .fixtures import INPUT_SCHEMAS, answer

build_app = web.build_app


def build_tokened_app(server: Any, *parts: Any) -> Any:
    server.middleware.insert(0, answer)  # outside of ours, which puts the tools in
    of_actions = server.get_tool_input_schema
    server.get_tool_input_schema = lambda name: INPUT_SCHEMAS.get(name) or of_actions(name)
    app = build_app(server, *parts)
    header = (b"authorization", f"Bearer {os.environ['DYNASAUR_TOKEN']}".encode())

    async def tokened(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], header]}
        await app(scope, receive, send)

    return tokened


if __name__ == "__main__":
    web.build_app = build_tokened_app
    sys.exit(main())
