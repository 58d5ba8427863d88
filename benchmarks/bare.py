"""The bare low-level MCP server with one tool, `echo`, that the benchmarks compare with: on stdio, or with `--http`."""

import sys

import anyio
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool

ECHO = Tool(
    name="echo",
    description="Give back the text.",
    input_schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
)


async def list_tools(_context: object, _params: object) -> ListToolsResult:
    return ListToolsResult(tools=[ECHO])


async def call_tool(_context: object, params: CallToolRequestParams) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=(params.arguments or {})["text"])])


async def serve_http(server: Server) -> None:
    import socket

    import uvicorn

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sys.stderr.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stderr.flush()
        app = server.streamable_http_app()
        await uvicorn.Server(uvicorn.Config(app, http="h11", log_level="critical", access_log=False)).serve([listener])


async def main() -> None:
    server = Server("bare", on_list_tools=list_tools, on_call_tool=call_tool)
    if "--http" in sys.argv:
        await serve_http(server)
        return
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


if __name__ == "__main__":
    sys.exit(anyio.run(main))
