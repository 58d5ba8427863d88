"""Checks of actions before they are kept: schemas, tests, and what is wrong. Each test on each sandbox."""

import textwrap

import pytest

from .conftest import ADD, OpenPool

pytestmark = pytest.mark.anyio


async def test_check_gives_schemas_and_test_results(open_sandbox: OpenPool) -> None:
    source = (
        ADD
        + "\ndef test_zero() -> None:\n    assert add(0, 0) == 0\n"
        + "\ndef test_bad(tmp_path) -> None:\n    assert add(1) == 3\n"
    )
    async with open_sandbox() as pool:
        check = await pool.workers.check("add", {"add": source}, ())
        assert check.tests.passed == 2
        assert "assert add(1) == 3" in check.tests.failures[0]
        assert check.schemas is not None
        assert check.schemas.input == {
            "type": "object",
            "properties": {"first": {"type": "integer"}, "second": {"type": "integer", "default": 1}},
            "required": ["first"],
            "additionalProperties": False,
        }
        assert check.schemas.output["properties"] == {"result": {"type": "integer"}}


async def test_error_of_an_example_is_told_as_one_of_a_call(open_sandbox: OpenPool) -> None:
    source = 'def f(path: str) -> str:\n    """F.\n\n    >>> f("none.txt")\n    """\n    return open(path).read()\n'
    async with open_sandbox() as pool:
        check = await pool.workers.check("f", {"f": source}, ())
        (failure,) = check.tests.failures
        assert failure.startswith('doctest of f: File "actions/f.py", line 4, in actions.f.f\nFailed example:\n')
        assert "doctest.py" not in failure
        assert failure.endswith("Hint: /workspace is empty.")


async def test_schemas_too_large_for_a_tool_list_are_refused(open_sandbox: OpenPool) -> None:
    source = "from typing import Literal\n" + ADD.replace("int", f"Literal[{', '.join(map(str, range(30_000)))}]", 1)
    async with open_sandbox() as pool:
        check = await pool.workers.check("add", {"add": source}, ())
        assert check.schemas is None
        assert check.is_unfit
        assert "100,000 at most" in str(check.problems[0])


async def test_checks_of_a_batch_find_nothing_of_each_other(open_sandbox: OpenPool) -> None:
    leaving = '''
        import math, os, pathlib, subprocess, sys
        math.left = os.environ["LEFT"] = "left"
        for folder in ("/workspace", "/tmp", "/dev/shm"):
            {write}
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        def f(a: int) -> int:
            """F.

            >>> f(1)
            1
            """
            return a
    '''
    looking = '''
        import math, os, pathlib
        def g(a: int) -> list[str]:
            """G.

            >>> g(1)
            []
            """
            running = [p for p in pathlib.Path("/proc").glob("[0-9]*/cmdline") if b"time.sleep(60)" in read(p)]
            files = [p for top in ("/workspace", "/tmp", "/dev/shm") for p in pathlib.Path(top).glob("**/left*")]
            state = [left for left in (getattr(math, "left", ""), os.environ.get("LEFT", "")) if left]
            return list(map(str, running + files + state))
        def read(path: pathlib.Path) -> bytes:
            try:
                return path.read_bytes()
            except OSError:
                return b""
    '''
    write = "pathlib.Path(folder, 'left').touch() if os.access(folder, os.W_OK) else None"
    async with open_sandbox() as pool, pool.workers.batch():
        for act in ("pass", "os.kill(-1, 9)", "pass", write):
            left = await pool.workers.check("f", {"f": textwrap.dedent(leaving.format(write=act))}, ())
            assert left.tests.passed == 1, left
            seen = await pool.workers.check("g", {"g": textwrap.dedent(looking)}, ())
            assert seen.tests.failures == ()
            assert seen.tests.passed == 1


async def test_bound_without_end_is_no_default_in_a_schema(open_sandbox: OpenPool) -> None:
    source = "def f(a: float, most: float = float('inf')) -> float: return min(a, most)"
    async with open_sandbox() as pool:
        check = await pool.workers.check("f", {"f": source}, ())
        assert check.schemas is not None
        assert check.schemas.input["required"] == ["a"]
        assert check.schemas.input["properties"] == {"a": {"type": "number"}, "most": {"type": "number"}}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("while True: pass", "Importing it did not end within 1 s"),
        ("import os\nos._exit(0)", "Importing it ended its own process"),
        ("import missing_thing\ndef f() -> int: return 1", 'dependencies = ["missing_thing"]'),
        (
            "import socket\ndef f(a: socket.socket) -> int: return 1",
            "The type socket of parameter 'a' has no JSON form",
        ),
        ("def f(a: Nope) -> int: return 1", "name 'Nope' is not defined"),
        ('def f(a: int) -> int:\n    """F.\n\n    >>> while True: pass\n    """\n    return 1', "doctest of f"),
        ('def f(a: int) -> int:\n    """F.\n\n    >>> import os; os._exit(0)\n    """\n    return 1', "doctest of f"),
    ],
)
async def test_check_says_why_an_action_cannot_be_kept(open_sandbox: OpenPool, source: str, words: str) -> None:
    async with open_sandbox(wall_seconds=1) as pool:
        check = await pool.workers.check("f", {"f": source}, ())
        assert words in str(check.problems[0]), check
