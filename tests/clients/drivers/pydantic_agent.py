"""The story with pydantic-ai: its agent, given a model that makes the calls of the story, one a turn."""

import asyncio
import json
import sys

from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelResponse, RetryPromptPart, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import FunctionModel


def files_of(content):
    items = content if isinstance(content, (list, tuple)) else [content]
    return [item.media_type for item in items if isinstance(item, BinaryContent)]


def show(message):
    texts, images, error = [], [], False
    for part in message.parts:
        if isinstance(part, (ToolReturnPart, UserPromptPart)):
            texts.append(part.model_response_str() if isinstance(part, ToolReturnPart) else str(part.content))
            images += files_of(part.content)
            error |= isinstance(part, ToolReturnPart) and part.outcome != "success"
        if isinstance(part, RetryPromptPart):
            texts.append(part.model_response())
            error = True
    return {"text": "\n".join(texts), "images": images, "error": error}


async def main(task):
    lists, answers = [], []

    def model(messages, info):
        lists.append([tool.name for tool in info.function_tools])
        turn = len(lists) - 1
        if turn:
            answers.append(show(messages[-1]))
        if turn == len(task["calls"]):
            return ModelResponse(parts=[TextPart("Done.")])
        name, arguments = task["calls"][turn]
        return ModelResponse(parts=[ToolCallPart(name, arguments)])

    if "url" in task:
        transport = StreamableHttpTransport(task["url"], headers=task["headers"])
    else:
        transport = StdioTransport(command=task["command"], args=task["args"], env=task["env"])
    agent = Agent(FunctionModel(model), toolsets=[MCPToolset(transport, cache_tools=False)], retries=3)
    async with agent:
        await agent.run("Go.")
    print("\n" + json.dumps({"before": lists[0], "after": lists[1], "answers": answers}))


asyncio.run(main(json.loads(sys.argv[1])))
