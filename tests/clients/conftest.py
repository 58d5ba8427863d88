"""What clients that nobody here wrote are given: a server of their own by stdio or HTTP, and a story to go through."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import SERVER, environment
from tests.web.conftest import start_server

from .install import InstallFailed, install, node

DRIVERS = Path(__file__).parent / "drivers"
STORY_SECONDS = 120

Target = dict[str, Any]
"""How a driver reaches the server: `command`, `args` and `env`; or `url` and `headers`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client showed of an answer."""

    text: str
    images: list[str]
    """Their types."""
    is_error: bool | None
    """None where the client does not tell."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client showed."""

    before: list[str]
    """Tools, at first."""
    after: list[str]
    """Tools, once an action was defined."""
    answers: list[Answer]


@cache
def why_not_installed(name: str) -> str:
    try:
        install(name)
    except InstallFailed as failed:
        return str(failed)
    return ""


@pytest.fixture
def environment_of(require: Callable[[str], None]) -> Callable[[str], Path]:
    """The environment of a client of `pins.toml`, made if need be."""
    require("jail")

    def environment_of(name: str) -> Path:
        if why := why_not_installed(name):
            if "clients" in os.environ.get("DYNASAUR_TESTS_REQUIRE", "").split(","):
                pytest.fail(why)
            pytest.skip(why)
        return install(name)

    return environment_of


@pytest.fixture(params=["stdio", "http"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    with serve(request.param, tmp_path) as target:
        yield target


@contextmanager
def serve(transport: str, folder: Path, **settings: Any) -> Iterator[Target]:
    """A library in this folder, to be served in this way."""
    library = folder / "library"
    if transport == "stdio":
        env = environment(library, sandbox="jail", **settings)
        own = {name: value for name, value in env.items() if name.startswith("DYNASAUR_")}
        yield {"command": SERVER[0], "args": [*SERVER[1:], "serve"], "env": own}
        return
    with start_server(library, **settings) as server:
        yield {"url": f"{server.url}/mcp", "headers": server.headers()}


def drive(place: Path, script: str, task: dict[str, Any], folder: Path) -> Any:
    """Run a driver on a task in a client's environment; its last line is what it saw."""
    if script.endswith(".cjs"):
        command = [str(node() / "bin/node"), str(DRIVERS / script)]
    else:
        command = [str(place / "bin/python"), str(DRIVERS / script)]
    done = subprocess.run(
        [*command, json.dumps(task)],
        capture_output=True,
        text=True,
        timeout=STORY_SECONDS,
        cwd=place if script.endswith(".cjs") else folder,
        env={**os.environ, "HOME": str(folder)},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
