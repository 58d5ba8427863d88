"""The story with version 1 of the Python SDK."""

import asyncio
import json
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client


def show(result):
    return {
        "text": "\n".join(part.text for part in result.content if part.type == "text"),
        "images": [part.mimeType for part in result.content if part.type == "image"],
        "error": result.isError,
    }


async def main(task):
    if "url" in task:
        transport = streamablehttp_client(task["url"], task["headers"])
    else:
        transport = stdio_client(StdioServerParameters(command=task["command"], args=task["args"], env=task["env"]))
    async with transport as (read, write, *_), ClientSession(read, write) as session:
        await session.initialize()
        before = [tool.name for tool in (await session.list_tools()).tools]
        after, answers = [], []
        for name, arguments in task["calls"]:
            answers.append(show(await session.call_tool(name, arguments)))
            if name == "define_action":
                after = [tool.name for tool in (await session.list_tools()).tools]
    print("\n" + json.dumps({"before": before, "after": after, "answers": answers}))


asyncio.run(main(json.loads(sys.argv[1])))
