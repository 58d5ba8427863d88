"""The story with version 2 of the Python SDK."""

import asyncio
import json
import sys

import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client


def show(result):
    return {
        "text": "\n".join(part.text for part in result.content if part.type == "text"),
        "images": [part.mime_type for part in result.content if part.type == "image"],
        "error": result.is_error,
    }


async def main(task):
    async with httpx2.AsyncClient(headers=task.get("headers"), timeout=60) as http:
        if "url" in task:
            transport = streamable_http_client(task["url"], http_client=http)
        else:
            transport = stdio_client(StdioServerParameters(command=task["command"], args=task["args"], env=task["env"]))
        async with Client(transport, mode=task["era"]) as client:
            before = [tool.name for tool in (await client.list_tools()).tools]
            after, answers = [], []
            for name, arguments in task["calls"]:
                answers.append(show(await client.call_tool(name, arguments)))
                if name == "define_action":
                    after = [tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools]
    print("\n" + json.dumps({"before": before, "after": after, "answers": answers}))


asyncio.run(main(json.loads(sys.argv[1])))
