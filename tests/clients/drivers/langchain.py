"""The story with langchain-mcp-adapters, in one session."""

import asyncio
import json
import sys

from langchain_core.tools import ToolException
from langchain_mcp_adapters.sessions import create_session
from langchain_mcp_adapters.tools import load_mcp_tools


def show(message):
    parts = [{"type": "text", "text": message.content}] if isinstance(message.content, str) else message.content
    return {
        "text": "\n".join(part["text"] for part in parts if part["type"] == "text"),
        "images": [part["mime_type"] for part in parts if part["type"] == "image"],
        "error": message.status == "error",
    }


async def call(tools, name, arguments):
    try:
        return show(await tools[name].ainvoke({"type": "tool_call", "id": "1", "name": name, "args": arguments}))
    except ToolException as error:
        return {"text": str(error), "images": [], "error": True}


async def main(task):
    if "url" in task:
        connection = {"transport": "streamable_http", "url": task["url"], "headers": task["headers"]}
    else:
        connection = {"transport": "stdio"} | {key: task[key] for key in ("command", "args", "env")}
    async with create_session(connection) as session:
        await session.initialize()
        tools = {tool.name: tool for tool in await load_mcp_tools(session)}
        before, answers = list(tools), []
        for name, arguments in task["calls"]:
            answers.append(await call(tools, name, arguments))
            if name == "define_action":
                tools = {tool.name: tool for tool in await load_mcp_tools(session)}
    print("\n" + json.dumps({"before": before, "after": list(tools), "answers": answers}))


asyncio.run(main(json.loads(sys.argv[1])))
