"""What an operator sees of calls: log lines, JSON of the same, spans."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client

from .conftest import SERVER, Model, environment

pytestmark = pytest.mark.anyio

ADD = '''
def add(a: int, b: int) -> int:
    """Add two numbers.

    Examples:
        >>> add(1, 2)
        3
    """
    return a + b
'''
TRACED = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
spans = open(sys.argv.pop(1), "w")
exporter = ConsoleSpanExporter(out=spans, formatter=lambda span: span.to_json(indent=None) + "\\n")
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
from dynasaur_mcp.cli import main
main()
"""


@asynccontextmanager
async def serve(command: list[str], tmp_path: Path, **settings: Any) -> AsyncIterator[Model]:
    """In a jail; stderr goes to the file `log`."""
    env = environment(tmp_path / "library", "jail", **settings)
    with (tmp_path / "log").open("w") as log:
        parameters = StdioServerParameters(command=command[0], args=command[1:], env=env)
        async with Client(stdio_client(parameters, errlog=log)) as client:
            yield Model(client)


async def test_json_log_has_who_called_what_and_how_it_ended(tmp_path: Path, require: Any) -> None:
    require("jail")
    async with serve([*SERVER, "serve"], tmp_path, log_level="info", log_format="json") as model:
        await model.text("define_action", source=ADD)
        await model.text("add", a=1, b=2)
        await model.call("run_python", code="raise ValueError", session="s")
        await model.error("execute_action", name="nothing", arguments={})
        await model.call("add\n2026 forged", a=1)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    requests = [line for line in lines if "tool" in line]
    assert [(line["tool"], line["outcome"]) for line in requests] == [
        ("define_action", "returned"),
        ("add", "returned"),
        ("run_python", "error"),
        ("execute_action", "error"),
        ("add 2026 forged", "error"),
    ]
    runs = [line for line in lines if "run" in line]
    assert [(line["action"], line["version"], line["session"], line["outcome"]) for line in runs] == [
        ("add", 1, "default", "returned"),
        (None, None, "s", "raised"),
    ]
    assert [line["message"].partition("of 'local', ")[2].partition(" after")[0] for line in runs] == [
        "add: returned",
        "code: raised",
    ]
    assert [line["request"] for line in runs] == [line["request"] for line in requests[1:3]]
    assert {line["principal"] for line in requests + runs} == {"local"}
    assert all(line["seconds"] > 0 for line in requests + runs)


async def test_nothing_is_logged_of_calls_that_the_operator_did_not_ask_for(tmp_path: Path, require: Any) -> None:
    require("jail")
    async with serve([*SERVER, "serve"], tmp_path) as model:
        await model.text("run_python", code="1")
    assert "run_python" not in (tmp_path / "log").read_text()


async def test_spans_lead_from_the_request_to_the_sandbox(tmp_path: Path, require: Any) -> None:
    require("jail")
    spans = tmp_path / "spans"
    async with serve([sys.executable, "-c", TRACED, str(spans), "serve"], tmp_path) as model:
        await model.text("run_python", code="1", session="s")
    found = {span["context"]["span_id"]: span for span in map(json.loads, spans.read_text().splitlines())}
    (step,) = (span for span in found.values() if span["attributes"].get("dynasaur.op") == "step")
    assert step["attributes"]["dynasaur.outcome"] == "returned"
    session = found[step["parent_id"]]
    assert (session["name"], session["attributes"]["dynasaur.session"]) == ("session", "s")
    request = found[session["parent_id"]]
    assert request["attributes"]["gen_ai.tool.name"] == "run_python"
