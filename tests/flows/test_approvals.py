"""Where a person has to approve, a definition asks the one at its client: over every transport, in both eras."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp_types import ElicitResult

from tests.web.conftest import start_server

from .conftest import Model, OpenClient
from .test_records import HALVE, run

pytestmark = pytest.mark.anyio
WAYS = pytest.mark.parametrize(
    ("transport", "era"),
    [("stdio", "legacy"), ("stdio", "2026-07-28"), ("http", "legacy"), ("http", "2026-07-28"), ("http", "sse")],
)
Connect = Callable[..., AbstractAsyncContextManager[Model]]


@pytest.fixture
def connect(open_client: OpenClient, library: Path, require: Callable[[str], None]) -> Connect:
    require("jail")

    @asynccontextmanager
    async def connect(transport: str, era: str, ask: Any) -> AsyncIterator[Model]:
        if transport == "stdio":
            async with open_client(mode=era, ask=ask, require_approval=True) as model:
                yield model
        else:
            with start_server(library, require_approval=True) as server:
                async with server.connect(era, ask=ask) as model:
                    yield model

    return connect


@WAYS
async def test_definition_is_a_tool_once_its_person_said_so(
    connect: Connect, library: Path, transport: str, era: str
) -> None:
    questions = []

    async def ask(_: Any, params: Any) -> ElicitResult:
        questions.append(params.message)
        agreed = len(questions) == 2
        return ElicitResult(action="accept", content={"approve": True}) if agreed else ElicitResult(action="decline")

    second = HALVE.replace("Halve a", "Divide a")
    async with connect(transport, era, ask) as model:
        said = await model.text("define_action", source=HALVE)
        assert "a draft until a person approves it" in said
        assert "Your user did not approve this version" in said
        assert "halve" not in await model.tools()
        said = await model.text("define_action", source=second, replaces="halve")
        assert "now a tool" in said
        assert "Your user approved v2." in said
        assert "halve" in await model.tools()
        assert (await model.call("halve", x=4)).structured_content == {"result": 2.0}
    assert "Halve a number." in questions[0]
    assert "'halve' v2" in questions[1]
    done = json.loads(run(library, "audit", "--json", "--kind", "approve").stdout)
    assert [(one["name"], one["version"], one["principal"], one["via"], one["note"]) for one in done] == [
        ("halve", 2, "local", "serve", "active, asked through the client")
    ]


async def test_of_several_principals_none_approves_for_the_others(
    library: Path, tmp_path: Path, require: Callable[[str], None]
) -> None:
    require("jail")
    tokens = tmp_path / "tokens"
    tokens.write_text("ada token-of-ada-0123456789\nbob token-of-bob-0123456789\n")

    async def ask(_: Any, params: Any) -> ElicitResult:
        raise AssertionError(params.message)

    with start_server(library, token="", token_file=tokens, require_approval=True) as server:
        async with server.connect("legacy", "token-of-ada-0123456789", ask=ask) as model:
            assert "a draft until a person approves it" in await model.text("define_action", source=HALVE)
    assert "halve v1 is active" in run(library, "actions", "approve", "halve@1").stdout
