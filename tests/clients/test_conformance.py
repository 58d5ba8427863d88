"""The official conformance suite: every scenario for a server of a revision, but those of extensions."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.web.conftest import start_server

from .install import node

SUITE_SECONDS = 240
SERVER = [sys.executable, "-m", "tests.clients.tokened"]


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_server_passes_every_scenario_of_a_revision(
    revision: str, environment_of: Callable[[str], Path], tmp_path: Path
) -> None:
    script = environment_of("conformance") / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
    port = free_port()  # the suite's own origin has to be allowed before the server starts
    with start_server(
        tmp_path / "library", server=SERVER, port=port, allowed_origins=f"http://127.0.0.1:{port}"
    ) as server:
        options = ["--url", f"{server.url}/mcp", "--requirements", revision, "--output-dir", str(tmp_path / "results")]
        done = subprocess.run(
            [str(node() / "bin/node"), str(script), "server", *options],
            capture_output=True,
            text=True,
            timeout=SUITE_SECONDS,
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path)},
        )
    summary, _, unscored = done.stdout.partition("=== SUMMARY ===")[2].partition("Not scored for")
    outcomes = {name: mark for mark, name in re.findall(r"^([✓✗]) ([a-z0-9-]+):", summary, re.MULTILINE)}
    scenarios = outcomes.keys() - set(re.findall(r"[✓✗] ([a-z0-9-]+) \(extension\)", unscored))
    assert len(scenarios) >= 33, done.stdout[-2000:] + done.stderr[-2000:]
    failed = {name for name in scenarios if outcomes[name] == "✗"}
    assert not failed, done.stdout[-6000:] + server.log.read_text()[-2000:]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port
