"""Packages in a volume of a real engine: brought there, kept within a size, swept, by several servers at once."""

from __future__ import annotations

import io
import tarfile
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox.container import remove_container
from dynasaur_mcp.sandbox.docker import DockerSandbox, Engine, find_targets
from dynasaur_mcp.sandbox.session import open_session
from dynasaur_mcp.sandbox.sets import NOTE, STAGED

from .conftest import SMALL, list_containers, make_sandbox, make_wheel, run_inside

pytestmark = pytest.mark.anyio


def list_volume(engine: Engine, sandbox: DockerSandbox) -> list[str]:
    """Names of the sets there, also of those that are made."""
    config = {
        "Image": engine.image,
        "Entrypoint": ["sh", "-c", "for tag in /packages/*; do ls -A $tag; done"],
        "HostConfig": {"Mounts": [{"Type": "volume", "Source": sandbox.volume, "Target": "/packages"}]},
    }
    container = engine.client.create_container_from_config(config)["Id"]
    try:
        engine.client.start(container)
        engine.client.wait(container)
        return list(engine.client.logs(container).decode().split())
    finally:
        remove_container(engine.client, container)


def open_another(
    engine: Engine, sandbox: DockerSandbox, tmp_path: Path, **options: Any
) -> AbstractAsyncContextManager[DockerSandbox]:
    """Of another server, with the same volume."""
    return aclosing(make_sandbox(engine, tmp_path / "another", volume=sandbox.volume, **options))


async def test_packages_appear_in_a_running_worker(engine: Engine, sandbox: DockerSandbox, wheels: Path) -> None:
    worker = await sandbox.start()
    folder = await sandbox.packages(("plain",))
    assert folder.startswith("/packages/")
    program = f"import sys; sys.path.insert(0, {folder!r}); import plain; print(plain.version, plain.__cached__)"
    assert run_inside(engine, worker.id, "python3", "-c", program).split() == [
        "2.0",
        f"{folder}/__pycache__/plain.cpython-{engine.python_version.replace('.', '')}.pyc",
    ]
    assert "__pycache__" in run_inside(engine, worker.id, "ls", folder)
    assert await sandbox.packages(("plain",)) == folder
    assert await sandbox.packages(()) == ""


async def test_packages_in_the_volume_are_not_copied_again_by_another_server(
    engine: Engine, sandbox: DockerSandbox, wheels: Path, tmp_path: Path
) -> None:
    worker = await sandbox.start()
    folder = await sandbox.packages(("plain",))
    before = run_inside(engine, worker.id, "stat", "-c", "%i", f"{folder}/{NOTE}")
    async with open_another(engine, sandbox, tmp_path) as again:
        assert await again.packages(("plain",)) == folder
    assert run_inside(engine, worker.id, "stat", "-c", "%i", f"{folder}/{NOTE}") == before
    assert list_volume(engine, sandbox) == [folder.rpartition("/")[2]]
    assert not (tmp_path / "another" / "packages").exists()


async def test_two_servers_bring_one_set_at_once(
    engine: Engine, sandbox: DockerSandbox, wheels: Path, tmp_path: Path
) -> None:
    async with open_another(engine, sandbox, tmp_path) as other, anyio.create_task_group() as both:
        both.start_soon(sandbox.packages, ("plain",))
        both.start_soon(other.packages, ("plain",))
    assert len(list_volume(engine, sandbox)) == 1


async def test_full_volume_loses_what_no_worker_of_any_server_uses(
    engine: Engine, sandbox: DockerSandbox, wheels: Path, tmp_path: Path
) -> None:
    for name in ("used", "first", "second"):
        make_wheel(wheels, name, "1.0", megabytes=1)
    session = await open_session(sandbox, SMALL)
    assert (await session.run("import used", {}, ("used",))).succeeded
    async with open_another(engine, sandbox, tmp_path, most_bytes=5 << 19) as small:
        used, first = [(await small.packages((name,))).rpartition("/")[2] for name in ("used", "first")]
        second = (await small.packages(("second",))).rpartition("/")[2]
        assert sorted(list_volume(engine, sandbox)) == sorted([used, second])
        assert (await small.sweep_packages())["sets"] == 0
        # A session of the other server, which has seen the set that is gone, gets it again.
        assert (await session.run("import first; first.version", {}, ("first",))).shown == "'1.0'"
        assert first in list_volume(engine, sandbox)
        await session.kill()


