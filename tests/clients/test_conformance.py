"""The official conformance suite: every scenario for a server of a revision.

Its frozen list for a revision names what that requires, and what else is run without being scored: what is pending,
what came after the release, and extensions, which no revision requires. All of it has to pass here but the extension
for tasks, which is not served.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.web.conftest import start_server

from .install import node

SUITE_SECONDS = 240
SERVER = [sys.executable, "-m", "tests.clients.tokened"]


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_server_passes_every_scenario_of_a_revision(
    revision: str, environment_of: Callable[[str], Path], tmp_path: Path
) -> None:
    suite = environment_of("conformance") / "node_modules/@modelcontextprotocol/conformance"
    port = free_port()  # the suite's own origin has to be allowed before the server starts
    with start_server(
        tmp_path / "library", server=SERVER, port=port, allowed_origins=f"http://127.0.0.1:{port}"
    ) as server:
        options = ["--url", f"{server.url}/mcp", "--requirements", revision, "--output-dir", str(tmp_path / "results")]
        done = subprocess.run(
            [str(node() / "bin/node"), str(suite / "dist/index.js"), "server", *options],
            capture_output=True,
            text=True,
            timeout=SUITE_SECONDS,
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path)},
        )
    summary = done.stdout.partition("=== SUMMARY ===")[2].partition("\nTotal:")[0]
    outcomes = dict(re.findall(r"^[✓✗] ([a-z0-9-]+): (\d+ passed, \d+ failed)", summary, re.MULTILINE))
    scenarios = scenarios_of(suite / f"requirements/{revision}.yaml")
    failed = {name: outcomes.get(name) for name in scenarios if not re.match(r"[1-9]\d* .* 0 ", outcomes.get(name, ""))}
    assert not failed, done.stdout[-6000:] + done.stderr[-2000:] + server.log.read_text()[-2000:]
    assert done.returncode == 0


def scenarios_of(requirements: Path) -> set[str]:
    """For a server, those of extensions excepted."""
    listed = yaml.safe_load(requirements.read_text(encoding="utf-8"))
    more = [entry for entry in listed["not_scored"] if entry["leg"] == "server" and entry["reason"] != "extension"]
    return {*listed["server"], *(entry["scenario"] for entry in more)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port
