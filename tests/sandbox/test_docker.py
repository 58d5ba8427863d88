"""Containers as workers, on a real engine. What the worker inside does is tested on each sandbox."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from dynasaur_mcp.errors import SandboxUnavailable, WorkerLost
from dynasaur_mcp.sandbox.container import remove_container
from dynasaur_mcp.sandbox.docker import HOME_LABEL, SERVER_LABEL, DockerSandbox, Engine
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.wire import FrameReader

from .conftest import list_containers, make_sandbox

pytestmark = pytest.mark.anyio


def make_image(engine: Engine, entrypoint: list[str], name: str, images: list[str]) -> str:
    """A worker image with another program."""
    recipe = io.BytesIO(f"FROM {engine.image}\nENTRYPOINT {json.dumps(entrypoint)}\n".encode())
    events = list(engine.client.build(fileobj=recipe, tag=name, rm=True, network_mode="none", decode=True))
    assert not [event for event in events if "error" in event]
    images.append(name)
    return name


async def test_worker_says_ready_in_its_first_frame(sandbox: DockerSandbox) -> None:
    worker = await sandbox.start()
    reader = FrameReader()
    while not (messages := reader.feed(await worker.receive())):
        pass
    assert messages[0] == {"ready": 1}


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
