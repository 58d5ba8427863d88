"""The story with the MCP inspector's command line, which makes a new connection for every call.

Over HTTP only: on stdio every call would start a server, and a session's state ends with its server.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import STORY_SECONDS, serve
from .install import node
from .story import CALLS, check_seen, read_seen


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_inspector_defines_sees_and_calls_an_action_keeps_state_and_gets_an_error_and_an_image(
    era: str, environment_of: Callable[[str], Path], tmp_path: Path
) -> None:
    script = (
        environment_of("inspector") / "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
    )
    with serve("http", tmp_path) as target:
        header = ["--header", f"Authorization: {target['headers']['Authorization']}"]
        common = [str(node() / "bin/node"), str(script), "--cli", "--protocol-era", era, "--format", "json", *header]

        def inspect(method: str, *options: str) -> dict[str, Any]:
            done = subprocess.run(
                [*common, "--server-url", target["url"], "--transport", "http", "--method", method, *options],
                capture_output=True,
                text=True,
                timeout=STORY_SECONDS,
                env={**os.environ, "HOME": str(tmp_path), "MCP_SECRET_STORE": "memory"},
            )
            assert done.stdout, done.stderr
            said: dict[str, Any] = json.loads(done.stdout)
            return said.get("result", said)

        def names() -> list[str]:
            return [tool["name"] for tool in inspect("tools/list")["tools"]]

        before, after, answers = names(), [], []
        for name, arguments in CALLS:
            answers.append(show(inspect("tools/call", "--tool-name", name, "--tool-args-json", json.dumps(arguments))))
            after = after or names()
    check_seen(read_seen({"before": before, "after": after, "answers": answers}))


def show(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "text": "\n".join(part["text"] for part in result["content"] if part["type"] == "text"),
        "images": [part["mimeType"] for part in result["content"] if part["type"] == "image"],
        "error": result.get("isError", False),
    }
