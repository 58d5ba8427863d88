"""Containers as workers, on a real engine. What the worker inside does is tested on each sandbox."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from dynasaur_mcp.errors import SandboxUnavailable, WorkerLost
from dynasaur_mcp.sandbox.container import remove_container
from dynasaur_mcp.sandbox.docker import HOME_LABEL, SERVER_LABEL, DockerSandbox, Engine, find_engine
from dynasaur_mcp.sandbox.engine import connect
from dynasaur_mcp.sandbox.packages import PackageStore
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.wheels import Target
from dynasaur_mcp.sandbox.wire import FrameReader
from dynasaur_mcp.types import Limits, PackageRules

pytestmark = pytest.mark.anyio

SMALL = Limits(memory_bytes=128 << 20, workspace_bytes=8 << 20, tmp_bytes=4 << 20, file_bytes=6 << 20, processes=32)


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


def make_image(engine: Engine, entrypoint: list[str], name: str, images: list[str]) -> str:
    """A worker image with another program."""
    recipe = io.BytesIO(f"FROM {engine.image}\nENTRYPOINT {json.dumps(entrypoint)}\n".encode())
    events = list(engine.client.build(fileobj=recipe, tag=name, rm=True, network_mode="none", decode=True))
    assert not [event for event in events if "error" in event]
    images.append(name)
    return name


def run_inside(engine: Engine, container: str, *command: str) -> str:
    run = engine.client.exec_create(container, list(command), user="65534:65534")
    return str(engine.client.exec_start(run).decode())


def list_containers(engine: Engine, sandbox: DockerSandbox) -> list[Any]:
    server = sandbox.labels[SERVER_LABEL]
    return list(engine.client.containers(all=True, filters={"label": f"{SERVER_LABEL}={server}"}))


async def test_worker_says_ready_in_its_first_frame(sandbox: DockerSandbox) -> None:
    worker = await sandbox.start()
    reader = FrameReader()
    while not (messages := reader.feed(await worker.receive())):
        pass
    assert messages[0] == {"ready": 1}


async def test_container_has_every_hardening(engine: Engine, sandbox: DockerSandbox) -> None:
    worker = await sandbox.start()
    status = run_inside(engine, worker.id, "cat", "/proc/self/status")
    assert re.search(r"^Uid:\s+65534\s+65534\s+65534\s+65534$", status, re.M)
    assert re.search(r"^CapBnd:\s+0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    assert re.search(r"^Seccomp:\s+2$", status, re.M)
    assert run_inside(engine, worker.id, "ls", "/sys/class/net").split() == ["lo"]
    assert "Read-only" in run_inside(engine, worker.id, "touch", "/opt/worker/x")
    assert "Read-only" in run_inside(engine, worker.id, "touch", "/packages/x")
    privileged = run_inside(engine, worker.id, "sh", "-c", "find / -xdev -type f -perm /6000 2>/dev/null")
    assert privileged == ""
    mounts = [line.split() for line in run_inside(engine, worker.id, "cat", "/proc/mounts").splitlines()]
    options = {mount[1]: mount[3] for mount in mounts}
    for place in ("/workspace", "/tmp"):
        assert {"nosuid", "nodev"} <= set(options[place].split(","))
    host = engine.client.inspect_container(worker.id)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (128 << 20, 128 << 20, 32)
    assert (host["NetworkMode"], host["Privileged"], host["Binds"]) == ("none", False, None)
    assert host["LogConfig"]["Type"] == "none"


async def test_environment_is_fixed_and_none_of_the_servers(
    engine: Engine, sandbox: DockerSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    worker = await sandbox.start()
    names = {line.partition("=")[0] for line in run_inside(engine, worker.id, "env").splitlines()}
    assert "API_KEY" not in names
    assert {"HOME", "OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE"} <= names


async def test_full_workspace_is_an_error_to_the_writer_only(engine: Engine, sandbox: DockerSandbox) -> None:
    worker = await sandbox.start()
    write = "for n in 1 2 3; do head -c 4000000 /dev/zero > /workspace/$n; done; head -c 7000000 /dev/zero > /tmp/big"
    said = run_inside(engine, worker.id, "sh", "-c", write)
    assert "No space left" in said
    assert engine.client.inspect_container(worker.id)["State"]["Running"]


async def test_bytes_come_back_as_they_were_sent(engine: Engine, sandbox: DockerSandbox, images: list[str]) -> None:
    image = make_image(engine, ["sh", "-c", "cat"], "dynasaur-test-echo", images)
    sandbox.engine = replace(sandbox.engine, image=image)
    worker = await sandbox.start()
    sent = os.urandom(1 << 16) * 64
    received = bytearray()

    async def receive() -> None:
        while len(received) < len(sent):
            received.extend(await worker.receive())

    async with anyio.create_task_group() as both:
        both.start_soon(receive)
        both.start_soon(worker.send, sent)
    assert received == sent


async def test_last_words_on_stderr_say_why_a_worker_went(
    engine: Engine, sandbox: DockerSandbox, images: list[str]
) -> None:
    program = ["sh", "-c", "echo of interest; echo no pydantic here >&2; exit 3"]
    sandbox.engine = replace(sandbox.engine, image=make_image(engine, program, "dynasaur-test-words", images))
    worker = await sandbox.start()
    assert await worker.receive() == b"of interest\n"
    with pytest.raises(WorkerLost, match="no pydantic here"):
        await worker.receive()


async def test_killed_worker_leaves_no_container_and_answers_no_more(engine: Engine, sandbox: DockerSandbox) -> None:
    worker = await sandbox.start()
    await worker.kill()
    assert list_containers(engine, sandbox) == []
    with pytest.raises(WorkerLost):
        await worker.receive()
    with pytest.raises(WorkerLost):
        await worker.send(b"x")
    await worker.kill()


async def test_kill_ends_a_waiting_receive(sandbox: DockerSandbox) -> None:
    worker = await sandbox.start()
    await worker.receive()
    lost = []

    async def receive() -> None:
        try:
            await worker.receive()
        except WorkerLost as error:
            lost.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        await worker.kill()
    assert lost


async def test_container_removed_by_hand_is_a_lost_worker(engine: Engine, sandbox: DockerSandbox) -> None:
    worker = await sandbox.start()
    await worker.receive()
    remove_container(engine.client, worker.id)
    with pytest.raises(WorkerLost):
        await worker.receive()
    await worker.kill()


async def test_closing_the_sandbox_removes_every_worker(engine: Engine, tmp_path: Path) -> None:
    closing = make_sandbox(engine, tmp_path)
    for _ in range(3):
        await closing.start()
    assert len(list_containers(engine, closing)) == 3
    await closing.aclose()
    assert list_containers(engine, closing) == []


async def test_start_cancelled_half_way_leaves_nothing_after_close(engine: Engine, tmp_path: Path) -> None:
    closing = make_sandbox(engine, tmp_path)
    async with anyio.create_task_group() as group:
        group.start_soon(closing.start)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    await closing.aclose()
    assert list_containers(engine, closing) == []


async def test_worker_ends_with_a_server_that_is_killed(engine: Engine, tmp_path: Path) -> None:
    program = """
