"""The bare low-level MCP server with one tool, `echo`, that the benchmarks compare with."""

import sys

import anyio
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool

ECHO = Tool(
    name="echo",
    description="Give back the text.",
    input_schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
)


async def list_tools(_context, _params) -> ListToolsResult:
    return ListToolsResult(tools=[ECHO])


async def call_tool(_context, params) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=params.arguments["text"])])


async def main() -> None:
    server = Server("bare", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


if __name__ == "__main__":
    sys.exit(anyio.run(main))
