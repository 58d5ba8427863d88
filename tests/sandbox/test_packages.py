"""Sets of third-party packages: from wheels made here, found through uv's own settings file; no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from dynasaur_mcp.errors import RequirementsInvalid, SandboxUnavailable
from dynasaur_mcp.sandbox import packages
from dynasaur_mcp.sandbox import wheels as uv_wheels
from dynasaur_mcp.sandbox.bubblewrap import find_bwrap
from dynasaur_mcp.sandbox.packages import PackageStore
from dynasaur_mcp.sandbox.resolved import Resolutions, Resolved, forget_resolved
from dynasaur_mcp.sandbox.sets import NOTE, STAGED, USED, read_note
from dynasaur_mcp.sandbox.wheels import Target
from dynasaur_mcp.types import PackageRules

from .conftest import make_wheel

pytestmark = pytest.mark.anyio

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ANY = PackageRules()


def make_store(tmp_path: Path, target: Target | None = None, **rules: Any) -> PackageStore:
    return PackageStore(tmp_path / "cache", target or Target(PYTHON), PackageRules(**rules))


async def install(store: PackageStore, *requirements: str) -> Path:
    return await store.install(await store.resolve(requirements))


def sets_of(store: PackageStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir() if path.is_dir())


async def test_installed_set_is_importable_from_its_folder(tmp_path: Path, wheels: Path) -> None:
    folder = await install(make_store(tmp_path), "needy")
    code = "import needy, plain, sys; sys.stdout.write(needy.version + plain.version)"
    shown = await anyio.run_process([sys.executable, "-c", code], env={"PYTHONPATH": str(folder)})
    assert shown.stdout == b"1.01.0"


async def test_no_requirements_need_no_set(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    assert (await store.resolve(())).key == ""
    assert (await store.resolve(("plain; python_version < '3'",))).key == ""


async def test_order_and_spelling_are_one_resolution(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    assert await store.resolve(("needy", "Plain <2")) == await store.resolve(("plain<2", "needy", "needy"))
    assert len(list((tmp_path / "cache" / "resolved").glob("*/*"))) == 1


async def test_requests_that_resolve_alike_share_one_set(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    assert await install(store, "needy") == await install(store, "plain<2", "needy>=1")
    assert len(sets_of(store)) == 1


async def test_known_request_needs_neither_uv_nor_index_again(tmp_path: Path, wheels: Path) -> None:
    folder = await install(make_store(tmp_path), "plain")
    shutil.rmtree(wheels)
    assert await install(make_store(tmp_path), "plain") == folder


async def test_versions_stay_when_newer_ones_appear_until_they_are_forgotten(tmp_path: Path, wheels: Path) -> None:
    assert (await make_store(tmp_path).resolve(("plain",))).versions == ("plain==2.0",)
    make_wheel(wheels, "plain", "3.0")
    assert (await make_store(tmp_path).resolve(("plain",))).versions == ("plain==2.0",)
    assert forget_resolved(tmp_path / "cache") == 1
    assert (await make_store(tmp_path).resolve(("plain",))).versions == ("plain==3.0",)


async def test_set_that_was_removed_is_made_again_of_the_same_versions(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    folder = await install(store, "plain")
    make_wheel(wheels, "plain", "3.0")
    shutil.rmtree(folder)
    assert await install(store, "plain") == folder
    assert (folder / "plain.py").read_text() == "version = '2.0'\n"


async def test_set_removed_in_part_is_made_again(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    folder = await install(store, "plain")
    (folder / NOTE).unlink()
    (folder / "plain.py").unlink()
    assert await install(store, "plain") == folder
    assert (folder / "plain.py").is_file()


async def test_versions_no_longer_in_the_index_say_how_to_choose_others(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    resolved = await store.resolve(("plain",))
    (wheels / "plain-2.0-py3-none-any.whl").unlink()
    with pytest.raises(RequirementsInvalid, match="gc --packages"):
        await store.install(resolved)


async def test_resolution_cut_off_in_writing_is_made_anew(tmp_path: Path, wheels: Path) -> None:
    await make_store(tmp_path).resolve(("needy",))
    (path,) = (tmp_path / "cache" / "resolved").glob("*/*")
    path.write_text("# Asked for:\n#   needy\nneedy==1.0\n")
    assert (await make_store(tmp_path).resolve(("needy",))).versions == ("needy==1.0", "plain==1.0")


def test_of_two_servers_that_resolve_at_once_the_first_decides(tmp_path: Path) -> None:
    one, other = Resolutions(tmp_path, "tag"), Resolutions(tmp_path, "tag")
    assert one.keep(["plain"], Resolved(("plain==1.0",))).versions == ("plain==1.0",)
    assert other.keep(["plain"], Resolved(("plain==2.0",))).versions == ("plain==1.0",)


async def test_folder_of_all_packages_removed_under_a_store_is_made_again(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    folder = await install(store, "plain")
    shutil.rmtree(tmp_path / "cache")
    assert await install(store, "plain") == folder
    assert (folder / "plain.py").is_file()


async def test_modules_are_compiled_because_workers_cannot_write_there(tmp_path: Path, wheels: Path) -> None:
    folder = await install(make_store(tmp_path), "plain")
    assert [path.name for path in (folder / "__pycache__").iterdir()] == [f"plain.{sys.implementation.cache_tag}.pyc"]


async def test_every_user_may_read_a_set_whatever_the_umask(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    before = os.umask(0o077)
    try:
        folder = await install(store, "plain")
    finally:
        os.umask(before)
    unreadable = [path for path in (folder, *folder.rglob("*")) if not path.stat().st_mode & 0o004]
    assert unreadable == []


async def test_note_of_a_set_says_its_size_and_what_it_has(tmp_path: Path, wheels: Path) -> None:
    note = read_note(str(await install(make_store(tmp_path), "needy")))
    assert note["modules"] == {"needy": "needy==1.0", "plain": "plain==1.0"}
    assert note["bytes"] > 4096


async def test_wheels_of_another_python_and_platform_are_chosen_by_their_tags(tmp_path: Path, wheels: Path) -> None:
    make_wheel(wheels, "native", "1.0", platform="manylinux_2_28_aarch64")
    make_wheel(wheels, "native", "2.0", platform="win_amd64")
    folder = await install(make_store(tmp_path, Target("3.13", "aarch64-manylinux_2_36")), "native")
    assert (folder / "native.py").read_text() == "version = '1.0'\n"


async def test_two_installs_of_one_set_at_once_are_one(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, installs = make_store(tmp_path), []
    work = packages.install_wheels

    async def count(versions: tuple[str, ...], *args: Any) -> None:
        installs.append(versions)
        await work(versions, *args)

    monkeypatch.setattr(packages, "install_wheels", count)
    async with anyio.create_task_group() as both:
        both.start_soon(install, store, "plain")
        both.start_soon(install, store, "plain", "plain>=2")
    assert installs == [("plain==2.0",)]


async def test_two_servers_installing_one_set_at_once_both_have_it(tmp_path: Path, wheels: Path) -> None:
    folders = []

    async def install_alone() -> None:
        folders.append(await install(make_store(tmp_path), "plain"))

    async with anyio.create_task_group() as both:
        both.start_soon(install_alone)
        both.start_soon(install_alone)
    assert len(set(folders)) == 1
    assert sets_of(make_store(tmp_path)) == [folders[0].name]


async def test_cancelled_install_leaves_nothing_and_no_uv(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    async with anyio.create_task_group() as group:
        group.start_soon(install, store, "plain")
        while not list(store.folder.glob(f"{STAGED}*")):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert sets_of(store) == []
    assert psutil.Process().children() == []


def install_apart(tmp_path: Path, cache: list[str], *requirements: str) -> list[str]:
    """What comes of installing each alone in a process that has the cache as these words to bubblewrap say."""
    code = (
        "import anyio, sys\n"
        "from tests.sandbox.test_packages import *\n"
        "async def try_all():\n"
        "    store = make_store(Path(sys.argv[1]))\n"
        "    for requirement in sys.argv[2:]:\n"
        "        try: print((await install(store, requirement)).name)\n"
        "        except SandboxUnavailable as error: print(error, len(sets_of(store)))\n"
        "anyio.run(try_all)\n"
    )
    command = [find_bwrap(), "--bind", "/", "/", "--dev", "/dev", *cache, "--", sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, str(tmp_path), *requirements], capture_output=True, text=True, check=True, cwd=root
    )
    return done.stdout.splitlines()


async def test_read_only_cache_serves_what_is_in_it_and_says_what_it_cannot(
    tmp_path: Path, wheels: Path, require: Any
) -> None:
    require("jail")
    folder = await install(make_store(tmp_path), "plain")
    os.utime(folder / USED, (0, 0))
    cache = str(tmp_path / "cache")
    known, other = install_apart(tmp_path, ["--ro-bind", cache, cache], "plain", "plain<2")
    assert known == folder.name
    assert "--cache" in other


async def test_full_disk_is_said_plainly_and_leaves_nothing_half(tmp_path: Path, wheels: Path, require: Any) -> None:
    require("jail")
    make_wheel(wheels, "large", "1.0", megabytes=8)
    (tmp_path / "cache").mkdir()
    cache = ["--size", str(4 << 20), "--tmpfs", str(tmp_path / "cache")]
    large, small = install_apart(tmp_path, cache, "large", "plain")
    assert large == f"{uv_wheels.NO_SPACE} 0"
    assert small == (await make_store(tmp_path).resolve(("plain",))).key


async def test_index_that_does_not_answer_is_the_operators_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "uv.toml"
    settings.write_text(f'index-url = "http://user:secret@127.0.0.1:9/"\ncache-dir = "{tmp_path / "uv-cache"}"\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(settings))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(SandboxUnavailable) as raised:
        await make_store(tmp_path).resolve(("plain",))
    assert "plain" in str(raised.value)
    assert "127.0.0.1" not in str(raised.value)
    assert "secret" not in str(raised.value)


async def test_install_that_takes_too_long_is_stopped(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path)
    resolved = await store.resolve(("plain",))
    monkeypatch.setattr(uv_wheels, "INSTALL_SECONDS", 0.0)
    with pytest.raises(SandboxUnavailable, match="took over"):
        await store.install(resolved)
    assert sets_of(store) == []
