"""What is larger than clients take in one message is told in a way that each of them takes, and read in parts."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from mcp_types import TextResourceContents

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.types import META_TOOLS, Schemas, Status, Tests
from tests.flows.conftest import Model, text_of

from .conftest import Connect

pytestmark = pytest.mark.anyio

MANY = '''
def many(count: int, text: str) -> {}:
    """Repeat a text.

    >>> len(many(2, "ab"))
    {}
    """
    return {}
'''
AS_TEXT = MANY.format("str", 4, "text * count")
AS_LIST = MANY.format("list[str]", 2, "[text] * count")
AS_OBJECT = MANY.format("dict[str, str]", 2, "{str(number): text for number in range(count)}")


async def ignore(*_: object) -> None:
    pass


async def read_whole(model: Model, uri: str) -> str:
    """A resource, part by part."""
    texts = []
    offset: int | None = 0
    while offset is not None:
        (part,) = (await model.client.read_resource(f"{uri}?offset={offset}")).contents
        assert isinstance(part, TextResourceContents)
        texts.append(part.text)
        offset = (part.meta or {}).get("dynasaur/next_offset")
    return "".join(texts)


@pytest.mark.parametrize(
    ("source", "count", "text"),
    [
        (AS_TEXT, 1 << 20, "x"),
        (AS_TEXT, 300_000, "你"),
        (AS_TEXT, 150_000, "🦖"),
        (AS_TEXT, 300_000, "\x01"),
        (AS_LIST, 400_000, "y"),
        (AS_OBJECT, 1000, "z" * 1500),
    ],
    ids=["text", "han", "pairs", "escapes", "list", "object"],
)
async def test_value_of_an_action_too_large_for_a_message_is_read_as_a_resource(
    connect: Connect, source: str, count: int, text: str
) -> None:
    arguments = {"count": count, "text": text}
    async with connect() as model:
        await model.text("define_action", source=source)
        for tool, given in (("many", arguments), ("execute_action", {"name": "many", "arguments": arguments})):
            # With progress, so that HTTP answers by a stream in either era.
            result = await model.client.call_tool(tool, given, progress_callback=ignore)
            said = text_of(result)
            assert result.structured_content is None
            assert result.is_error == (tool == "many")
            assert ("'many' returned, but its value does not fit" in said) == (tool == "many")
            assert len(said.encode()) < 60_000
            (uri,) = set(re.findall(r"dynasaur://runs/[0-9a-f]{8}/output", said))
            whole = (await read_whole(model, uri)).removeprefix("Value:\n")
            if source == AS_TEXT:
                assert whole == text.encode("unicode_escape").decode() * count if text < " " else text * count
            else:
                value = json.loads(whole)
                assert list(value.values() if isinstance(value, dict) else value) == [text] * count
        assert "2 of 2 calls succeeded" in await model.text("manage_action", name="many", op="show")
        assert (await model.call("many", count=2, text=text[:9])).structured_content


async def test_value_larger_than_a_worker_carries_is_an_error_that_says_what_to_do(connect: Connect) -> None:
    async with connect() as model:
        await model.text("define_action", source=AS_TEXT)
        for mebibytes in (2, 8, 64):
            said = await model.error("many", count=mebibytes << 20, text="x")
            assert "can be carried back. Write it to a file in the workspace and return the path." in said
        assert (await model.call("many", count=900_000, text="x")).structured_content == {"result": "x" * 900_000}


async def test_texts_of_any_characters_come_in_parts_that_fit(connect: Connect) -> None:
    texts = {"escapes": "\x01", "quotes": '"', "lines": "\n", "han": "你", "pairs": "🦖"}
    code = f"for name, text in {texts!r}.items():\n    open(name, 'w').write(text * 400_000)\nprint('🦖' * 200_000)"
    async with connect() as model:
        said = await model.text("run_python", code=code)
        (uri,) = set(re.findall(r"dynasaur://runs/[0-9a-f]{8}/output", said))
        assert await read_whole(model, uri) == "Printed:\n" + "🦖" * 200_000
        for name, text in texts.items():
            assert await read_whole(model, f"dynasaur://sessions/default/files/{name}") == text * 400_000


@pytest.mark.parametrize("letter", ["x", "🦖"], ids=["text", "pairs"])
async def test_page_of_tools_as_large_as_there_is_reaches_clients(connect: Connect, library: Path, letter: str) -> None:
    # As the stateless era over HTTP writes it: in ASCII.
    options = {"type": "string", "enum": [letter * (1_003_000 // (len(json.dumps(letter)) - 2))]}
    schema = {"type": "object", "properties": {}}
    with closing(FileStore(library)) as store:
        for name, properties in (
            ("large", {"option": options}),
            ("small", {"option": {"type": "string", "enum": ["y" * 5000]}}),
            ("too_large", {"one": options} | {"two": options}),
        ):
            store.put(
                read_action(f'def {name}(option: str) -> dict:\n    """Take one."""\n    return {{}}\n'),
                author="ada",
                tests=Tests(1),
                schemas=Schemas({**schema, "properties": properties}, schema, wraps_result=False),
                status=Status.ACTIVE,
                expected_version=0,
            )
    async with connect(expose="all") as model:
        for _ in range(2):
            page = await model.client.list_tools(cache_mode="bypass")
            assert [tool.name for tool in page.tools] == [*META_TOOLS, "large"]
            assert page.tools[-1].input_schema["properties"] == {"option": options}
            rest = await model.client.list_tools(cursor=page.next_cursor, cache_mode="bypass")
            assert ([tool.name for tool in rest.tools], rest.next_cursor) == (["small"], None)
