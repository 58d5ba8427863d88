"""Every sandbox, opened the way the server opens it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from dynasaur_mcp.app import choose_sandbox
from dynasaur_mcp.sandbox.docker import SERVER_LABEL, DockerSandbox, Engine, find_engine
from dynasaur_mcp.sandbox.engine import connect
from dynasaur_mcp.sandbox.packages import PackageStore
from dynasaur_mcp.sandbox.pool import Pool, open_pool
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.session import Session
from dynasaur_mcp.sandbox.wheels import Target
from dynasaur_mcp.settings import Settings
from dynasaur_mcp.types import Ending, Limits, Outcome, PackageRules

OpenPool = Callable[..., AbstractAsyncContextManager[Pool]]

LIMITS = Limits(wall_seconds=10, grace_seconds=0.5, memory_bytes=256 << 20, workspace_bytes=32 << 20)
SMALL = Limits(memory_bytes=128 << 20, workspace_bytes=8 << 20, tmp_bytes=4 << 20, file_bytes=6 << 20, processes=32)
"""Of one container."""

ADD = '''\
def add(first: int, second: int = 1) -> int:
    """Add two whole numbers.

    >>> add(2, 3)
    5
    """
    return first + second
'''

ALIVE = """
import os
def is_alive(pid):
    try:
        # The first thread may have ended, and others not.
        threads = os.listdir(f'/proc/{pid}/task')
        return len(threads) > 1 or open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False
sum(map(is_alive, filter(str.isdigit, os.listdir('/proc'))))
"""
"""Code that counts the processes of its worker which are alive."""

RUNTIME = os.environ.get("DYNASAUR_TESTS_RUNTIME", "")
"""The OCI runtime of the containers, where it is not the engine's default: `runsc` runs all of this on gVisor."""

collect_ignore = ["test_filter.py", "test_jail.py"] if RUNTIME == "runsc" else ["test_gvisor.py"]


@pytest.fixture(params=["docker"] if RUNTIME else ["jail", "docker"])
def sandbox_name(request: pytest.FixtureRequest, require: Callable[[str], None]) -> str:
    require(request.param)
    return str(request.param)


@pytest.fixture
def open_sandbox(sandbox_name: str, tmp_path: Path) -> OpenPool:
    """A pool over the sandbox; keyword arguments change limits, or are the pool's own."""

    @asynccontextmanager
    async def open_it(**changes: Any) -> AsyncIterator[Pool]:
        own = {key: changes.pop(key) for key in ("sessions", "session_idle_seconds") if key in changes}
        limits = replace(LIMITS, **changes)
        settings = Settings(
            sandbox=sandbox_name,  # type: ignore[arg-type]
            cache=tmp_path / "cache",
            docker_runtime=RUNTIME,
            timeout_seconds=limits.wall_seconds,
            memory_bytes=limits.memory_bytes,
            processes=limits.processes,
            workspace_bytes=limits.workspace_bytes,
            output_bytes=limits.output_bytes,
            network=f"allow:{','.join(limits.network)}" if limits.network else "none",
        )

        with contextlib.closing(Presence(settings.cache / "servers")) as presence:
            async with open_pool(lambda: choose_sandbox(settings, presence), limits, warm_workers=0, **own) as pool:
                yield pool

    return open_it


async def run(session: Session, code: str, timeout_seconds: float | None = None) -> Outcome:
    return await session.run(code, {}, (), timeout_seconds=timeout_seconds)


async def shown(session: Session, code: str) -> str:
    outcome = await run(session, code)
    assert outcome.ending is Ending.RETURNED, outcome
    return outcome.shown


async def call(session: Session, name: str, source: str, **arguments: object) -> Outcome:
    return await session.call(name, {name: source}, (), arguments)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all of uv's world."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    settings = tmp_path / "uv.toml"
    settings.write_text(f'no-index = true\nfind-links = ["{folder}"]\ncache-dir = "{tmp_path / "uv-cache"}"\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(settings))
    make_wheel(folder, "plain", "1.0")
    make_wheel(folder, "plain", "2.0")
    make_wheel(folder, "needy", "1.0", requires="plain<2")
    return folder


def make_wheel(
    folder: Path, name: str, version: str, requires: str | None = None, platform: str = "any", megabytes: int = 0
) -> None:
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n".encode(),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-{platform}\n".encode(),
        f"{info}/ballast": bytes(megabytes << 20),
    }
    record = "".join(f"{path},sha256={hashlib.sha256(data).hexdigest()},{len(data)}\n" for path, data in files.items())
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-{platform}.whl", "w") as wheel:
        for path, data in files.items():
            wheel.writestr(path, data)
        wheel.writestr(f"{info}/RECORD", record)


@pytest.fixture(scope="module")
def engine(require: Callable[[str], None]) -> Iterator[Engine]:
    require("docker")
    found = anyio.run(find_engine)
    yield found
    found.client.close()


def make_sandbox(engine: Engine, cache: Path, **options: Any) -> DockerSandbox:
    presence = Presence(cache / "servers")
    rules = PackageRules(most_bytes=options.pop("most_bytes", 1 << 30))
    store = PackageStore(cache, Target(engine.python_version, engine.platform), rules)
    return DockerSandbox(replace(engine, client=connect()), SMALL, store, presence, **options)


@pytest.fixture
async def sandbox(engine: Engine, tmp_path: Path) -> AsyncIterator[DockerSandbox]:
    volume = f"dynasaur-test-{os.urandom(4).hex()}"
    opened = make_sandbox(engine, tmp_path, volume=volume)
    yield opened
    await opened.aclose()
    with contextlib.suppress(OSError):  # never made
        engine.client.remove_volume(volume)


@pytest.fixture
def images(engine: Engine) -> Iterator[list[str]]:
    """Names of images to remove afterwards."""
    names: list[str] = []
    yield names
    for name in names:
        engine.client.remove_image(name, force=True)


def run_inside(engine: Engine, container: str, *command: str) -> str:
    run = engine.client.exec_create(container, list(command), user="65534:65534")
    return str(engine.client.exec_start(run).decode())


def list_containers(engine: Engine, sandbox: DockerSandbox) -> list[Any]:
    server = sandbox.labels[SERVER_LABEL]
    return list(engine.client.containers(all=True, filters={"label": f"{SERVER_LABEL}={server}"}))
