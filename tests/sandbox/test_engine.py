"""An engine that stops, comes back, is full, or is elsewhere: a second real one, which these tests can treat so."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import psutil
import pytest

from dynasaur_mcp.app import choose_sandbox
from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox.base import Sandbox
from dynasaur_mcp.sandbox.docker import find_engine
from dynasaur_mcp.sandbox.engine import NO_ENGINE, NO_SPACE, connect
from dynasaur_mcp.sandbox.pool import Pool, open_pool
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.settings import Settings
from dynasaur_mcp.types import Ending

from .conftest import run, shown
from .own_engine import OwnEngine, open_folder

pytestmark = [
    pytest.mark.anyio,
    # The SDK leaves the socket of a connection that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What the mark above excuses is not left for other tests."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def driver(require: Callable[[str], None]) -> str:
    require("docker")
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a second engine needs root and dockerd")
    client = connect()
    driver = str(client.info()["Driver"])
    client.close()
    return driver


@pytest.fixture(scope="module")
def loaded_engine(driver: str) -> Iterator[OwnEngine]:
    with open_folder() as folder:
        engine = OwnEngine(folder, driver)
        try:
            engine.start()
            engine.load_image()
            yield engine
        finally:
            engine.stop()


@pytest.fixture
def own_engine(loaded_engine: OwnEngine, monkeypatch: pytest.MonkeyPatch) -> OwnEngine:
    loaded_engine.start()
    monkeypatch.setenv("DOCKER_HOST", loaded_engine.address)
    return loaded_engine


@asynccontextmanager
async def open_docker(cache: Path, warm_workers: int = 0) -> AsyncIterator[Pool]:
    settings = Settings(sandbox="docker", cache=cache, timeout_seconds=10)

    async def choose() -> Sandbox:
        return await choose_sandbox(settings, Presence(cache / "servers"))

    async with open_pool(choose, settings.limits(), warm_workers=warm_workers) as pool:
        yield pool


async def test_engine_stopped_in_the_middle_is_told_and_used_again_when_it_returns(
    own_engine: OwnEngine, tmp_path: Path
) -> None:
    async with open_docker(tmp_path) as pool:
        async with pool.session("me") as session:
            await run(session, "x = 1")
        await anyio.to_thread.run_sync(own_engine.stop)
        for _ in range(2):
            with pytest.raises(SandboxUnavailable, match=NO_ENGINE.split(":")[0]):
                async with pool.session("me"):
                    pass
        await anyio.to_thread.run_sync(own_engine.start)
        async with pool.session("me") as session:
            outcome = await run(session, "'x' in globals()")
            assert outcome.shown == "False"
            assert "lost its worker" in outcome.notes[0]


async def test_engine_stopped_during_a_step_loses_the_step_and_says_so(own_engine: OwnEngine, tmp_path: Path) -> None:
    async with open_docker(tmp_path) as pool:
        async with pool.session("me") as session, anyio.create_task_group() as tasks:
            await run(session, "x = 1")
            printed = anyio.Event()
            outcomes = []

            async def endless() -> None:
                code = "print('go')\nwhile True: pass"
                outcomes.append(await session.run(code, {}, (), timeout_seconds=60, on_output=lambda *_: printed.set()))

            tasks.start_soon(endless)
            await printed.wait()
            await anyio.to_thread.run_sync(own_engine.stop)
        (outcome,) = outcomes
        assert outcome.ending is Ending.LOST
        assert outcome.error.startswith("The step was lost with its worker")
        assert "The next call starts anew" in outcome.notes[0]


async def test_worker_that_a_stopped_engine_could_not_remove_is_forgotten_when_it_returns(
    own_engine: OwnEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(Presence(tmp_path / "servers")) as presence:
        sandbox = await choose_sandbox(Settings(sandbox="docker", cache=tmp_path), presence)
        lost = await sandbox.start()
        await anyio.to_thread.run_sync(own_engine.stop)
        for _ in range(3):
            await lost.kill()
        assert caplog.text.count(f"{lost.id} was not removed") == 1
        await anyio.to_thread.run_sync(own_engine.start)
        other = await sandbox.start()
        assert caplog.text.count(f"{lost.id} is removed now") == 1
        await anyio.to_thread.run_sync(own_engine.stop)
        caplog.clear()
        await sandbox.aclose()
        assert f"{other.id} was not removed" in caplog.text
        assert lost.id not in caplog.text


async def test_engine_absent_at_first_is_used_when_it_comes(
    own_engine: OwnEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_docker(tmp_path) as pool:
        await anyio.to_thread.run_sync(own_engine.stop)
        with pytest.raises(SandboxUnavailable, match="start Docker"):
            async with pool.session("me"):
                pass
        await anyio.to_thread.run_sync(own_engine.start)
        async with pool.session("me") as session:
            assert await shown(session, "1 + 1") == "2"


async def test_engine_over_tcp_runs_code_and_moves_files(
    own_engine: OwnEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{own_engine.port}")
    async with open_docker(tmp_path, warm_workers=1) as pool, pool.session("me") as session:
        assert await shown(session, "1 + 1") == "2"
        text = "line = 'x' * 999\nfor _ in range(3000): print(line)"
        assert len((await run(session, text)).stdout) == 1 << 20


@pytest.fixture
def small_engine(driver: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnEngine]:
    """An engine on a disk of its own that is soon full."""
    with open_folder() as folder:
        engine = OwnEngine(folder, "overlay2")
        engine.data.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", str(engine.data)], check=True)
        try:
            engine.start()
            engine.load_image()
            monkeypatch.setenv("DOCKER_HOST", engine.address)
            yield engine
        finally:
            engine.stop()


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))


async def test_engine_without_disk_space_is_told_and_used_again_when_there_is_some(
    small_engine: OwnEngine, tmp_path: Path
) -> None:
    async with open_docker(tmp_path) as pool:
        filler = small_engine.data / "filler"
        await anyio.to_thread.run_sync(fill, filler)
        with pytest.raises(SandboxUnavailable, match=NO_SPACE.split(":")[0]):
            async with pool.session("me"):
                pass
        filler.unlink()
        async with pool.session("me") as session:
            assert await shown(session, "1 + 1") == "2"


@pytest.fixture
def ssh(driver: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """An sshd on loopback, which this user's `ssh` may log in to; gives its port."""
    if shutil.which("sshd", path="/usr/sbin") is None:
        pytest.skip("there is no sshd")
    with open_folder() as folder:
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", str(folder / key)], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        settings = {"Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host", "PidFile": "none"}
        settings |= {"AuthorizedKeysFile": folder / "user.pub", "StrictModes": "no", "UsePAM": "no"}
        (folder / "sshd").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        known = f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}"
        (folder / "known").write_text(known)
        program = folder / "ssh"
        program.write_text(
            f'#!/bin/sh\nexec {shutil.which("ssh")} -F none -i {folder}/user -oUserKnownHostsFile={folder}/known "$@"\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        Path("/run/sshd").mkdir(exist_ok=True)
        daemon = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(folder / "sshd")], stderr=subprocess.DEVNULL)
        try:
            while subprocess.run([str(program), "-p", str(port), "127.0.0.1", "true"], check=False).returncode:
                assert daemon.poll() is None
            yield port
        finally:
            daemon.terminate()
            daemon.wait()


async def test_engine_over_ssh_is_used_and_found_again_when_the_connection_breaks(
    ssh: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    monkeypatch.setenv("DOCKER_HOST", f"ssh://127.0.0.1:{ssh}{remote}")
    before = set(psutil.Process().children())
    async with open_docker(tmp_path) as pool:
        async with pool.session("me") as session:
            assert await shown(session, "x = 1; x") == "1"
            (tunnel,) = set(psutil.Process().children()) - before
            tunnel.kill()
            while not session.is_lost:
                await anyio.lowlevel.checkpoint()
        async with pool.session("me") as session:
            outcome = await run(session, "'x' in globals()")
            assert outcome.shown == "False"
            assert "lost its worker" in outcome.notes[0]
    assert set(psutil.Process().children()) == before


async def test_ssh_that_is_refused_says_what_ssh_said(
    ssh: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://nobody_at_all@127.0.0.1:9")
    with pytest.raises(SandboxUnavailable, match="Connection refused"):
        await find_engine()
    monkeypatch.setenv("DOCKER_HOST", f"ssh://127.0.0.1:{ssh}{tmp_path}/no.sock")
    with pytest.raises(SandboxUnavailable, match="start Docker"):
        await find_engine()
