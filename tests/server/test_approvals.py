"""A person is asked for approval through the client: who is asked, for what, and what comes of a yes or a no."""

from __future__ import annotations

import logging

import pytest
from mcp_types import ElicitResult

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.server.scopes import ALL_SCOPES, APPROVE
from dynasaur_mcp.types import Status, Tests

from .conftest import ERAS, Keep, Serve
from .person import ENABLE, YES, Person, approvals, connect, manage

pytestmark = pytest.mark.anyio


@ERAS
@pytest.mark.parametrize("op", ["enable", "rollback"])
async def test_what_is_approved_is_a_tool_at_once_and_on_record(
    serve: Serve, keep: Keep, store: FileStore, era: str, op: str
) -> None:
    keep("add", status=Status.DISABLED if op == "enable" else Status.DRAFT)
    if op == "rollback":
        store.delete("add")
    person = Person(YES)
    async with serve(require_approval=True) as (server, _), connect(server, era, person) as client:
        said = await manage(client, name="add", op=op)
        assert "add" in [tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools]
    version = 1 if op == "enable" else 2
    assert f"add v{version} · active" in said
    assert f"Your user approved v{version}." in said
    assert approvals(store) == [("add", version, "local", "active, asked through the client")]
    (question,) = person.questions
    for text in (
        f"'add' v{version}",
        "add(first: int, second: int = 1) -> int",
        "Add two whole",
        "return first + second",
    ):
        assert text in question


@ERAS
@pytest.mark.parametrize(
    "answer", [ElicitResult(action="decline"), ElicitResult(action="accept", content={"approve": False})]
)
async def test_what_is_declined_stays_a_draft_and_is_not_asked_again(
    serve: Serve, keep: Keep, store: FileStore, era: str, answer: ElicitResult
) -> None:
    keep("add", status=Status.DISABLED)
    person = Person(answer)
    async with serve(require_approval=True) as (server, _), connect(server, era, person) as client:
        assert "did not approve this version" in await manage(client, **ENABLE)
        await manage(client, name="add", op="disable")
        assert "draft" in await manage(client, **ENABLE)
    assert len(person.questions) == 1
    assert store.get("add").status is Status.DRAFT
    assert approvals(store) == []


async def test_nobody_is_asked_by_a_call_that_has_used_up_its_time(serve: Serve, keep: Keep) -> None:
    keep("add", status=Status.DISABLED)
    person = Person(YES)
    async with (
        serve(require_approval=True, wait_seconds=0) as (server, _),
        connect(server, "legacy", person) as client,
    ):
        assert "add v1 · draft" in await manage(client, **ENABLE)
    assert person.questions == []


@ERAS
@pytest.mark.parametrize("why", ["cannot ask", "may not approve", "has no tests", "needs no approval"])
async def test_nobody_is_asked_where_it_is_of_no_use(
    serve: Serve, keep: Keep, store: FileStore, era: str, why: str
) -> None:
    keep("add", status=Status.DISABLED, **({"tests": Tests()} if why == "has no tests" else {}))
    scopes = ALL_SCOPES - {APPROVE} if why == "may not approve" else ALL_SCOPES
    person = Person(YES)
    async with (
        serve(require_approval=why != "needs no approval", scopes_of=lambda _: scopes) as (server, _),
        connect(server, era, None if why == "cannot ask" else person) as client,
    ):
        said = await manage(client, **ENABLE)
    assert ("active" if why == "needs no approval" else "draft") in said
    assert (person.questions, approvals(store)) == ([], [])


@ERAS
async def test_a_person_who_reads_holds_up_nobody(serve: Serve, keep: Keep, store: FileStore, era: str) -> None:
    keep("add", status=Status.DISABLED)
    keep("other")
    async with serve(require_approval=True) as (server, _), connect(server, era, None) as other:

        async def work() -> None:
            assert "pinned" in await manage(other, name="other", op="pin")
            assert "add v1 · draft" in await manage(other, name="add", op="history")

        async with connect(server, era, Person(YES, meanwhile=work)) as client:
            assert "Your user approved v1" in await manage(client, **ENABLE)
    assert store.get("other").pinned


@ERAS
async def test_what_changed_while_its_person_read_is_not_approved(
    serve: Serve, keep: Keep, store: FileStore, era: str
) -> None:
    keep("add", status=Status.DISABLED)

    async def change() -> None:
        keep(
            "add", store.get("add").action.source.replace("Add two", "Sum two"), expected_version=1, status=Status.DRAFT
        )

    person = Person(YES, meanwhile=change)
    async with serve(require_approval=True) as (server, _), connect(server, era, person) as client:
        assert "too late: 'add' has changed meanwhile" in await manage(client, **ENABLE)
    assert (store.get("add").status, approvals(store)) == (Status.DRAFT, [])


async def test_a_long_or_crafted_source_is_shown_as_what_it_is(
    serve: Serve, keep: Keep, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    lines = "\n".join(f"    # {number} \x1b[2K\u202e" for number in range(2000))
    source = f'def add(x: int) -> int:\n    """Add.\n\n    >>> add(1)\n    1\n    """\n{lines}\n    return x\n'
    keep("add", source, status=Status.DISABLED)
    person = Person(ElicitResult(action="cancel"))
    async with serve(require_approval=True) as (server, _), connect(server, "legacy", person) as client:
        await manage(client, **ENABLE)
    (question,) = person.questions
    assert "characters left out: read them first, by `dynasaur-mcp actions show add` …]" in question
    assert len(question) < 8000
    assert not [c for c in question if not c.isprintable() and c != "\n"]
