"""What `manage_action` does to actions and their versions, with a real jail for their tests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from dynasaur_mcp.app import choose_sandbox
from dynasaur_mcp.errors import ActionError, ActionNotFound, ArgumentsInvalid
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.manage import manage_action
from dynasaur_mcp.sandbox.pool import open_pool
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.settings import read_settings
from dynasaur_mcp.types import Ending, LibraryChanged, Status, Tests
from tests.library.conftest import put, write_source

pytestmark = pytest.mark.anyio

Manage = Callable[..., Awaitable[str]]


@pytest.fixture
def changes() -> list[LibraryChanged]:
    return []


@pytest.fixture
async def manage(store: FileStore, changes: list[LibraryChanged], tmp_path: Path) -> AsyncIterator[Manage]:
    settings = read_settings(sandbox="jail", library=tmp_path, cache=tmp_path / "cache")

    async def changed(change: LibraryChanged) -> None:
        changes.append(change)

    presence = Presence(settings.cache / "servers")
    with contextlib.closing(Index(store, None, None)) as index:
        async with open_pool(lambda: choose_sandbox(settings, presence), settings.limits(), warm_workers=0) as pool:

            async def manage(name: str, op: str, version: int | None = None, require_approval: bool = False) -> str:
                return await manage_action(
                    name,
                    op,
                    version=version,
                    principal="bob",
                    store=store,
                    index=index,
                    pool=pool,
                    changed=changed,
                    require_approval=require_approval,
                )

            yield manage


async def test_show_gives_the_source_and_what_is_known(store: FileStore, manage: Manage) -> None:
    put(store, write_source("low"))
    put(store, "# /// script\n# dependencies = ['pandas']\n# ///\n" + write_source("add", uses="low"))
    text = await manage("add", "show")
    for part in ("add v1 · active · 1/1 tests · by ann", "never called", "needs: pandas", "uses: low", "def add("):
        assert part in text


async def test_show_of_an_old_version_says_that_it_is_superseded(store: FileStore, manage: Manage) -> None:
    put(store, write_source("add"))
    put(store, write_source("add", "Second."), 1)
    text = await manage("add", "show", 1)
    assert "add v1 · superseded" in text
    assert "Add one." in text


async def test_history_lists_versions_newest_first_also_of_a_deleted_action(store: FileStore, manage: Manage) -> None:
    put(store, write_source("add"))
    put(store, write_source("add", "Second."), 1, tests=Tests(1, ("it failed",)), status=Status.DRAFT)
    first, second = (await manage("add", "history")).splitlines()
    assert first.startswith("add v2 · draft · 1/2 tests")
    assert second.startswith("add v1 · superseded")
    await manage("add", "delete")
    assert "it was deleted. manage_action(name='add', op='rollback', version=2)" in await manage("add", "history")


async def test_diff_is_to_the_version_before_or_to_the_one_given(store: FileStore, manage: Manage) -> None:
    put(store, write_source("add"))
    assert "one version only" in await manage("add", "diff")
    put(store, write_source("add", "Second."), 1)
    put(store, write_source("add", "Third."), 2)
    assert '-    """Second.' in await manage("add", "diff")
    text = await manage("add", "diff", 1)
    assert '-    """Add one.' in text
    assert '+    """Third.' in text


async def test_each_change_is_announced_once(store: FileStore, manage: Manage, changes: list[LibraryChanged]) -> None:
    put(store, write_source("add"))
    put(store, write_source("add", "Second."), 1)
    for op in ("pin", "unpin", "disable", "enable", "delete"):
        await manage("add", op)
        assert changes.pop() == LibraryChanged(store.revision, ("add",))
        assert changes == []
    assert "add v3 · active" in await manage("add", "rollback", 1)
    assert len(changes) == 1
    await manage("add", "show")
    await manage("add", "history")
    assert len(changes) == 1


async def test_enable_gives_back_what_the_tests_earned(store: FileStore, manage: Manage) -> None:
    put(store, write_source("tested"))
    put(store, write_source("failing"), tests=Tests(1, ("no",)), status=Status.DRAFT)
    for name in ("tested", "failing"):
        await manage(name, "disable")
        await manage(name, "enable")
    assert (store.get("tested").status, store.get("failing").status) == (Status.ACTIVE, Status.DRAFT)
    with pytest.raises(ActionError, match="is not disabled"):
        await manage("tested", "enable")


