"""A model on loopback for the agents of others: it asks for the calls of a story, one a turn, and notes what came back.

It speaks Gemini's API and OpenAI's Responses API. It is the proxy of its agent too, which thereby finds no other host.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .conftest import Answer

Json = dict[str, Any]
Call = tuple[str, Json]

GEMINI_PREFIX = "mcp_dynasaur_"
CODEX_NAMESPACE = "mcp__dynasaur"
MOST_ASIDES = 20
ASIDE: Call = ("search_actions", {"query": "double a number"})
"""What is asked for while the next tool is not in the list: agents read the list again in their own time."""


@dataclass
class Script:
    """The calls to ask for, by the names that the server gives its tools, and what came of them."""

    calls: Sequence[Call]
    lists: list[list[str]] = field(default_factory=list)
    """Tools of the server that the model was shown, turn by turn."""
    answers: list[Answer] = field(default_factory=list)
    """What the model was told of each call."""
    strays: list[str] = field(default_factory=list)
    """What else was asked for: other hosts, other paths."""
    _asides: set[int] = field(default_factory=set)

    def next(self, tools: list[str], answers: list[Answer]) -> Call | None:
        """The call for this turn, None at the end. An agent sends all answers anew each time."""
        self.lists.append(tools)
        self.answers = [answer for number, answer in enumerate(answers) if number not in self._asides]
        if len(self.answers) == len(self.calls):
            return None
        call = self.calls[len(self.answers)]
        if call[0] in tools or len(self._asides) == MOST_ASIDES:
            return call
        self._asides.add(len(answers))
        return ASIDE


def answer_gemini(script: Script, request: Json) -> Iterator[Json]:
    declared = [one["name"] for group in request.get("tools", []) for one in group.get("functionDeclarations", [])]
    tools = [name.removeprefix(GEMINI_PREFIX) for name in declared if name.startswith(GEMINI_PREFIX)]
    part: Json = {"text": "Done."}
    # Without tools it asks for something else, as for a summary.
    if tools and (call := script.next(tools, list(read_gemini(request["contents"])))):
        part = {"functionCall": {"name": GEMINI_PREFIX + call[0], "args": call[1]}}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    yield {
        "candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": usage,
    }


def read_gemini(contents: list[Json]) -> Iterator[Answer]:
    """The answers so far; pictures follow their call."""
    answer: Answer | None = None
    for part in (part for content in contents for part in content.get("parts", [])):
        if "functionResponse" in part:
            if answer:
                yield answer
            response = part["functionResponse"]["response"]
            answer = Answer(str(response.get("output", response.get("error"))), [], "error" in response)
        elif answer and "inlineData" in part:
            answer.images.append(part["inlineData"]["mimeType"])
    if answer:
        yield answer


def answer_openai(script: Script, request: Json) -> Iterator[Json]:
    groups = [group for group in request["tools"] if group.get("name") == CODEX_NAMESPACE]
    tools = [tool["name"] for group in groups for tool in group["tools"]]
    answers = [read_openai(item["output"]) for item in request["input"] if item["type"] == "function_call_output"]
    turn = len(script.lists)
    if call := script.next(tools, answers):
        name, arguments = call
        item: Json = {"type": "function_call", "id": f"f{turn}", "call_id": f"call_{turn}"}
        item |= {"namespace": CODEX_NAMESPACE, "name": name, "arguments": json.dumps(arguments)}
    else:
        part = {"type": "output_text", "text": "Done.", "annotations": []}
        item = {"type": "message", "id": f"m{turn}", "role": "assistant", "content": [part]}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    response = {"id": f"r{turn}", "object": "response", "status": "completed", "output": [item], "usage": usage}
    yield {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": response}


def read_openai(output: str | list[Json]) -> Answer:
    parts = [{"type": "input_text", "text": output}] if isinstance(output, str) else output
    texts = [part["text"] for part in parts if part["type"] == "input_text"]
    images = [part["image_url"][5:].split(";")[0] for part in parts if part["type"] == "input_image"]
    return Answer("\n".join(texts), images, None)


ANSWERS: Mapping[str, Callable[[Script, Json], Iterator[Json]]] = {
    "/v1/responses": answer_openai,
    "/v1beta/models/scripted:streamGenerateContent": answer_gemini,
}
COUNT = "/v1beta/models/scripted:countTokens"


@contextmanager
def serve_model(script: Script) -> Iterator[str]:
    """The URL where the script is played."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            path = self.path.split("?")[0]
            if path == COUNT:  # asked once there is a picture
                return self.reply("application/json", json.dumps({"totalTokens": 1}))
            if path not in ANSWERS:
                return self.refuse()
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            events = [f"data: {json.dumps(event)}\n\n" for event in ANSWERS[path](script, request)]
            return self.reply("text/event-stream", "".join(events))

        def reply(self, kind: str, text: str) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def refuse(self) -> None:
            script.strays.append(f"{self.command} {self.path}")
            self.send_error(403)

        do_GET = do_CONNECT = refuse  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
