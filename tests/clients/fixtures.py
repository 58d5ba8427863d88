"""What the scenarios of the conformance suite ask a server to have, by method and name, in its wire form.

A middleware: all else, and all that carries it, is the server's own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp.server.context import CallNext, HandlerResult
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY, SamplingMessage, TextContent
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from dynasaur_mcp.server.announce import Context

Wire = dict[str, Any]
KEY = b"of the tests"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = base64.b64encode(b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0\x80>\0\0\2\0\x10\0data\0\0\0\0").decode()


def text(said: str) -> Wire:
    return {"type": "text", "text": said}


def resource(uri: str, mime_type: str, said: str) -> Wire:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": said}}


IMAGE = {"type": "image", "data": PNG, "mimeType": "image/png"}
CONTENTS: dict[str, list[Wire]] = {
    "test_simple_text": [text("This is a simple text response for testing.")],
    "test_image_content": [IMAGE],
    "test_audio_content": [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}],
    "test_embedded_resource": [
        resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ],
    "test_multiple_content_types": [
        text("Multiple content types test:"),
        IMAGE,
        resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ],
}
RESOURCES: dict[str, Wire] = {
    "test://static-text": {"mimeType": "text/plain", "text": "This is the content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": PNG},
    "test://template/123/data": {
        "mimeType": "application/json",
        "text": json.dumps({"id": "123", "templateTest": True, "data": "Data for ID: 123"}),
    },
}
OPTIONS = ["option1", "option2", "option3"]
FORMS: dict[str, Wire] = {
    "test_elicitation": {"username": {"type": "string"}, "email": {"type": "string"}},
    "test_elicitation_sep1034_defaults": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
    "test_elicitation_sep1330_enums": {
        "untitledSingle": {"type": "string", "enum": OPTIONS},
        "titledSingle": {
            "type": "string",
            "oneOf": [{"const": f"value{number}", "title": f"Option {number}"} for number in (1, 2, 3)],
        },
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": OPTIONS}},
        "titledMulti": {
            "type": "array",
            "items": {"anyOf": [{"const": f"value{number}", "title": f"Choice {number}"} for number in (1, 2, 3)]},
        },
    },
}


TOOLS: list[Wire] = [
    {
        "name": "test_missing_capability",
        "description": "Needs sampling",
        "inputSchema": {"type": "object", "properties": {}},
    },
    {
        "name": "test_custom_header",
        "description": "Wants its argument in a header too",
        "inputSchema": {
            "type": "object",
            "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
            "required": ["region"],
        },
    },
    {
        "name": "json_schema_2020_12_tool",
        "description": "Tool with JSON Schema 2020-12 features",
        "inputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": {
                "address": {
                    "$anchor": "addressDef",
                    "type": "object",
                    "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
                }
            },
            "properties": {
                "name": {"type": "string"},
                "address": {"$ref": "#/$defs/address"},
                "contactMethod": {"type": "string", "enum": ["phone", "email"]},
                "phone": {"type": "string"},
                "email": {"type": "string"},
            },
            "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
            "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
            "then": {"required": ["phone"]},
            "else": {"required": ["email"]},
            "additionalProperties": False,
        },
    },
]
"""Those that have to be listed."""


def form(message: str, **properties: str) -> Wire:
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return {"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": schema}}


def sampling(said: str) -> Wire:
    messages = [{"role": "user", "content": text(said)}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": 100}}


ROOTS: Wire = {"method": "roots/list", "params": {}}
ASKED: dict[str, list[Wire]] = {
    "elicitation": [{"user_name": form("What is your name?", name="string")}],
    "sampling": [{"capital_question": sampling("What is the capital of France?")}],
    "list_roots": [{"client_roots": ROOTS}],
    "request_state": [{"confirm": form("Please confirm", ok="boolean")}],
    "tampered_state": [{"confirm": form("Please confirm", ok="boolean")}],
    "multiple_inputs": [
        {
            "user_name": form("What is your name?", name="string"),
            "greeting": sampling("Generate a greeting"),
            "client_roots": ROOTS,
        }
    ],
    "multi_round": [
        {"step1": form("Step 1: What is your name?", name="string")},
        {"step2": form("Step 2: What is your favorite color?", color="string")},
    ],
    "capabilities": [{"asked": sampling("Anything"), "name": form("What is your name?", name="string")}],
    "prompt": [{"user_context": form("What context should the prompt use?", context="string")}],
}
"""By what follows `test_input_required_result_`: what is asked for in each round."""
STATELESS = {"elicitation", "sampling", "list_roots", "prompt", "capabilities"}
NEEDS = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}


def seal(round_number: int) -> str:
    return f"{round_number}.{hmac.new(KEY, str(round_number).encode(), hashlib.sha256).hexdigest()}"


def ask(ctx: Context, params: Wire, name: str) -> Wire | None:
    """The next question, or None where all are answered."""
    rounds, state, given = ASKED[name], params.get("requestState"), params.get("inputResponses") or {}
    number = 0
    if state is not None:
        number = int(state.split(".")[0]) if state.split(".")[0].isdigit() else 0
        if not hmac.compare_digest(state.encode(), seal(number).encode()):
            raise MCPError(INVALID_PARAMS, "This state is not one of ours")
    if set(rounds[number]) <= set(given):
        number += 1
    if number == len(rounds):
        return None
    declared = ctx.session.client_capabilities
    asked = {
        key: what for key, what in rounds[number].items() if getattr(declared, NEEDS[what["method"]], None) is not None
    }
    question = {"resultType": "input_required", "inputRequests": asked}
    return question if name in STATELESS else {**question, "requestState": seal(number)}


async def call_tool(ctx: Context, params: Wire) -> Wire | None:
    name, arguments = params["name"], params.get("arguments") or {}
    if name in CONTENTS:
        return {"content": CONTENTS[name]}
    if name in FORMS:
        schema = {"type": "object", "properties": FORMS[name], "required": []}
        answer = await ctx.session.elicit_form(arguments.get("message", "Fill this in"), schema, ctx.request_id)
        content = json.dumps(answer.content)
        return {"content": [text(f"Elicitation completed: action={answer.action}, content={content}")]}
    if name.startswith("test_input_required_result_"):
        asked = ask(ctx, params, name.removeprefix("test_input_required_result_"))
        return asked or {"content": [text("state-ok " + json.dumps(params.get("inputResponses")))]}
    match name:
        case "test_error_handling":
            return {"content": [text("This tool intentionally returns an error for testing")], "isError": True}
        case "test_tool_with_progress":
            for progress in (0, 50, 100):
                await ctx.session.report_progress(progress, 100)
                await anyio.lowlevel.checkpoint()
            return {"content": [text("Done")]}
        case "test_tool_with_logging":
            for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
                await ctx.session.send_log_message("info", said, related_request_id=ctx.request_id)
                await anyio.lowlevel.checkpoint()
            return {"content": [text("Done")]}
        case "test_sampling":
            message = SamplingMessage(role="user", content=TextContent(text=arguments["prompt"]))
            got = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
            return {"content": [text(f"LLM response: {got.content}")]}
        case "test_custom_header":
            return {"content": [text(arguments["region"])]}
        case "test_reconnection":
            assert ctx.close_sse_stream
            await ctx.close_sse_stream()
            return {"content": [text("Reconnection test completed")]}
        case "test_missing_capability":
            if getattr(ctx.session.client_capabilities, "sampling", None) is None:
                needed = {"requiredCapabilities": {"sampling": {}}}
                raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "It needs sampling", needed)
            return {"content": [text("Done")]}
    return None


async def get_prompt(ctx: Context, params: Wire) -> Wire | None:
    name, arguments = params["name"], params.get("arguments") or {}
    match name:
        case "test_simple_prompt":
            contents = [text("This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            contents = [text(f"Prompt with arguments: arg1='{arguments['arg1']}', arg2='{arguments['arg2']}'")]
        case "test_prompt_with_embedded_resource":
            embedded = resource(arguments["resourceUri"], "text/plain", "Embedded resource content for testing.")
            contents = [embedded, text("Please process the embedded resource above.")]
        case "test_prompt_with_image":
            contents = [IMAGE, text("Please analyze the image above.")]
        case "test_input_required_result_prompt":
            if asked := ask(ctx, params, "prompt"):
                return asked
            contents = [text(json.dumps(params["inputResponses"]))]
        case _:
            return None
    return {"messages": [{"role": "user", "content": content} for content in contents]}


async def set_level(ctx: Context, _params: Wire) -> Wire | None:
    return None if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS else {}


async def read_resource(_ctx: Context, params: Wire) -> Wire | None:
    found = RESOURCES.get(params["uri"])
    caching = {"ttlMs": 0, "cacheScope": "private"}
    return None if found is None else {"contents": [{"uri": params["uri"], **found}], **caching}


ANSWERS: dict[str, Callable[[Context, Wire], Awaitable[Wire | None]]] = {
    "tools/call": call_tool,
    "prompts/get": get_prompt,
    "resources/read": read_resource,
    "logging/setLevel": set_level,
}


async def answer(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Middleware: what the suite asks for by name; all else is passed on."""
    found = None
    if ctx.method in ANSWERS:
        found = await ANSWERS[ctx.method](ctx, dict(ctx.params or {}))
    if found is None:
        return await call_next(ctx)
    return {"resultType": "complete", **found} if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS else found