async def test_nothing_becomes_active_by_itself_where_a_person_has_to_approve(store: FileStore, manage: Manage) -> None:
    put(store, write_source("add"))
    await manage("add", "disable")
    await manage("add", "enable", require_approval=True)
    assert store.get("add").status is Status.DRAFT
    # Neither by way of an old version: whether anyone approved that one is no longer known.
    await manage("add", "disable")
    put(store, write_source("add", "Second."), 1, status=Status.DRAFT)
    await manage("add", "rollback", 1, require_approval=True)
    assert store.get("add").status is Status.DRAFT


async def test_a_disabled_version_that_comes_back_by_hand_is_checked_as_if_new(store: FileStore, folder: Path) -> None:
    put(store, write_source("add"), status=Status.DRAFT)
    store.set_status("add", Status.DISABLED)
    put(store, write_source("add", "Second."), 1)
    (folder / "add.py").write_text(write_source("add"))
    store.refresh()
    entry = store.get("add")
    assert (entry.version, entry.status, entry.schemas, entry.tests) == (3, Status.DRAFT, None, Tests())


async def test_deleting_or_disabling_names_those_who_use_it(store: FileStore, manage: Manage) -> None:
    put(store, write_source("low"))
    put(store, write_source("top", uses="low"))
    assert "will fail now: top" in await manage("low", "disable")
    assert "will fail now: top" in await manage("low", "delete")


async def test_going_back_without_a_version_brings_back_what_was_deleted(store: FileStore, manage: Manage) -> None:
    put(store, write_source("add"))
    put(store, write_source("add", "Second."), 1)
    await manage("add", "pin")
    await manage("add", "delete")
    for op in ("show", "pin", "delete", "test"):
        with pytest.raises(ActionNotFound, match=r"deleted.*version=2\) brings it back"):
            await manage("add", op)
    assert "Its source is that of v2" in await manage("add", "rollback")
    entry = store.get("add")
    assert (entry.version, entry.status, entry.pinned) == (3, Status.ACTIVE, True)
    assert entry.action.docstring.startswith("Second.")


async def test_a_broken_file_is_left_as_it_is_until_a_person_removed_it(
    store: FileStore, manage: Manage, folder: Path
) -> None:
    put(store, write_source("add"))
    (folder / "add.py").write_text("def add(:")
    store.refresh()
    assert "is no action now" in await manage("add", "history")
    with pytest.raises(ActionError, match="ask a person"):
        await manage("add", "rollback")
    assert (folder / "add.py").read_text() == "def add(:"
    (folder / "add.py").unlink()
    assert "add v2" in await manage("add", "rollback")


async def test_show_says_what_to_do_about_an_action_whose_calls_fail(store: FileStore, manage: Manage) -> None:
    put(store, write_source("add"))
    put(store, write_source("add", "Second."), 1)
    for _ in range(5):
        store.record_call("add", 2, principal="ann", ending=Ending.RAISED, seconds=0.1)
    text = await manage("add", "show")
    assert "5 of its last 5 calls failed. Mend it (define_action replaces='add'), go back" in text
    assert "last used" in text
    assert "of its last" not in await manage("add", "show", 1)
    await manage("add", "rollback", 1)
    assert "of its last" not in await manage("add", "show")


async def test_wrong_requests_say_what_to_do(store: FileStore, manage: Manage) -> None:
    put(store, write_source("add"))
    with pytest.raises(ActionNotFound, match="Did you mean 'add'"):
        await manage("ad", "show")
    with pytest.raises(ArgumentsInvalid, match="to go back to: 1"):
        await manage("add", "rollback")
    with pytest.raises(ArgumentsInvalid, match="leave `version` out"):
        await manage("add", "pin", 1)
    with pytest.raises(ArgumentsInvalid, match="no op 'frob'"):
        await manage("add", "frob")
    with pytest.raises(ActionError, match="no version 5"):
        await manage("add", "show", 5)


async def test_test_runs_in_a_fresh_worker_and_makes_a_draft_active(
    store: FileStore, manage: Manage, require: Callable[[str], None]
) -> None:
    require("jail")
    put(store, write_source("low"))
    put(store, write_source("top", uses="low", body="low(x)"), tests=Tests(), schemas=None, status=Status.DRAFT)
    assert "top v1 · active · 1/1 tests" in await manage("top", "test")
    entry = store.get("top")
    assert entry.schemas is not None
    assert entry.tests == Tests(1)


async def test_a_failing_test_is_shown_and_kept(
    store: FileStore, manage: Manage, require: Callable[[str], None]
) -> None:
    require("jail")
    put(store, write_source("add", body="x + 2"))
    text = await manage("add", "test")
    assert "0/1 tests" in text
    assert "failed:" in text
    assert store.get("add").tests.failures
