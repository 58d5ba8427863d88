"""The story with openai-agents: its runner, given a model that makes the calls of the story, one a turn."""

import asyncio
import json
import sys

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.mcp import MCPServerStdio, MCPServerStreamableHttp
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText


def show(output):
    parts = [{"type": "input_text", "text": output}] if isinstance(output, str) else output
    return {
        "text": "\n".join(part["text"] for part in parts if part["type"] == "input_text"),
        "images": [part["image_url"][5:].split(";")[0] for part in parts if part["type"] == "input_image"],
        "error": None,
    }


class Story(Model):
    def __init__(self, calls):
        self.calls, self.lists, self.answers = calls, [], []

    async def get_response(self, input, tools, **_rest):  # noqa: A002
        self.lists.append([tool.name for tool in tools])
        turn = len(self.lists) - 1
        if turn:
            self.answers.append(show(input[-1]["output"]))
        if turn == len(self.calls):
            text = ResponseOutputText(type="output_text", text="Done.", annotations=[])
            item = ResponseOutputMessage(id="1", type="message", role="assistant", status="completed", content=[text])
        else:
            name, arguments = self.calls[turn]
            item = ResponseFunctionToolCall(
                type="function_call", call_id=f"call_{turn}", name=name, arguments=json.dumps(arguments)
            )
        return ModelResponse(output=[item], usage=Usage(), response_id=None)

    def stream_response(self, *args, **kwargs):
        raise NotImplementedError


async def main(task):
    set_tracing_disabled(True)
    if "url" in task:
        reach = {"url": task["url"], "headers": task["headers"]}
        server = MCPServerStreamableHttp(reach, client_session_timeout_seconds=60)
    else:
        params = {key: task[key] for key in ("command", "args", "env")}
        server = MCPServerStdio(params, client_session_timeout_seconds=60)
    story = Story(task["calls"])
    async with server:
        await Runner.run(Agent("test", mcp_servers=[server], model=story), "Go.", max_turns=20)
    print("\n" + json.dumps({"before": story.lists[0], "after": story.lists[1], "answers": story.answers}))


asyncio.run(main(json.loads(sys.argv[1])))
