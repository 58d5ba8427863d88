"""Resources through a real client: full outputs of runs, files of sessions, sources of actions."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from mcp.client import Client
from mcp.client._memory import InMemoryTransport
from mcp.shared.exceptions import MCPError
from mcp_types import BlobResourceContents, CallToolResult, ResourceTemplateReference, TextResourceContents

from dynasaur_mcp import runs as runs_module

from .conftest import ERAS, Keep, OpenClient, Serve, text_of

pytestmark = pytest.mark.anyio


async def test_long_output_is_whole_in_its_resource(open_client: OpenClient) -> None:
    async with open_client(output_characters=500) as client:
        result = await client.call_tool("run_python", {"code": "for i in range(2000): print('line', i)"})
        text = text_of(result)
        assert len(text) < 1000
        uri = text.split("resource ")[1].split(" ")[0]
        (content,) = (await client.read_resource(uri)).contents
        assert isinstance(content, TextResourceContents)
        assert content.text.count("\n") >= 2000


async def test_kept_outputs_have_a_common_limit_and_the_oldest_goes_first(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "KEPT_CHARACTERS", 1500)

    def uri_of(result: CallToolResult) -> str:
        return text_of(result).split("resource ")[1].split(" ")[0]

    async with open_client(output_characters=500) as client:
        first = uri_of(await client.call_tool("run_python", {"code": "print('x' * 1000)"}))
        await client.read_resource(first)
        second = uri_of(await client.call_tool("run_python", {"code": "print('y' * 1000)"}))
        await client.read_resource(second)
        with pytest.raises(MCPError, match="old runs are forgotten"):
            await client.read_resource(first)


async def test_long_output_of_an_action_is_whole_in_its_resource(open_client: OpenClient) -> None:
    source = (
        'def many() -> list[int]:\n    """Many.\n\n    >>> many()[0]\n    0\n    """\n    return list(range(2000))\n'
    )
    async with open_client(output_characters=500) as client:
        assert not (await client.call_tool("define_action", {"source": source})).is_error
        text = text_of(await client.call_tool("execute_action", {"name": "many"}))
        assert len(text) < 1000
        (content,) = (await client.read_resource(text.split("resource ")[1].split(" ")[0])).contents
        assert isinstance(content, TextResourceContents)
        assert "1999" in content.text


@ERAS
async def test_value_in_a_file_is_linked_and_read_as_a_resource(open_client: OpenClient, era: str) -> None:
    async with open_client(era) as client:
        result = await client.call_tool("run_python", {"code": "bytes(range(256)) * 10", "session": "x"})
        (link,) = [block for block in result.content if block.type == "resource_link"]
        assert link.uri == "dynasaur://sessions/x/files/bytes_1.bin"
        assert link.size == 2560
        assert f"Saved as:\n- /workspace/bytes_1.bin, resource {link.uri}" in text_of(result)
        (content,) = (await client.read_resource(link.uri)).contents
        assert isinstance(content, BlobResourceContents)
        assert base64.b64decode(content.blob) == bytes(range(256)) * 10


async def test_files_of_a_session_are_resources(open_client: OpenClient) -> None:
    code = "import os\nos.mkdir('d')\nopen('d/a b?#é\\n.txt', 'w').write('hé')\nopen('big', 'w').write('é' * 700_000)"
    async with open_client() as client:
        await client.call_tool("run_python", {"code": code})

        async def read(path: str) -> TextResourceContents:
            (content,) = (await client.read_resource(f"dynasaur://sessions/default/files/{path}")).contents
            assert isinstance(content, TextResourceContents)
            return content

        odd = await read("d/" + quote("a b?#é\n.txt"))
        assert (odd.text, odd.mime_type) == ("hé", "text/plain")
        assert (await read("")).text == "big\tfile\t1400000\nd\tfolder\t0"
        big = await read("big")
        assert big.meta
        assert big.meta["dynasaur/total"] == 1_400_000
        whole = big.text
        while offset := (big.meta or {}).get("dynasaur/next_offset"):
            big = await read(f"big?offset={offset}")
            whole += big.text
        assert big.meta == {"dynasaur/total": 1_400_000}
        assert whole == "é" * 700_000
        for wrong in ("default/files/nothing", "default/files/../x", "default/files//etc/passwd", "nope/files/big"):
            with pytest.raises(MCPError):
                await client.read_resource(f"dynasaur://sessions/{wrong}")


async def test_output_of_a_run_is_read_on_from_an_offset(open_client: OpenClient) -> None:
    async with open_client(output_characters=500) as client:
        text = text_of(await client.call_tool("run_python", {"code": "print('0123456789' * 1000)"}))
        uri = text.split("resource ")[1].split(" ")[0]
        (first,) = (await client.read_resource(f"{uri}?offset=9&limit=20")).contents
        assert isinstance(first, TextResourceContents)
        assert first.text == "01234567890123456789"
        assert first.meta == {"dynasaur/total": 10_009, "dynasaur/next_offset": 29}
        (past,) = (await client.read_resource(f"{uri}?offset=99999")).contents
        assert isinstance(past, TextResourceContents)
        assert past.text == ""


pytestmark = pytest.mark.anyio


@ERAS
async def test_source_of_an_action_is_a_resource(serve: Serve, keep: Keep, era: str) -> None:
    entry = keep("add")
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        listed = await client.list_resources()
        assert [resource.uri for resource in listed.resources] == ["dynasaur://actions/add"]
        templates = await client.list_resource_templates()
        assert [template.uri_template for template in templates.resource_templates] == [
            "dynasaur://actions/{name}{?version}",
            "dynasaur://runs/{id}/output{?offset,limit}",
            "dynasaur://sessions/{session}/files/{+path}{?offset}",
        ]
        (content,) = (await client.read_resource("dynasaur://actions/add")).contents
        assert isinstance(content, TextResourceContents)
        assert content.text == entry.action.source
        for missing in ("dynasaur://actions/ad", "dynasaur://runs/nope/output", "dynasaur://../etc/passwd"):
            with pytest.raises(MCPError):
                await client.read_resource(missing)


@ERAS
async def test_every_version_of_an_action_is_a_resource(serve: Serve, keep: Keep, era: str) -> None:
    first = keep("add")
    second = keep("add", first.action.source.replace("Add two", "Add any two"), expected_version=1)
    sources = {"": second, "?version=1": first, "?version=2": second}
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        for query, entry in sources.items():
            (content,) = (await client.read_resource(f"dynasaur://actions/add{query}")).contents
            assert isinstance(content, TextResourceContents)
            assert content.text == entry.action.source
            assert content.meta == {"dynasaur/total": len(content.text), "dynasaur/version": entry.version}
        with pytest.raises(MCPError, match=r"'add' has no version 3\. There is 1, 2\."):
            await client.read_resource("dynasaur://actions/add?version=3")
        with pytest.raises(MCPError, match="No action named 'ad'"):
            await client.read_resource("dynasaur://actions/ad?version=1")
        template = ResourceTemplateReference(uri="dynasaur://actions/{name}{?version}")
        for name, versions in (("add", ["2", "1"]), ("ad", [])):
            found = await client.complete(template, {"name": "version", "value": ""}, context_arguments={"name": name})
            assert found.completion.values == versions


@ERAS
async def test_resource_of_a_run_that_could_not_be_run_says_so(serve: Serve, era: str) -> None:
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        started = text_of(await client.call_tool("run_python", {"code": "1", "background": True}))
        run = started.split("run '")[1].split("'")[0]
        ended = await client.call_tool("check_run", {"run": run, "wait_seconds": 5})
        assert ended.is_error
        assert text_of(ended) == "No sandbox here: install Docker or bubblewrap."
        (content,) = (await client.read_resource(f"dynasaur://runs/{run}/output")).contents
        assert isinstance(content, TextResourceContents)
        assert content.text == "It could not be run. check_run says why."
