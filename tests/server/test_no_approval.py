"""What is no approval: no answer, or one that is late, malformed, of another principal, or given twice."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from mcp.client._memory import InMemoryTransport
from mcp.shared.message import SessionMessage
from mcp_types import INTERNAL_ERROR, ElicitResult, ErrorData, InputRequiredResult, jsonrpc_message_adapter

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import Status

from .conftest import ERAS, Keep, Serve
from .person import ENABLE, YES, Person, approvals, connect, manage

pytestmark = pytest.mark.anyio


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