async def test_set_that_a_runtime_with_locks_of_its_own_may_use_is_left(
    engine: Engine, sandbox: DockerSandbox, wheels: Path, tmp_path: Path
) -> None:
    await sandbox.packages(("plain",))
    async with (
        open_another(engine, sandbox, tmp_path, most_bytes=0) as sweeper,
        aclosing(make_sandbox(engine, tmp_path, volume=sandbox.volume, runtime="runc")) as hidden,
    ):
        worker = await hidden.start()
        assert (await sweeper.sweep_packages())["sets"] == 0
        await worker.kill()
        assert (await sweeper.sweep_packages())["sets"] == 1


async def test_packages_without_a_worker_image_say_to_build_it(
    engine: Engine, sandbox: DockerSandbox, tmp_path: Path
) -> None:
    async with open_another(replace(engine, image="absent:1"), sandbox, tmp_path) as absent:
        with pytest.raises(SandboxUnavailable, match="image build"):
            await absent.sweep_packages()


async def test_set_removed_under_a_server_is_brought_again(
    engine: Engine, sandbox: DockerSandbox, wheels: Path, tmp_path: Path
) -> None:
    await sandbox.packages(("plain",))
    async with open_another(engine, sandbox, tmp_path, most_bytes=0) as sweeper:
        removed = await sweeper.sweep_packages()
    assert (removed["sets"], list_volume(engine, sandbox)) == (1, [])
    session = await open_session(sandbox, SMALL)
    assert (await session.run("import plain; plain.version", {}, ("plain",))).shown == "'2.0'"
    await session.kill()


async def test_sets_of_images_that_are_gone_are_swept_with_what_was_left_half_way(
    engine: Engine, sandbox: DockerSandbox, wheels: Path
) -> None:
    folder = await sandbox.packages(("plain",))
    tag, key = folder.split("/")[2:]
    assert tag in find_targets(engine.client)
    assert (await sandbox.sweep_packages({tag}))["sets"] == 0
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as members:
        left = tarfile.TarInfo(f"{tag}/{STAGED}left")
        left.type = tarfile.DIRTYPE
        members.addfile(left)
    maker = engine.client.create_container_from_config(
        {
            "Image": engine.image,
            "HostConfig": {"Mounts": [{"Type": "volume", "Source": sandbox.volume, "Target": "/packages"}]},
        }
    )["Id"]
    engine.client.put_archive(maker, "/packages", archive.getvalue())
    remove_container(engine.client, maker)
    assert sorted(list_volume(engine, sandbox)) == sorted([f"{STAGED}left", key])
    assert (await sandbox.sweep_packages(set()))["sets"] == 1
    assert list_volume(engine, sandbox) == []


async def test_set_too_large_for_the_volume_is_refused_and_leaves_nothing(
    engine: Engine, sandbox: DockerSandbox, wheels: Path, tmp_path: Path
) -> None:
    # On this side it is not compiled, so it may be larger there.
    make_wheel(wheels, "tight", "1.0")
    async with open_another(engine, sandbox, tmp_path, most_bytes=6 * 4096) as small:
        with pytest.raises(SandboxUnavailable, match="packages-bytes"):
            await small.packages(("tight",))
    assert list_volume(engine, sandbox) == []


async def test_cancelled_copy_leaves_no_container_and_is_made_at_the_next_request(
    engine: Engine, sandbox: DockerSandbox, wheels: Path
) -> None:
    make_wheel(wheels, "large", "1.0", megabytes=100)
    async with anyio.create_task_group() as group:
        group.start_soon(sandbox.packages, ("large",))
        with anyio.fail_after(60):
            while not [c for c in list_containers(engine, sandbox) if STAGED in c["Command"]]:
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    with anyio.fail_after(60):
        while list_containers(engine, sandbox):
            await anyio.lowlevel.checkpoint()
    folder = await sandbox.packages(("large",))
    assert folder.rpartition("/")[2] in list_volume(engine, sandbox)
