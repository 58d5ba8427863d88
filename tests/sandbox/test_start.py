"""A worker's start, which whoever opens a session may wait for."""

import subprocess
import sys
from pathlib import Path

import pytest

import dynasaur_mcp

from .conftest import OpenPool, shown

HEAVY = {"typing", "socket", "selectors", "ast", "inspect", "subprocess", "threading", "logging", "pydantic"}


@pytest.mark.anyio
async def test_session_begins_with_no_module_that_takes_long_to_import(open_sandbox: OpenPool) -> None:
    code = f"import gc, sys\ngc.isenabled(), sorted({HEAVY!r} & set(sys.modules))"
    async with open_sandbox() as pool, pool.session("me") as session:
        assert await shown(session, code) == "(True, [])"


@pytest.mark.parametrize(
    ("module", "absent"),
    [("supervisor", HEAVY | {"traceback"}), ("template", HEAVY | {"traceback", "dynasaur_mcp.sandbox.worker.jobs"})],
)
def test_worker_is_ready_without_modules_that_take_long_to_import(module: str, absent: set[str]) -> None:
    code = f"import sys, dynasaur_mcp.sandbox.worker.{module}\nprint(*sorted({absent!r} & set(sys.modules)))"
    # As in a sandbox: nothing of this environment that may import anything at a start.
    path = {"PYTHONPATH": str(Path(dynasaur_mcp.__file__).parents[1])}
    ran = subprocess.run([sys.executable, "-S", "-c", code], env=path, capture_output=True, text=True, check=True)
    assert ran.stdout == "\n"
