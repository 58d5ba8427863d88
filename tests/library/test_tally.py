"""What counts as used, reused and stale."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.tally import find_stale, tally_actions
from dynasaur_mcp.types import Ending, Usage
from tests.library.conftest import put, write_source


def began(seconds: float) -> str:
    """Id of a session that began so long from now."""
    return f"{(datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()}/0badcafe"


def call(store: FileStore, session: str, ending: Ending = Ending.RETURNED, version: int = 1, took: float = 0.1) -> None:
    store.record_call("add", version, principal="ann", ending=ending, seconds=took, session=session)


def test_reuse_is_what_returned_in_sessions_that_began_after_the_definition(store: FileStore) -> None:
    earlier = began(-1)
    put(store, write_source("add"))
    later = began(+1)
    for session in (earlier, "", later, later):
        call(store, session)
    call(store, later, Ending.RAISED)
    store.record_imports({"add": 1}, session=later)
    store.record_imports({"add": 1}, session=earlier)
    assert store.usages()["add"] == Usage("ann", imports=2, reuse=3, p50_seconds=0.1)


def test_whoever_replaces_an_action_does_not_reuse_it_by_trying_the_new_version(store: FileStore) -> None:
    put(store, write_source("add"))
    session = began(0)
    call(store, session)
    put(store, write_source("add", "Second."), 1, author="bob")
    call(store, session, version=2)
    usage = store.usages()["add"]
    assert (usage.maker, usage.reuse) == ("ann", 1)


def test_the_median_is_of_the_calls_that_returned(store: FileStore) -> None:
    put(store, write_source("add"))
    put(store, write_source("sub"))
    for took in (0.3, 0.1, 9.0):
        call(store, "", took=took)
    call(store, "", Ending.TIMEOUT, took=30.0)
    assert store.usages()["add"].p50_seconds == 0.3
    assert store.usages()["sub"] == Usage("ann")


def test_saved_is_the_source_for_each_reuse(store: FileStore) -> None:
    entry = put(store, write_source("add"))
    for _ in range(3):
        call(store, began(1))
    (tally,) = tally_actions(store.entries(), store.usages())
    assert tally.tokens_saved == 3 * (len(entry.action.source) // 4)
    assert tally.success_rate == 1.0


def test_depth_is_the_longest_way_down_and_ends_in_a_circle(store: FileStore) -> None:
    put(store, write_source("low"))
    put(store, write_source("mid", uses="low"))
    put(store, write_source("top", uses="low, mid"))
    put(store, write_source("gone", uses="deleted"))
    put(store, write_source("ring_a", uses="ring_b"))
    put(store, write_source("ring_b", uses="ring_a"))
    put(store, write_source("self_made", uses="self_made"))
    depths = {tally.entry.name: tally.depth for tally in tally_actions(store.entries(), {})}
    assert sorted((depths.pop("ring_a"), depths.pop("ring_b"))) == [0, 1]
    assert depths == {"low": 0, "mid": 1, "top": 2, "gone": 0, "self_made": 0}


def test_a_chain_of_thousands_is_measured(store: FileStore) -> None:
    from dataclasses import replace

    one = put(store, write_source("a0"))
    chain = [
        replace(one, action=replace(one.action, name=f"a{number}", uses=(f"a{number + 1}",))) for number in range(5000)
    ]
    assert tally_actions(chain, {})[0].depth == 4999


def test_stale_is_what_was_neither_used_nor_defined_lately(store: FileStore) -> None:
    for name in ("called", "imported", "below", "idle"):
        put(store, write_source(name))
    now = datetime.now(UTC)
    assert find_stale(store.entries(), now, 30) == []
    assert len(find_stale(store.entries(), now + timedelta(days=31), 30)) == 4
    for name in ("called", "imported", "below"):
        assert store.get(name).used_at is None
    store.record_call("called", 1, principal="ann", ending=Ending.RAISED, seconds=0.1, session="s", uses=["below"])
    store.record_imports({"imported": 1}, session="s")
    since = datetime.now(UTC)
    idle = store.get("idle")
    assert idle.defined_at < (store.get("below").used_at or since)
    between = idle.defined_at + timedelta(microseconds=1)
    assert [entry.name for entry in find_stale(store.entries(), between + timedelta(days=30), 30)][-1] == "idle"
