"""Which engine is found, and what is said where there is none, or none with an image of a worker."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import tarfile
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox.docker import Engine, find_engine

pytestmark = pytest.mark.anyio


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
