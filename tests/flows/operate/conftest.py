"""Servers that run, and a person who types commands for them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.conftest import environment, run_command
from tests.flows.raw import RawServer, open_raw

ONE_IS_ENOUGH = pytest.mark.parametrize("sandbox", ["jail"], indirect=True)
"""Of what does not depend on the sandbox."""


class Shell:
    """A terminal in which this library's servers are the user's."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run_command(self.env, *words)

    def rows(self, *words: str) -> list[list[str]]:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    def fail(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 1, done
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
def server(library: Path, sandbox: str) -> Iterator[RawServer]:
    """A server with session `x`, ready for commands."""
    with open_raw(environment(library, sandbox)) as server:
        server.request("tools/list", number=2)
        server.call("run_python", 3, code="n = 1", session="x")
        socket_folder = library.parent / "cache" / "servers"
        while not any(map(listens, socket_folder.glob("*.sock"))):
            pass
        yield server


@contextlib.contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    """To a socket whose path may be longer than the system takes."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(f"/proc/self/fd/{folder}/{path.name}")
            yield stream
    finally:
        os.close(folder)


def listens(path: Path) -> bool:
    """It is there a moment before."""
    with contextlib.suppress(ConnectionRefusedError), connected(path):
        return True
    return False


@pytest.fixture
def shell(library: Path, sandbox: str) -> Shell:
    return Shell(environment(library, sandbox))
