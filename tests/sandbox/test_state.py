"""State that cannot be lost, with the libraries people hold it in."""

from __future__ import annotations

import pytest

from dynasaur_mcp.sandbox.session import Session
from dynasaur_mcp.types import Ending, Outcome

from .conftest import OpenPool

pytestmark = pytest.mark.anyio

MAKE = """
import numpy as np, pandas as pd
numbers = np.arange(14_000_000, dtype=float)
table = pd.DataFrame({"n": np.arange(1_000_000), "text": [f"row {n}" for n in range(1_000_000)]})
numbers.nbytes + int(table.memory_usage(deep=True).sum())
"""
SUM = "float(numbers[-1]), table.text.iloc[-1], len(table)"
STATE = "(13999999.0, 'row 999999', 1000000)"


async def run(session: Session, code: str, *packages: str, timeout_seconds: float = 60) -> Outcome:
    return await session.run(code, {}, packages, timeout_seconds=timeout_seconds)


FAILURES = {
    Ending.TIMEOUT: "numbers *= 0; table.drop(columns='text', inplace=True)\nwhile True: pass",
    Ending.LOST: "numbers *= 0; del table\nimport os; os._exit(1)",
    Ending.MEMORY: "numbers *= 0; del table\nmore = np.ones(1 << 30)",
}


async def test_large_state_of_numpy_and_pandas_outlives_steps_that_fail(open_sandbox: OpenPool) -> None:
    async with open_sandbox(memory_bytes=1 << 30) as pool, pool.session("me") as session:
        made = await run(session, MAKE, "numpy", "pandas")
        assert int(made.shown) > 160 << 20, made
        assert (await run(session, SUM)).shown == STATE
        for ending, step in FAILURES.items():
            assert (await run(session, step, timeout_seconds=1)).ending is ending
            after = await run(session, SUM)
            assert (after.shown, after.notes) == (STATE, ())
        assert (await run(session, "numbers[-1] = 7\n1 / 0")).ending is Ending.RAISED
        assert (await run(session, "float(numbers[-1])")).shown == "7.0"


async def test_library_that_keeps_threads_runs_in_place_and_the_result_says_so(open_sandbox: OpenPool) -> None:
    async with open_sandbox(memory_bytes=1 << 30) as pool, pool.session("me") as session:
        first = await run(
            session, "import polars as pl\ntable = pl.DataFrame({'n': range(1000)})\ntable.sum()", "polars"
        )
        assert first.ending is Ending.RETURNED, first
        outcome = await run(session, "table = table.filter(pl.col('n') > 10)\nlen(table)")
        assert outcome.shown == "989"
        assert "Rollback is off in this session" in outcome.notes[0]
        assert "threads" in outcome.notes[0]