import sys, anyio
from pathlib import Path
from dynasaur_mcp.sandbox.docker import DockerSandbox, find_engine
from dynasaur_mcp.sandbox.packages import PackageStore
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.wheels import Target
from dynasaur_mcp.types import Limits

async def main():
    cache = Path(sys.argv[1])
    engine = await find_engine()
    store = PackageStore(cache, Target(engine.python_version, engine.platform))
    worker = await DockerSandbox(engine, Limits(), store, Presence(cache / "servers")).start()
    await worker.receive()
    print(worker.id, flush=True)
    await anyio.sleep_forever()

anyio.run(main)
"""
    async with await anyio.open_process([sys.executable, "-c", program, str(tmp_path)], stderr=None) as server:
        assert server.stdout
        container = (await server.stdout.receive()).decode().strip()
        server.kill()
        await server.wait()
    with anyio.fail_after(30):
        await anyio.to_thread.run_sync(lambda: wait_removed(engine, container))
    with pytest.raises(OSError, match="No such container"):
        engine.client.inspect_container(container)


def wait_removed(engine: Engine, container: str) -> None:
    with contextlib.suppress(OSError):  # it is gone already
        engine.client.wait(container, timeout=30, condition="removed")


async def test_leftovers_of_dead_servers_are_reaped_and_no_others(
    engine: Engine, sandbox: DockerSandbox, tmp_path: Path
) -> None:
    dead, alive = Presence(tmp_path / "servers"), Presence(tmp_path / "servers")
    elsewhere = Presence(tmp_path / "elsewhere")
    containers = {
        server.id: engine.client.create_container_from_config(
            {"Image": engine.image, "Labels": {SERVER_LABEL: server.id, HOME_LABEL: server.home}}
        )["Id"]
        for server in (dead, alive, elsewhere)
    }
    dead.close()
    elsewhere.close()
    own = await sandbox.start()
    try:
        assert await sandbox.reap() == 1
        with pytest.raises(OSError, match="No such container"):
            engine.client.inspect_container(containers[dead.id])
        for left in (containers[alive.id], containers[elsewhere.id], own.id):
            engine.client.inspect_container(left)
    finally:
        alive.close()
        for container in containers.values():
            remove_container(engine.client, container)


async def test_worker_without_its_image_says_to_build_it(engine: Engine, tmp_path: Path) -> None:
    absent = replace(engine, image="dynasaur-test-absent:1")
    closing = make_sandbox(absent, tmp_path)
    with pytest.raises(SandboxUnavailable, match="image build"):
        await closing.start()
    await closing.aclose()


async def test_runtime_the_engine_lacks_is_unavailable(engine: Engine, tmp_path: Path) -> None:
    closing = make_sandbox(engine, tmp_path, runtime="absent")
    with pytest.raises(SandboxUnavailable, match=r"does not know the runtime .*daemon\.json"):
        await closing.start()
    await closing.aclose()
    assert list_containers(engine, closing) == []


def test_only_a_closed_presence_is_dead(tmp_path: Path) -> None:
    one, other = Presence(tmp_path), Presence(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert one.home == other.home
    assert one.others() == []
    assert one.id
    assert other.others() == [one.id]
    assert other.is_alive(one.id)
    one.close()
    assert not other.is_alive(one.id)
    assert not other.is_alive("never")
    other.forget_dead()
    assert other.is_alive(other.id)
    other.close()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
