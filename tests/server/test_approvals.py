"""A person is asked for approval through the client: only that client's answer counts, and only for what was shown."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client._memory import InMemoryTransport
from mcp.shared.message import SessionMessage
from mcp_types import (
    INTERNAL_ERROR,
    CallToolResult,
    ElicitResult,
    ErrorData,
    InputRequiredResult,
    TextContent,
    jsonrpc_message_adapter,
)

from dynasaur_mcp.library.audit import Deed
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.server.scopes import ALL_SCOPES, APPROVE
from dynasaur_mcp.types import Status, Tests

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
Serve = Callable[..., Any]
Keep = Callable[..., Any]
ENABLE = {"name": "add", "op": "enable"}
YES = ElicitResult(action="accept", content={"approve": True})


class Person:
    """Who sits at a client, and gives the answers in turn."""

    def __init__(self, *answers: ElicitResult | ErrorData, meanwhile: Callable[[], Awaitable[None]] | None = None):
        self.answers = list(answers)
        self.meanwhile = meanwhile
        self.questions: list[str] = []

    async def answer(self, _: Any, params: Any) -> ElicitResult | ErrorData:
        self.questions.append(params.message)
        if self.meanwhile:
            await self.meanwhile()
        return self.answers.pop(0)


def connect(server: Any, era: str, person: Person | None) -> Client:
    return Client(InMemoryTransport(server), mode=era, elicitation_callback=person.answer if person else None)


async def manage(client: Client, **arguments: Any) -> str:
    result = await client.call_tool("manage_action", arguments)
    assert isinstance(result, CallToolResult)
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def approvals(store: FileStore) -> list[tuple[str, int, str, str]]:
    records = store.records(deeds=[Deed.APPROVE], limit=10)
    return [(one.name, one.version, one.principal, one.note) for one in records]


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


@ERAS
@pytest.mark.parametrize(
    "answer",
    [
        ElicitResult(action="cancel"),
        ElicitResult(action="accept"),
        ElicitResult(action="accept", content={"approve": "true"}),
        ElicitResult(action="accept", content={"yes": True}),
    ],
)
async def test_what_is_no_answer_leaves_it_waiting(
    serve: Serve, keep: Keep, store: FileStore, era: str, answer: ElicitResult
) -> None:
    keep("add", status=Status.DISABLED)
    person = Person(answer, YES)
    async with serve(require_approval=True) as (server, _), connect(server, era, person) as client:
        said = await manage(client, **ENABLE)
        assert "add v1 · draft" in said
        assert "approved" not in said
        assert approvals(store) == []
        await manage(client, name="add", op="disable")
        assert "Your user approved v1" in await manage(client, **ENABLE)


async def test_a_client_that_fails_to_ask_leaves_it_waiting(serve: Serve, keep: Keep, store: FileStore) -> None:
    keep("add", status=Status.DISABLED)
    person = Person(ErrorData(code=INTERNAL_ERROR, message="no window"))
    async with serve(require_approval=True) as (server, _), connect(server, "legacy", person) as client:
        assert "add v1 · draft" in await manage(client, **ENABLE)
    assert (len(person.questions), approvals(store)) == (1, [])


@pytest.mark.parametrize("seconds", [0.05])
async def test_a_person_who_does_not_answer_in_time_leaves_it_waiting(
    serve: Serve, keep: Keep, store: FileStore, seconds: float
) -> None:
    keep("add", status=Status.DISABLED)
    person = Person(YES, meanwhile=anyio.sleep_forever)
    async with (
        serve(require_approval=True, wait_seconds=seconds) as (server, _),
        connect(server, "legacy", person) as client,
    ):
        assert "add v1 · draft" in await manage(client, **ENABLE)
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
async def test_a_call_cancelled_while_its_person_reads_leaves_it_waiting(
    serve: Serve, keep: Keep, store: FileStore, era: str
) -> None:
    keep("add", status=Status.DISABLED)
    async with serve(require_approval=True) as (server, _):
        with anyio.CancelScope() as scope:

            async def leave() -> None:
                scope.cancel()

            person = Person(YES, meanwhile=leave)
            async with connect(server, era, person) as client:
                await manage(client, **ENABLE)
        assert scope.cancelled_caught
        async with connect(server, era, None) as client:
            assert "add v1 · draft" in await manage(client, name="add", op="history")
    assert approvals(store) == []


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


async def test_an_answer_counts_once_and_only_to_a_question_that_was_put(
    serve: Serve, keep: Keep, store: FileStore
) -> None:
    keep("add", status=Status.DISABLED)
    who = ["ada"]
    async with (
        serve(require_approval=True, principal_of=lambda _: who[0]) as (server, _),
        connect(server, "2026-07-28", Person()) as client,
    ):

        async def ask(state: str | None = None) -> Any:
            responses: Any = {"approve": YES} if state is not None else None
            return await client.session.call_tool(
                "manage_action", ENABLE, input_responses=responses, request_state=state, allow_input_required=True
            )

        def status() -> Status:
            return store.get("add").status

        question = await ask()
        assert isinstance(question, InputRequiredResult)
        state = question.request_state
        for wrong in ("", "x", f"{state}x"):
            assert (await ask(wrong)).is_error, wrong
        who[0] = "bob"
        assert (await ask(state)).is_error
        assert status() is Status.DRAFT
        who[0] = "ada"
        assert not (await ask(state)).is_error
        assert (status(), approvals(store)) == (Status.ACTIVE, [("add", 1, "ada", "active, asked through the client")])
        store.set_status("add", Status.DRAFT)
        assert (await ask(state)).is_error
        assert status() is Status.DRAFT
        for name in ("inputResponses", "input_responses", "requestState", "request_state", "_meta", "approve"):
            await manage(client, **ENABLE, **{name: state if "tate" in name else {"approve": YES.model_dump()}})
            assert status() is Status.DRAFT, name


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


@pytest.mark.parametrize("result", [{}, {"action": "maybe"}, {"action": "accept", "content": [True]}, {"action": None}])
async def test_a_malformed_answer_of_a_client_leaves_it_waiting(
    serve: Serve, keep: Keep, store: FileStore, result: dict[str, Any]
) -> None:
    keep("add", status=Status.DISABLED)
    capabilities = {"elicitation": {}}
    hello = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": {"name": "x", "version": "1"}}
    params = {"name": "manage_action", "arguments": ENABLE}
    async with serve(require_approval=True) as (server, _), InMemoryTransport(server) as (read, write):

        async def send(**message: Any) -> None:
            await write.send(SessionMessage(jsonrpc_message_adapter.validate_python({"jsonrpc": "2.0", **message})))

        async def receive(key: str) -> dict[str, Any]:
            while True:
                received = await read.receive()
                assert isinstance(received, SessionMessage)
                message: dict[str, Any] = received.message.model_dump(by_alias=True, exclude_none=True)
                if key in message and "id" in message:
                    return message

        await send(id=1, method="initialize", params=hello)
        await receive("result")
        await send(method="notifications/initialized")
        await send(id=2, method="tools/call", params=params)
        question = await receive("method")
        assert question["method"] == "elicitation/create"
        await send(id=question["id"], result=result)
        answer = await receive("result")
    assert "add v1 · draft" in answer["result"]["content"][0]["text"]
    assert (store.get("add").status, approvals(store)) == (Status.DRAFT, [])
