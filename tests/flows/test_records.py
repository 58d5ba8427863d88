"""What is counted over several servers, and shown on the command line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import OpenClient, environment, run_command

pytestmark = pytest.mark.anyio

HALVE = '''
def halve(x: int) -> float:
    """Halve a number.

    >>> halve(4)
    2.0
    """
    return x / 2 if x else 1 / 0
'''
TOP = '''
from actions import halve

def quarter(x: int) -> float:
    """Take a quarter of a number.

    >>> quarter(8)
    2.0
    """
    return halve(int(halve(x)))
'''


@pytest.fixture
def sandbox(require: Any) -> str:
    require("jail")
    return "jail"


def run(library: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_command(environment(library, "jail"), *words)


def read_stats(library: Path) -> dict[str, Any]:
    done = run(library, "stats", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def test_reuse_is_counted_over_servers_and_sessions(open_client: OpenClient, library: Path, sandbox: str) -> None:
    async with open_client(sandbox) as model:
        for source in (HALVE, TOP):
            await model.text("define_action", source=source)
        await model.text("halve", x=4)
        await model.text("run_python", code="from actions import halve; halve(2)")
    assert read_stats(library)["total"]["reuse"] == 0, "the session in which it was defined"
    async with open_client(sandbox) as model:
        await model.text("halve", x=4)
        await model.text("quarter", x=8)
        await model.text("run_python", code="from actions import halve; halve(2)")
        await model.error("halve", x=0)
        await model.error("run_python", code="from actions import halve; halve(0)")
        await model.text("define_action", source=HALVE.replace("x / 2 if", "0.5 * x if"), replaces="halve")
        await model.text("halve", x=6)
        await model.text("manage_action", name="default", op="close_session")
        await model.text("halve", x=6)
    found = read_stats(library)
    halve, quarter = found["actions"]
    assert (halve["name"], halve["version"], halve["maker"], halve["depth"]) == ("halve", 2, "local", 0)
    assert (halve["calls"], halve["imports"], halve["reuse"]) == (5, 2, 3)
    assert halve["success_rate"] == 0.8
    assert halve["tokens_saved"] == 3 * halve["tokens"]
    assert halve["p50_seconds"] > 0
    assert (quarter["depth"], quarter["reuse"], quarter["calls"]) == (1, 1, 1)
    assert found["total"] == {
        "actions": 2,
        "reused": 2,
        "calls": 6,
        "imports": 2,
        "reuse": 4,
        "tokens_saved": halve["tokens_saved"] + quarter["tokens_saved"],
    }
    table = run(library, "stats")
    assert table.stdout.splitlines()[0].split("\t")[:5] == ["halve", "local", "v2", "5", "80%"]
    assert "2 actions, 2 of them reused; 6 calls and 2 imports, 4 of these reuses" in table.stderr


async def test_an_action_that_fails_most_of_its_calls_says_so_where_it_is_met(
    open_client: OpenClient, sandbox: str
) -> None:
    async with open_client(sandbox) as model:
        await model.text("define_action", source=HALVE)
        for _ in range(4):
            assert "of its last" not in await model.error("halve", x=0)
        assert "5 of its last 5 calls failed. Mend it" in await model.error("halve", x=0)
        assert "5 of its last 5 calls failed. Mend it" in await model.text("search_actions", query="halve a number")
        assert "5 of its last 5 calls failed. Mend it" in await model.text("manage_action", name="halve", op="show")
        for _ in range(5):
            await model.text("halve", x=4)
        assert "of its last" not in await model.error("manage_action", name="halve", op="rollback")
        assert "of its last" not in await model.text("search_actions", query="halve a number")


async def test_deleted_and_earlier_versions_come_back_by_command(
    open_client: OpenClient, library: Path, sandbox: str
) -> None:
    async with open_client(sandbox) as model:
        await model.text("define_action", source=HALVE)
        await model.text("define_action", source=HALVE.replace("Halve a", "Divide a"), replaces="halve")
        await model.text("manage_action", name="halve", op="delete")
        message = await model.error("halve", x=4)
        assert "it was deleted. manage_action(name='halve', op='rollback', version=2) brings it back" in message
    told = run(library, "actions", "show", "halve").stderr
    assert "it was deleted. `dynasaur-mcp actions restore halve` brings it back." in told
    assert run(library, "actions", "restore").stdout.splitlines() == ["halve\tv2\t0\tDivide a number."]
    assert "halve v3 is what v2 was: active." in run(library, "actions", "restore", "halve").stdout
    assert run(library, "actions", "restore").stdout == ""
    again = run(library, "actions", "restore", "halve")
    assert (again.returncode, again.stdout) == (1, "")
    assert "'halve' is not deleted: it is at version 3. There is --version 1, --version 2." in again.stderr
    assert "halve v4 is what v1 was" in run(library, "actions", "restore", "halve", "--version", "1").stdout
    told = run(library, "actions", "restore", "other").stderr
    assert told == "dynasaur-mcp: No action named 'other'. `dynasaur-mcp actions list` shows what there is.\n"


def test_stale_lists_what_is_not_used(library: Path) -> None:
    from contextlib import closing

    from dynasaur_mcp.library.filestore import FileStore
    from tests.library.conftest import put, write_source

    with closing(FileStore(library)) as store:
        put(store, write_source("idle"))
    fresh = run(library, "actions", "stale")
    assert (fresh.stdout, fresh.returncode) == ("", 0)
    assert "within 30 days" in fresh.stderr
    (row,) = run(library, "actions", "stale", "--days", "0").stdout.splitlines()
    assert row.split("\t")[:5] == ["idle", "v1", "active", "never", "0"]
    empty = run(library.parent / "empty", "stats")
    assert (empty.stdout, empty.returncode) == ("", 0)


async def test_no_way_leads_past_the_person_who_approves(open_client: OpenClient, library: Path, sandbox: str) -> None:
    second = HALVE.replace("Halve a", "Divide a")

    async with open_client(sandbox, require_approval=True) as model:

        async def manage(op: str, **more: Any) -> str:
            return await model.text("manage_action", name="halve", op=op, **more)

        assert "a draft until a person approves it" in await model.text("define_action", source=HALVE)
        assert "a draft until a person approves it" in await model.text("define_action", source=HALVE)
        assert "v2" in await model.text("define_action", source=second, replaces="halve")
        for op in ("test", "pin", "disable", "enable", "delete", "rollback"):
            await manage(op)
            assert "active" not in (await manage("history")).splitlines()[0], op
        await manage("rollback", version=1)
        assert "halve" not in await model.tools()
        assert "halve v4 is active" in run(library, "actions", "approve", "halve@4").stdout
        while "halve" not in await model.tools():
            pass
        assert "a draft until" in await model.text("define_action", source=second, replaces="halve")
        assert "halve" not in await model.tools()
        # A person has looked at this one.
        assert "v6 · active" in await manage("rollback", version=4)
