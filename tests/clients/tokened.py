"""The server with the fixtures of the conformance suite, which cannot send a token: each request gets it here."""

import os
import sys
from typing import Any

from mcp_types import Tool

from dynasaur_mcp.cli import main
from dynasaur_mcp.server import listing, web

from .fixtures import TOOLS, answer

build_app = web.build_app
describe_meta_tools = listing.describe_meta_tools


def describe_tools(*options: Any) -> list[Tool]:
    return [*describe_meta_tools(*options), *map(Tool.model_validate, TOOLS)]


def build_tokened_app(server: Any, *parts: Any) -> Any:
    server.middleware.insert(0, answer)
    app = build_app(server, *parts)
    header = (b"authorization", f"Bearer {os.environ['DYNASAUR_TOKEN']}".encode())

    async def tokened(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], header]}
        await app(scope, receive, send)

    return tokened


if __name__ == "__main__":
    web.build_app = build_tokened_app
    listing.describe_meta_tools = describe_tools
    sys.exit(main())
