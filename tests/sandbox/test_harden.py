"""What a container may do, as its engine and its own processes tell it."""

from __future__ import annotations

import re

import pytest

from dynasaur_mcp.sandbox.docker import DockerSandbox, Engine

from .conftest import run_inside

pytestmark = pytest.mark.anyio


async def test_container_has_every_hardening(engine: Engine, sandbox: DockerSandbox) -> None:
    worker = await sandbox.start()
    status = run_inside(engine, worker.id, "cat", "/proc/1/status")
    assert re.search(r"^Uid:\s+([1-9]\d+)\s+\1\s+\1\s+\1$", status, re.M)
    assert re.search(r"^Gid:\s+65534\s+65534\s+65534\s+65534$", status, re.M)
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
