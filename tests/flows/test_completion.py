"""Completion of what only a running server knows: sessions, the files in them, runs."""

from __future__ import annotations

from typing import Any

import pytest
from mcp_types import ResourceTemplateReference

from .conftest import Model, OpenClient

pytestmark = pytest.mark.anyio
FILES = "dynasaur://sessions/{session}/files/{+path}{?offset}"
RUNS = "dynasaur://runs/{id}/output{?offset,limit}"


async def complete(model: Model, uri: str, name: str, begun: str, **given: str) -> Any:
    ref = ResourceTemplateReference(uri=uri)
    found = await model.client.complete(ref, {"name": name, "value": begun}, context_arguments=given)
    return found.completion.values


async def test_sessions_paths_and_runs_are_completed(open_client: OpenClient, sandbox: str) -> None:
    async with open_client(sandbox) as model:
        assert await complete(model, FILES, "session", "") == []
        code = "import os\nos.makedirs('data/deep')\nopen('data/a.csv', 'w').close()\nopen('dates.txt', 'w').close()"
        await model.text("run_python", code=code, session="weather")
        assert await complete(model, FILES, "session", "we") == ["weather"]
        assert await complete(model, FILES, "path", "da", session="weather") == ["data/", "dates.txt"]
        assert await complete(model, FILES, "path", "data/", session="weather") == ["data/a.csv", "data/deep/"]
        assert await complete(model, FILES, "path", "../", session="weather") == []
        assert await complete(model, FILES, "path", "da", session="other") == []
        started = await model.text("run_python", code="1", session="weather", background=True)
        run = started.split("run '")[1].split("'")[0]
        assert await complete(model, RUNS, "id", run[:3]) == [run]
        printed = await model.text("run_python", code="print('x' * 20_000)")
        run = printed.split("resource dynasaur://runs/")[1].split("/")[0]
        assert await complete(model, RUNS, "id", run[:6]) == [run]
