"""Sets of packages that are kept: which go when there is no more room, which never, what a killed server left."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox import sets
from dynasaur_mcp.sandbox.packages import sweep_folder
from dynasaur_mcp.sandbox.sets import NOTE, STAGED, USED, HeldSets
from dynasaur_mcp.sandbox.wheels import Target

from .conftest import make_wheel
from .test_packages import ANY, install, make_store, sets_of

pytestmark = pytest.mark.anyio


@contextlib.contextmanager
def locked_elsewhere(folder: Path) -> Iterator[None]:
    """Another process makes a set there; it is killed at the end."""
    code = f"import fcntl, os; fcntl.flock(os.open({str(folder)!r}, 0), fcntl.LOCK_SH); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        yield
        other.kill()


async def test_half_a_set_left_by_a_killed_server_is_swept_and_one_in_the_making_is_not(
    tmp_path: Path, wheels: Path
) -> None:
    store = make_store(tmp_path)
    left, making = store.folder / f"{STAGED}left", store.folder / f"{STAGED}making"
    for folder in (left, making):
        folder.mkdir()
        os.utime(folder, (0, 0))
    with locked_elsewhere(making):
        key = (await install(store, "plain")).name
        assert sets_of(store) == sorted([making.name, key])
    sweep_folder(store.folder.parent, ANY.most_bytes)
    assert sets_of(store) == [key]


async def test_sets_used_least_recently_go_when_there_is_no_more_room(tmp_path: Path, wheels: Path) -> None:
    for name in ("first", "second", "third"):
        make_wheel(wheels, name, "1.0", megabytes=1)
    store = make_store(tmp_path, most_bytes=5 << 19)
    first, second = await install(store, "first"), await install(store, "second")
    os.utime(first / USED, (2000, 2000))
    os.utime(second / USED, (1000, 1000))
    third = await install(store, "third")
    assert sets_of(store) == sorted([first.name, third.name])


async def test_set_that_a_worker_uses_is_never_removed(tmp_path: Path, wheels: Path) -> None:
    store = make_store(tmp_path)
    used, unused = await install(store, "plain<2"), await install(store, "plain")
    worker = HeldSets()
    assert worker.hold(str(used))
    removed = sweep_folder(store.folder.parent, 0)
    assert sets_of(store) == [used.name]
    assert removed["sets"] == 1
    assert removed["bytes"] > 0
    worker.let_go()
    assert sweep_folder(store.folder.parent, 0)["left_bytes"] == 0
    assert not unused.exists()


async def test_set_held_alone_by_hostile_code_is_still_used_by_others(tmp_path: Path, wheels: Path) -> None:
    folder = await install(make_store(tmp_path), "plain")
    with sets._lock_alone(str(folder / NOTE)):
        assert HeldSets().hold(str(folder))


async def test_set_made_again_is_held_again(tmp_path: Path, wheels: Path) -> None:
    store, worker = make_store(tmp_path), HeldSets()
    folder = await install(store, "plain")
    assert worker.hold(str(folder))
    shutil.rmtree(folder)
    assert not worker.hold(str(folder))
    await install(store, "plain")
    assert worker.hold(str(folder))
    assert sweep_folder(store.folder.parent, 0)["sets"] == 0


async def test_set_larger_than_all_may_be_is_refused_and_leaves_nothing(tmp_path: Path, wheels: Path) -> None:
    make_wheel(wheels, "large", "1.0", megabytes=2)
    store = make_store(tmp_path, most_bytes=1 << 20)
    with pytest.raises(SandboxUnavailable, match="packages-bytes"):
        await install(store, "large")
    assert sets_of(store) == []


async def test_sets_of_an_interpreter_or_image_that_is_gone_are_removed(tmp_path: Path, wheels: Path) -> None:
    here, image = make_store(tmp_path), make_store(tmp_path, Target("3.13", "x86_64-manylinux_2_36"))
    for store in (here, image):
        await install(store, "plain")
    root = here.folder.parent
    assert sweep_folder(root, ANY.most_bytes)["sets"] == 0
    assert sweep_folder(root, ANY.most_bytes, {image.target.tag})["sets"] == 0
    assert sweep_folder(root, ANY.most_bytes, set())["sets"] == 1
    assert (len(sets_of(here)), sets_of(image)) == (1, [])
    (here.folder / "python").write_text(str(tmp_path / "python-that-was-removed"))
    assert sweep_folder(root, ANY.most_bytes)["sets"] == 1


def test_sets_that_unseen_users_may_use_are_left(tmp_path: Path) -> None:
    for name, used_at in (("old", 1000), ("new", 2000)):
        folder = tmp_path / "tag" / name
        folder.mkdir(parents=True)
        (folder / NOTE).write_text('{"bytes": 4096}')
        (folder / USED).touch()
        os.utime(folder / USED, (used_at, used_at))
    assert sets.sweep(str(tmp_path), 0, unseen_since=1500.0) == {"sets": 1, "bytes": 4096, "left_bytes": 4096}
    assert [path.name for path in (tmp_path / "tag").iterdir()] == ["new"]
