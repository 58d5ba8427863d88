"""Containers as workers, on a real engine. What the worker inside does is the contract suite's."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import socket
import sys
import tarfile
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from dynasaur_mcp.errors import SandboxUnavailable, WorkerLost
from dynasaur_mcp.sandbox.container import remove_container
from dynasaur_mcp.sandbox.docker import HOME_LABEL, SERVER_LABEL, DockerSandbox, Engine, find_engine, find_targets
from dynasaur_mcp.sandbox.engine import connect
from dynasaur_mcp.sandbox.image import build_image, image_folder, image_tag, wheel_platform, worker_files
from dynasaur_mcp.sandbox.packages import PackageStore
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.session import open_session
from dynasaur_mcp.sandbox.sets import NOTE, STAGED
from dynasaur_mcp.sandbox.wheels import Target
from dynasaur_mcp.sandbox.wire import FrameReader
from dynasaur_mcp.types import Limits, PackageRules

from .conftest import make_wheel

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
    again = make_sandbox(engine, tmp_path / "another", volume=sandbox.volume)
    assert await again.packages(("plain",)) == folder
    await again.aclose()
    assert run_inside(engine, worker.id, "stat", "-c", "%i", f"{folder}/{NOTE}") == before
    assert list_volume(engine, sandbox) == [folder.rpartition("/")[2]]
    assert not (tmp_path / "another" / "packages").exists()


async def test_two_servers_bring_one_set_at_once(
    engine: Engine, sandbox: DockerSandbox, wheels: Path, tmp_path: Path
) -> None:
    other = make_sandbox(engine, tmp_path / "another", volume=sandbox.volume)
    async with anyio.create_task_group() as both:
        both.start_soon(sandbox.packages, ("plain",))
        both.start_soon(other.packages, ("plain",))
    await other.aclose()
    assert len(list_volume(engine, sandbox)) == 1


async def test_full_volume_loses_what_no_worker_of_any_server_uses(
    engine: Engine, sandbox: DockerSandbox, wheels: Path, tmp_path: Path
) -> None:
    for name in ("used", "first", "second"):
        make_wheel(wheels, name, "1.0", megabytes=1)
    session = await open_session(sandbox, SMALL)
    assert (await session.run("import used", {}, ("used",))).succeeded
    small = make_sandbox(engine, tmp_path / "another", volume=sandbox.volume, most_bytes=5 << 19)
    used, first = [(await small.packages((name,))).rpartition("/")[2] for name in ("used", "first")]
    second = (await small.packages(("second",))).rpartition("/")[2]
    assert sorted(list_volume(engine, sandbox)) == sorted([used, second])
    assert (await small.sweep_packages())["sets"] == 0
    # A session of the other server, which has seen the set that is gone, gets it again.
    assert (await session.run("import first; first.version", {}, ("first",))).shown == "'1.0'"
    assert first in list_volume(engine, sandbox)
    await session.kill()
    await small.aclose()


async def test_set_that_a_runtime_with_locks_of_its_own_may_use_is_left(
    engine: Engine, sandbox: DockerSandbox, wheels: Path, tmp_path: Path
) -> None:
    await sandbox.packages(("plain",))
    sweeper = make_sandbox(engine, tmp_path / "another", volume=sandbox.volume, most_bytes=0)
    hidden = make_sandbox(engine, tmp_path, volume=sandbox.volume, runtime="runc")
    worker = await hidden.start()
    assert (await sweeper.sweep_packages())["sets"] == 0
    await worker.kill()
    assert (await sweeper.sweep_packages())["sets"] == 1
    for opened in (sweeper, hidden):
        await opened.aclose()


async def test_packages_without_a_worker_image_say_to_build_it(
    engine: Engine, sandbox: DockerSandbox, tmp_path: Path
) -> None:
    absent = make_sandbox(replace(engine, image="absent:1"), tmp_path / "another", volume=sandbox.volume)
    with pytest.raises(SandboxUnavailable, match="image build"):
        await absent.sweep_packages()
    await absent.aclose()


async def test_set_removed_under_a_server_is_brought_again(
    engine: Engine, sandbox: DockerSandbox, wheels: Path, tmp_path: Path
) -> None:
    await sandbox.packages(("plain",))
    sweeper = make_sandbox(engine, tmp_path / "another", volume=sandbox.volume, most_bytes=0)
    removed = await sweeper.sweep_packages()
    await sweeper.aclose()
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
    small = make_sandbox(engine, tmp_path / "another", volume=sandbox.volume, most_bytes=6 * 4096)
    with pytest.raises(SandboxUnavailable, match="packages-bytes"):
        await small.packages(("tight",))
    await small.aclose()
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


async def test_no_engine_says_to_start_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_TLS_VERIFY", raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'none.sock'}")
    with pytest.raises(SandboxUnavailable, match="start Docker"):
        await find_engine()


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:9"])
async def test_address_that_is_of_no_use_is_one_sentence(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(SandboxUnavailable, match="DOCKER_HOST"):
        await find_engine()


async def test_engine_that_accepts_and_keeps_silent_is_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'silent.sock'}")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        with anyio.fail_after(20), pytest.raises(SandboxUnavailable, match="start Docker"):
            await find_engine()


async def test_missing_image_says_to_build_it(engine: Engine) -> None:
    with pytest.raises(SandboxUnavailable, match="run `dynasaur-mcp image build`"):
        await find_engine("dynasaur-test-absent:1")


async def test_image_that_is_no_workers_is_refused(engine: Engine, images: list[str]) -> None:
    make_image_from_nothing(engine, "dynasaur-test-nothing:1", images)
    with pytest.raises(SandboxUnavailable, match="is no worker image"):
        await find_engine("dynasaur-test-nothing:1")


def make_image_from_nothing(engine: Engine, name: str, images: list[str]) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    repository, _, tag = name.partition(":")
    engine.client.import_image_from_data(data.getvalue(), repository=repository, tag=tag)
    images.append(name)


async def test_engine_of_dockers_current_context_is_found(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not host.startswith("unix:"):
        pytest.skip("a context for this engine would need its certificates")
    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"other").hexdigest()
    meta.mkdir(parents=True)
    endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}}
    (meta / "meta.json").write_text(json.dumps({"Name": "other", "Metadata": {}, "Endpoints": endpoints}))
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "other"}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    found = await find_engine()
    found.client.close()
    assert found.image == engine.image


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


async def test_base_without_python_is_refused_by_name(engine: Engine, images: list[str]) -> None:
    make_image_from_nothing(engine, "dynasaur-test-bare:1", images)
    with pytest.raises(SandboxUnavailable, match=r"'dynasaur-test-bare:1' has no working python3"):
        await build_image("dynasaur-test-bare:1")


async def test_base_that_cannot_be_pulled_tells_how_to_make_one(engine: Engine) -> None:
    with pytest.raises(SandboxUnavailable, match=r"build_base\.sh"):
        await build_image("127.0.0.1:9/absent:1")


async def test_image_builds_on_a_base_and_says_what_it_does(engine: Engine) -> None:
    lines: list[str] = []
    before = engine.client.inspect_image(image_tag())["Id"]
    try:
        assert await build_image(engine.image, on_line=lines.append) == image_tag()
    finally:
        built = engine.client.inspect_image(image_tag())["Id"]
        engine.client.tag(before, *image_tag().split(":"))
        if built != before:
            engine.client.remove_image(built)
    assert f"Python {engine.python_version}" in lines[0]
    assert any("Successfully built" in line for line in lines)


def test_image_tag_names_version_and_contents() -> None:
    assert re.fullmatch(r"dynasaur-mcp-worker:[\w.]+-[0-9a-f]{12}", image_tag())
    assert "dynasaur_mcp/sandbox/wire.py" in worker_files()
    assert worker_files()["dynasaur_mcp/__init__.py"] == b""


def test_image_has_the_pydantic_of_the_project() -> None:
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())
    wanted = (image_folder() / "requirements.txt").read_text().split()
    assert set(wanted) <= set(project["project"]["dependencies"])


@pytest.mark.parametrize(
    ("machine", "libc", "platform"),
    [
        ("x86_64", "glibc 2.36", "x86_64-manylinux_2_36"),
        ("aarch64", "glibc 2.41", "aarch64-manylinux_2_40"),
        ("arm64", "glibc 2.30", "aarch64-manylinux_2_28"),
        ("x86_64", "", "x86_64-unknown-linux-musl"),
    ],
)
def test_wheels_fit_the_images_libc(machine: str, libc: str, platform: str) -> None:
    assert wheel_platform(machine, libc) == platform


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
