"""The story with SDKs: each call is made by us, through the client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Target, drive
from .story import CALLS, check_seen, read_seen


@pytest.mark.parametrize(
    ("client", "script", "version", "era"),
    [
        ("typescript1", "typescript.cjs", 1, "legacy"),
        ("typescript2", "typescript.cjs", 2, "legacy"),
        ("typescript2", "typescript.cjs", 2, "2026-07-28"),
        ("python1", "python1.py", 1, "legacy"),
        ("python2", "python2.py", 2, "legacy"),
        ("python2", "python2.py", 2, "2026-07-28"),
        ("langchain", "langchain.py", 0, "legacy"),
    ],
)
def test_client_defines_sees_and_calls_an_action_keeps_state_and_gets_an_error_and_an_image(
    client: str,
    script: str,
    version: int,
    era: str,
    target: Target,
    environment_of: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    task = {**target, "calls": CALLS, "version": version, "era": era}
    check_seen(read_seen(drive(environment_of(client), script, task, tmp_path)))
