"""What happens in the library's folder while a server runs: taken in, checked once, told once."""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from dynasaur_mcp import follow
from dynasaur_mcp.app import choose_sandbox
from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.follow import Follower
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.sandbox.base import Sandbox
from dynasaur_mcp.sandbox.pool import open_pool
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.settings import read_settings
from dynasaur_mcp.types import LibraryChanged, Status
from tests.library.conftest import put, write_source

pytestmark = pytest.mark.anyio


class Place:
    """A follower of the test's library, where a sandbox can be started, or not."""

    def __init__(self) -> None:
        self.follower: Follower
        self.has_sandbox = True
        self.changes: list[LibraryChanged] = []

    async def changed(self, change: LibraryChanged) -> None:
        self.changes.append(change)

    @property
    def told(self) -> set[str]:
        return {name for change in self.changes for name in change.names}


@pytest.fixture
async def place(store: FileStore, tmp_path: Path) -> AsyncIterator[Place]:
    settings = read_settings(sandbox="jail", library=tmp_path, cache=tmp_path / "cache")
    place = Place()

    async def choose() -> Sandbox:
        if not place.has_sandbox:
            raise SandboxUnavailable("No sandbox here.")
        return await choose_sandbox(settings, Presence(settings.cache / "servers"))

    with contextlib.closing(Index(store, None, None)) as index:
        async with open_pool(choose, settings.limits(), warm_workers=0) as pool:
            place.follower = Follower(
                store=store, index=index, pool=pool, require_approval=False, changed=place.changed
            )
            yield place


async def test_found_file_is_checked_announced_and_then_left_alone(
    place: Place, store: FileStore, folder: Path, require: Callable[[str], None]
) -> None:
    require("jail")
    (folder / "add.py").write_text(write_source("add"))
    await place.follower.look()
    assert store.get("add").status is Status.ACTIVE
    assert {change.names for change in place.changes} == {("add",)}
    said = len(place.changes)
    await place.follower.look()
    assert len(place.changes) == said


async def test_file_that_came_before_what_it_uses_is_checked_again_when_that_is_there(
    place: Place, store: FileStore, folder: Path, require: Callable[[str], None]
) -> None:
    require("jail")
    (folder / "early.py").write_text(write_source("early", uses="late", body="late(x)"))
    await place.follower.look()
    entry = store.get("early")
    assert entry.status is Status.DRAFT
    assert "it uses 'late' from actions. No action named 'late'" in entry.tests.failures[0]
    (folder / "late.py").write_text(write_source("late"))
    await place.follower.look()
    assert (store.get("early").status, store.get("late").status) == (Status.ACTIVE, Status.ACTIVE)


async def test_without_a_sandbox_one_line_is_logged_and_the_check_is_made_up_for(
    place: Place,
    store: FileStore,
    folder: Path,
    require: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require("jail")
    monkeypatch.setattr(follow, "AGAIN_SECONDS", 0.0)
    place.has_sandbox = False
    for name in ("one", "two"):
        (folder / f"{name}.py").write_text(write_source(name))
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            await place.follower.look()
    assert [record.getMessage() for record in caplog.records] == ["No sandbox here."]
    place.has_sandbox = True
    await place.follower.look()
    assert [store.get(name).status for name in ("one", "two")] == [Status.ACTIVE, Status.ACTIVE]


async def test_broken_file_is_named_once_and_again_when_it_is_broken_in_another_way(
    place: Place, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        (folder / "broken.py").write_text("def (")
        await place.follower.look()
        await place.follower.look()
        assert [record.getMessage()[:10] for record in caplog.records] == ["broken.py "]
        (folder / "broken.py").write_text("x = 1  # no function at all")
        await place.follower.look()
    assert "no function named 'broken'" in caplog.records[1].getMessage()


async def test_folder_that_is_gone_is_said_once(place: Place, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    await place.follower.look()
    shutil.rmtree(folder)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await place.follower.look()
    assert len(caplog.records) == 1


async def test_action_disabled_while_it_is_checked_stays_disabled(store: FileStore) -> None:
    entry = put(store, write_source("add"), status=Status.DRAFT, schemas=None)
    store.set_status("add", Status.DISABLED)
    assert entry.schemas is None
    kept = store.record_check("add", 1, tests=entry.tests, schemas=None, status=Status.ACTIVE)
    assert kept.status is Status.DISABLED


async def test_changes_in_a_folder_too_large_to_look_at_often_are_told_without_a_look(
    place: Place, store: FileStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.has_sandbox = False
    for name in ("add", "gone"):
        (folder / f"{name}.py").write_text(write_source(name))
    store.look()
    looks: list[None] = []
    look = store.look
    monkeypatch.setattr(store, "look", lambda: looks.append(look()))
    monkeypatch.setattr(follow, "LOOK_SHARE", 1e-9)
    number = itertools.count(2)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(place.follower.follow)
            while not looks:
                await anyio.sleep(0.01)
            (folder / "new.py").mkdir()
            (folder / "bad.py").write_text("def bad(: broken")
            while not ({"add", "gone"} <= place.told and store.broken()):
                # Again and again: nothing tells when the watch has begun.
                (folder / "add.py").write_text(write_source("add", body=f"x + {next(number)}"))
                (folder / "bad.py").touch()
                (folder / "gone.py").touch()
                (folder / "gone.py").unlink()
                await anyio.sleep(0.3)
            tasks.cancel_scope.cancel()
    assert [each.file for each in store.broken()] == ["bad.py"]
    assert store.get("add").version > 1
    assert len(looks) == 1


async def test_folder_is_not_watched_because_a_look_waited_for_a_busy_processor(
    place: Place, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[None] = []
    look = store.look

    def wait_and_look() -> None:
        time.sleep(0.1)
        looks.append(look())

    monkeypatch.setattr(store, "look", wait_and_look)
    monkeypatch.setattr(store, "watch", lambda _: pytest.fail("it is watched"))
    monkeypatch.setattr(follow, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(follow, "LOOK_SHARE", 0.5)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(place.follower.follow)
            while len(looks) < 3:
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
