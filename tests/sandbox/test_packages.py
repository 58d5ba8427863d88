"""Sets of third-party packages: from wheels made here, found through uv's own settings file; no network."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import anyio
import pytest

from dynasaur_mcp.errors import ActionInvalid, SandboxUnavailable
from dynasaur_mcp.sandbox import packages
from dynasaur_mcp.sandbox.packages import LIST_NAME, PackageStore, explain, read_requirements

pytestmark = pytest.mark.anyio

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


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


def make_wheel(folder: Path, name: str, version: str, requires: str | None = None, platform: str = "any") -> None:
    module = f"version = {version!r}\n".encode()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": module,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-{platform}\n".encode(),
    }
    record = "".join(f"{path},sha256={hashlib.sha256(data).hexdigest()},{len(data)}\n" for path, data in files.items())
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-{platform}.whl", "w") as wheel:
        for path, data in files.items():
            wheel.writestr(path, data)
        wheel.writestr(f"{info}/RECORD", record)


def make_store(tmp_path: Path) -> PackageStore:
    return PackageStore(tmp_path / "packages", python_version=PYTHON, platform=None)


async def test_installed_set_is_importable_from_its_folder(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    key = await store.install(("needy",))
    code = "import needy, plain, sys; sys.stdout.write(needy.version + plain.version)"
    shown = await anyio.run_process([sys.executable, "-c", code], env={"PYTHONPATH": str(store.path(key))})
    assert shown.stdout == b"1.01.0"
    assert store.path(key).parent == store.folder


async def test_no_requirements_need_no_set(tmp_path: Path) -> None:
    assert await make_store(tmp_path).install(()) == ""


async def test_order_and_spelling_do_not_make_another_set(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    assert await store.install(("needy", "Plain <2")) == await store.install(("plain<2", "needy", "needy"))


async def test_installed_set_needs_neither_uv_nor_index_again(tmp_path: Path, wheels: Path) -> None:
    key = await make_store(tmp_path).install(("plain",))
    shutil.rmtree(wheels)
    assert await make_store(tmp_path).install(("plain",)) == key


async def test_modules_are_compiled_because_workers_cannot_write_there(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    folder = store.path(await store.install(("plain",)))
    assert [path.name for path in (folder / "__pycache__").iterdir()] == [f"plain.{sys.implementation.cache_tag}.pyc"]


async def test_every_user_may_read_a_set_whatever_the_umask(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    before = os.umask(0o077)
    try:
        folder = store.path(await store.install(("plain",)))
    finally:
        os.umask(before)
    unreadable = [path for path in (folder, *folder.rglob("*")) if not path.stat().st_mode & 0o004]
    assert unreadable == []


async def test_wheels_of_another_python_and_platform_are_chosen_by_their_tags(tmp_path: Path, wheels: Path) -> None:
    make_wheel(wheels, "native", "1.0", platform="manylinux_2_28_aarch64")
    make_wheel(wheels, "native", "2.0", platform="win_amd64")
    store = PackageStore(tmp_path / "packages", python_version="3.13", platform="aarch64-manylinux_2_36")
    folder = store.path(await store.install(("native",)))
    assert (folder / "native.py").read_text() == "version = '1.0'\n"


async def test_two_installs_of_one_set_at_once_are_one(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, installs = make_store(tmp_path), []
    install = packages.install_wheels

    async def count(requirements: tuple[str, ...], *args: Any, **kwargs: Any) -> None:
        installs.append(requirements)
        await install(requirements, *args, **kwargs)

    monkeypatch.setattr(packages, "install_wheels", count)
    async with anyio.create_task_group() as both:
        both.start_soon(store.install, ("plain",))
        both.start_soon(store.install, ("plain",))
    assert installs == [("plain",)]


async def test_two_servers_installing_one_set_at_once_both_have_it(tmp_path: Path, wheels: Path) -> None:
    keys = []

    async def install() -> None:
        keys.append(await make_store(tmp_path).install(("plain",)))

    async with anyio.create_task_group() as both:
        both.start_soon(install)
        both.start_soon(install)
    assert len(set(keys)) == 1
    assert sorted(path.name for path in make_store(tmp_path).folder.iterdir()) == [keys[0]]


async def test_cancelled_install_leaves_nothing(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    async with anyio.create_task_group() as group:
        group.start_soon(store.install, ("plain",))
        await anyio.lowlevel.checkpoint()
        while not list(store.folder.glob(".new-*")):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert list(store.folder.iterdir()) == []


async def test_half_a_set_left_by_a_killed_server_is_swept_and_never_used(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    left = store.folder / ".new-left"
    left.mkdir()
    os.utime(left, (0, 0))
    key = await store.install(("plain",))
    assert [path.name for path in store.folder.iterdir()] == [key]
    assert (store.path(key) / LIST_NAME).read_text() == "plain\n"


@pytest.mark.parametrize(
    ("requirement", "named"),
    [("absent", "absent"), ("plain>=9", "plain>=9"), ("plain==1.0 ; python_version>'3'", "needy")],
)
async def test_set_that_does_not_resolve_names_the_requirement(
    requirement: str, named: str, tmp_path: Path, wheels: Path
) -> None:
    make_wheel(wheels, "needy", "3.0", requires="plain>=2")
    store = make_store(tmp_path)
    with pytest.raises(ActionInvalid) as raised:
        await store.install((requirement, "needy>=3"))
    assert named in str(raised.value.problems[0])
    assert str(tmp_path) not in str(raised.value)
    assert list(store.folder.iterdir()) == []


async def test_package_without_wheels_is_refused_rather_than_built(tmp_path: Path, wheels: Path) -> None:
    (wheels / "source-1.0.tar.gz").write_bytes(b"")
    with pytest.raises(ActionInvalid, match="wheels"):
        await make_store(tmp_path).install(("source",))


async def test_index_that_does_not_answer_is_the_operators_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "uv.toml"
    settings.write_text(f'index-url = "http://user:secret@127.0.0.1:9/"\ncache-dir = "{tmp_path / "uv-cache"}"\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(settings))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(SandboxUnavailable) as raised:
        await make_store(tmp_path).install(("plain",))
    assert "plain" in str(raised.value)
    assert "127.0.0.1" not in str(raised.value)
    assert "secret" not in str(raised.value)


async def test_install_that_takes_too_long_is_stopped(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "INSTALL_SECONDS", 0.0)
    store = make_store(tmp_path)
    with pytest.raises(SandboxUnavailable, match="plain took over"):
        await store.install(("plain",))
    assert list(store.folder.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "/etc", "./here", "-e .", "--index-url=x", "-r file", "plain @ file:///x.whl", "https://x/y.whl", "git+https://x/y",
        "plain\nneedy", "", "plain --no-binary", "a b",
    ],
)  # fmt: skip
def test_what_is_no_name_in_the_index_is_refused(text: str) -> None:
    with pytest.raises(ActionInvalid):
        read_requirements((text,))


def test_all_refused_requirements_are_told_at_once() -> None:
    with pytest.raises(ActionInvalid) as raised:
        read_requirements(("./here", "plain", "plain @ file:///x.whl"))
    assert len(raised.value.problems) == 2


def test_extras_versions_and_markers_are_kept() -> None:
    assert read_requirements(("My_Pkg[a,b] >=1,<2; python_version > '3.8'",)) == (
        'my-pkg[a,b]<2,>=1; python_version > "3.8"',
    )


def test_reason_has_no_decoration_path_or_address() -> None:
    said = "  × No solution found when resolving dependencies:\n  ╰─▶ Because a is in /home/me/x and `https://u:p@h/simple/`.\n"
    assert explain(said) == "Because a is in … and `the package index`."
