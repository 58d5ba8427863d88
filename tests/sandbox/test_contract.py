"""What every sandbox keeps to, seen through a pool. Each test is run on each sandbox."""

import os
import random
import textwrap

import anyio
import pytest

from dynasaur_mcp.errors import ArgumentsInvalid, SessionNotFound, SessionsFull
from dynasaur_mcp.sandbox.session import Session
from dynasaur_mcp.types import Ending, Outcome

from .conftest import OpenPool

pytestmark = pytest.mark.anyio

ADD = '''\
def add(first: int, second: int = 1) -> int:
    """Add two whole numbers.

    >>> add(2, 3)
    5
    """
    return first + second
'''


ALIVE = """
import os
def is_alive(pid):
    try:
        return open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False
sum(map(is_alive, filter(str.isdigit, os.listdir('/proc'))))
"""


async def run(session: Session, code: str, timeout_seconds: float | None = None) -> Outcome:
    return await session.run(code, {}, (), timeout_seconds=timeout_seconds)


async def shown(session: Session, code: str) -> str:
    outcome = await run(session, code)
    assert outcome.ending is Ending.RETURNED, outcome
    return outcome.shown


async def call(session: Session, name: str, source: str, **arguments: object) -> Outcome:
    return await session.call(name, {name: source}, (), arguments)


async def test_state_lives_from_step_to_step_and_the_last_expression_is_shown(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await run(session, "import math\nx = 40\nprint('hé')\nx + 2")
        assert (outcome.shown, outcome.stdout) == ("42", "hé\n")
        assert await shown(session, "x += 1; math.floor(x)") == "41"
        assert await shown(session, "_") == "41"
        assert session.steps[1] == "x += 1; math.floor(x)"


async def test_await_works_at_top_level(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        assert await shown(session, "import asyncio\nvalue = await asyncio.sleep(0, 'slept')\nvalue") == "'slept'"
        assert await shown(session, "await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))") == "[1, 2]"


async def test_step_that_raises_keeps_what_it_assigned_before(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await run(session, "kept = 1\nraise ValueError('no')\n")
        assert outcome.ending is Ending.RAISED
        assert outcome.error.splitlines()[1:] == [
            '  File "<step 1>", line 2, in <module>',
            "    raise ValueError('no')",
            "ValueError: no",
        ]
        assert await shown(session, "kept") == "1"


async def test_code_that_does_not_parse_changes_nothing_and_names_its_line(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await run(session, "x = 1\nx = = 2")
        assert outcome.ending is Ending.RAISED
        assert "line 2" in outcome.error
        assert "SyntaxError" in outcome.error
        assert (await run(session, "x")).ending is Ending.RAISED


async def test_what_an_overrunning_step_printed_is_there(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await run(session, "print('before')\nwhile True: pass", timeout_seconds=0.3)
        assert outcome.stdout == "before\n"


async def test_session_killed_by_its_own_step_is_reported_lost_and_begins_anew(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "x = 1")
        outcome = await run(session, "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos._exit(1)")
        assert outcome.ending is Ending.LOST
        assert outcome.notes == ("The session's variables are lost; its files are still there.",)
        assert session.steps == ()
        assert await shown(session, "'x' in globals()") == "False"


async def test_steps_run_in_place_and_say_so_once_threads_are_running(open_sandbox: OpenPool) -> None:
    code = "import threading\nstop = threading.Event()\nthreading.Thread(target=stop.wait, daemon=True).start()"
    async with open_sandbox() as pool, pool.session("me") as session:
        assert (await run(session, code)).notes == ()
        outcome = await run(session, "x = 5\nx")
        assert outcome.shown == "5"
        assert "Rollback is off" in outcome.notes[0]
        assert await shown(session, "stop.set(); x") == "5"


async def test_seeded_numbers_go_on_from_step_to_step(open_sandbox: OpenPool) -> None:
    import random

    expected = random.Random(7)
    expected.random()
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "import random\nrandom.seed(7)\n_ = random.random()")
        assert await shown(session, "random.random()") == repr(expected.random())


async def test_calls_of_an_action_draw_different_random_numbers(open_sandbox: OpenPool) -> None:
    source = "import random\ndef draw() -> float:\n    return random.random()\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        values = {(await call(session, "draw", source)).value for _ in range(3)}
        assert len(values) == 3


async def test_action_is_called_with_converted_arguments(open_sandbox: OpenPool) -> None:
    source = """
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal, TypedDict
from pydantic import Field

class Colour(Enum):
    RED = "red"

@dataclass
class Point:
    x: int
    y: int = 2

class Row(TypedDict):
    name: str

async def many(
    day: date, point: Point, colour: Colour, row: Row, where: Path, kind: Literal["a", "b"],
    size: Annotated[int, Field(ge=1)] = 3, model_name: str | None = None,
) -> dict[str, str]:
    return {"day": day.isoformat(), "x": str(point.x + point.y), "colour": colour.name, "row": row["name"],
            "where": where.name, "kind": kind, "size": str(size), "model": str(model_name)}
"""
    arguments = {
        "day": "2026-11-23",
        "point": {"x": 1},
        "colour": "red",
        "row": {"name": "n"},
        "where": "/a/b",
        "kind": "a",
    }
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await call(session, "many", source, **arguments)
        assert outcome.value == {
            "day": "2026-11-23",
            "x": "3",
            "colour": "RED",
            "row": "n",
            "where": "b",
            "kind": "a",
            "size": "3",
            "model": "None",
        }
        with pytest.raises(ArgumentsInvalid) as caught:
            await call(session, "many", source, **(arguments | {"kind": "c", "size": 0, "nope": 1, "day": "x"}))
        assert sorted(str(problem).split(":")[0] for problem in caught.value.problems) == [
            "'day'",
            "'kind'",
            "'nope' is not a parameter",
            "'size'",
        ]


async def test_each_call_is_a_fork_of_the_freshly_imported_action(open_sandbox: OpenPool) -> None:
    source = "calls = []\ndef count() -> int:\n    calls.append(1)\n    return len(calls)\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        assert [(await call(session, "count", source)).value for _ in range(3)] == [1, 1, 1]


async def test_call_shares_the_files_of_its_session_but_not_its_variables(open_sandbox: OpenPool) -> None:
    source = (
        "def read(path: str) -> list[str]:\n"
        "    return [open(path).read(), str('secret' in vars(__import__('__main__')))]\n"
    )
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await run(session, "secret = 1\n_ = open('a.txt', 'w').write('hello')")
        assert [(file.path, file.size_bytes) for file in outcome.files] == [("a.txt", 5)]
        assert (await call(session, "read", source, path="a.txt")).value == ["hello", "False"]


async def test_actions_are_composed_by_import(open_sandbox: OpenPool) -> None:
    double = "from actions import add\ndef double(value: int) -> int:\n    return add(value, value)\n"
    sources = {"add": ADD, "double": double}
    async with open_sandbox() as pool, pool.session("me") as session:
        assert (await session.call("double", sources, (), {"value": 4})).value == 8
        outcome = await session.run(
            "from actions.double import double\nimport actions\ndouble(1), actions.add(1)", sources, ()
        )
        assert outcome.shown == "(2, 2)"


async def test_new_version_of_an_action_is_what_the_next_call_runs(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        assert (await call(session, "add", ADD, first=1)).value == 2
        assert (await call(session, "add", ADD.replace("first + second", "first - second"), first=1)).value == 0
        await session.run("from actions import add", {"add": ADD}, ())
        changed = {"add": ADD.replace("first + second", "first * 100")}
        assert (await session.run("from actions import add\nadd(1)", changed, ())).shown == "100"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("-> object:\n    return object()", "JSON cannot hold"),
        ("-> float:\n    return float('nan')", "JSON cannot hold"),
        ("-> list:\n    x: list = []\n    x.append(x)\n    return x", "JSON cannot hold"),
        ("-> bytes:\n    return b'\\xff'", "JSON cannot hold"),
        ("-> int:\n    return 'seven'", "does not fit its type annotation"),
    ],
)
async def test_value_that_is_no_json_is_an_error_that_says_so(open_sandbox: OpenPool, body: str, words: str) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await call(session, "give", f"def give() {body}\n")
        assert outcome.ending is Ending.RAISED
        assert words in outcome.error, outcome.error


async def test_bytes_that_are_no_text_are_shown_with_replacement(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await run(session, "import os\nos.write(1, b'a\\xffb\\n'); print('\\ud800'); os.write(2, b'\\x00')")
        assert outcome.stdout.startswith("a\N{REPLACEMENT CHARACTER}b\n")
        assert outcome.stderr == "\x00"


async def test_no_process_outlives_its_step_or_call(open_sandbox: OpenPool) -> None:
    daemon = (
        "import os, time\nif not os.fork():\n    os.setsid()\n    if not os.fork(): time.sleep(600)\n    os._exit(0)\n"
    )
    async with open_sandbox() as pool, pool.session("me") as session:
        # A call first: the template that zygotes are forked from stays.
        await call(session, "rest", "def rest() -> None:\n    pass\n")
        await run(session, "1")
        before = await shown(session, ALIVE)
        await run(session, daemon)
        assert await shown(session, ALIVE) == before
        source = "def spawn() -> None:\n" + "".join(f"    {line}\n" for line in daemon.splitlines())
        assert (await call(session, "spawn", source)).ending is Ending.RETURNED
        # The action's zygote and its fork for the next call are two more.
        assert await shown(session, ALIVE) == str(int(before) + 2)


async def test_cancelling_a_step_stops_it_and_the_session_goes_on(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "x = 1")
        printed = anyio.Event()
        async with anyio.create_task_group() as tasks:

            async def endless() -> None:
                await session.run("print('go')\nx = 2\nwhile True: pass", {}, (), on_output=lambda *_: printed.set())

            tasks.start_soon(endless)
            await printed.wait()
            tasks.cancel_scope.cancel()
        assert not session.is_lost
        assert await shown(session, "x") == "1"


async def test_output_comes_while_the_step_runs(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        heard: list[tuple[str, str]] = []
        code = "import sys\nprint('out')\nprint('err', file=sys.stderr)"
        await session.run(code, {}, (), on_output=lambda stream, text: heard.append((stream, text)))
        assert sorted(heard) == [("stderr", "err\n"), ("stdout", "out\n")]


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


async def test_sessions_belong_to_their_principal_and_are_capped(open_sandbox: OpenPool) -> None:
    async with open_sandbox(sessions=2) as pool:
        async with pool.session("me", "a") as session:
            await run(session, "x = 1\nopen('mine', 'w').close()")
        async with pool.session("you", "a") as session:
            assert await shown(session, "'x' in globals(), __import__('os').listdir()") == "(False, [])"
        with pytest.raises(SessionsFull):
            async with pool.session("me", "b"):
                pass
        with pytest.raises(SessionNotFound, match="Open sessions: 'a'"):
            async with pool.session("me", "nope", create=False):
                pass
        assert pool.session_names("me") == ["a"]


async def test_requirements_are_installed_once_and_seen_by_a_running_session(open_sandbox: OpenPool) -> None:
    source = "import six\ndef version() -> str:\n    return six.__version__\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "1")
        outcome = await session.call("version", {"version": source}, ("six==1.17.0",), {})
        assert outcome.value == "1.17.0", outcome
        assert (await session.run("import six; six.__version__", {}, ("six==1.17.0",))).shown == "'1.17.0'"


async def test_interpreter_that_names_an_impossible_child_costs_its_session_only(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        forker = "sys.modules['dynasaur_mcp.sandbox.worker.forker']"
        await run(session, f"import sys\nopen('kept', 'w').close()\n{forker}.fork = lambda: 2**32 - 1")
        assert (await run(session, "1")).ending is Ending.LOST
        assert await shown(session, "import os; os.listdir()") == "['kept']"


@pytest.mark.parametrize("code", ["raise ValueError('\\ud800')", "raise ModuleNotFoundError('no', name=5)"])
async def test_odd_exception_is_told_like_any_other(open_sandbox: OpenPool, code: str) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await run(session, code)
        assert outcome.ending is Ending.RAISED
        assert "Error" in outcome.error.encode().decode()


@pytest.mark.parametrize("code", ["import sys; sys.stdout.close()", "import os; os.close(0); os.close(1); os.close(2)"])
async def test_step_that_closes_its_streams_leaves_a_session_that_works(open_sandbox: OpenPool, code: str) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "x = 1\n" + code)
        assert await shown(session, "x") == "1"
        assert (await run(session, "import os; os.write(1, b'out'); os.write(2, b'err')")).stdout == "out"


async def test_timer_of_a_step_ends_with_it(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "x = 1\nimport signal\nsignal.setitimer(signal.ITIMER_REAL, 3600)")
        # A step runs in a fork, and forks have no timers: only the interpreter itself, in place, shows what it has.
        await run(session, "import threading\nstop = threading.Event()\nthreading.Thread(target=stop.wait).start()")
        await run(session, "signal.setitimer(signal.ITIMER_REAL, 3600)")
        assert await shown(session, "signal.getitimer(signal.ITIMER_REAL)") == "(0.0, 0.0)"


@pytest.mark.parametrize("end", ["", "raise ValueError('in the child')"], ids=["runs on", "raises"])
async def test_fork_that_runs_on_to_the_end_of_a_step_does_not_answer_for_it(open_sandbox: OpenPool, end: str) -> None:
    code = "import os, time\nchild = os.fork()\nif child: os.waitpid(child, 0); time.sleep(0.2)\nelse: x = 2\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "x = 1")
        outcome = await run(session, f"{code}if not child:\n    pass\n    {end}\nx")
        assert (outcome.ending, outcome.shown) == (Ending.RETURNED, "1"), outcome
        assert await shown(session, "x, child > 0") == "(1, True)"


async def test_processes_that_a_step_stopped_go_on_after_it(open_sandbox: OpenPool) -> None:
    code = """
import os, signal
for pid in map(int, filter(str.isdigit, os.listdir('/proc'))):
    if pid not in (1, os.getpid()): os.kill(pid, signal.SIGSTOP)
os._exit(1)
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        await call(session, "add", ADD, first=1)
        await run(session, "x = 1")
        await run(session, code)
        assert await shown(session, "x") == "1"
        assert (await call(session, "add", ADD, first=1)).value == 2


async def test_validator_that_raises_is_an_error_of_the_call(open_sandbox: OpenPool) -> None:
    source = (
        "from typing import Annotated\nfrom pydantic import AfterValidator\n"
        "def half(value: Annotated[int, AfterValidator(lambda value: value / 0)]) -> float:\n    return value\n"
    )
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await call(session, "half", source, value=1)
        assert outcome.ending is Ending.RAISED
        assert outcome.error.endswith("ZeroDivisionError: division by zero")


async def test_misfits_are_named_up_to_a_number(open_sandbox: OpenPool) -> None:
    source = "def total(values: list[int]) -> int:\n    return sum(values)\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        with pytest.raises(ArgumentsInvalid) as caught:
            await call(session, "total", source, values=["x"] * 1020)
        assert len(caught.value.problems) == 21
        assert str(caught.value.problems[-1]) == "and 1,000 more"


@pytest.mark.parametrize("value", [float("nan"), 10**5000, {1}], ids=["not a number", "too many digits", "a set"])
async def test_argument_that_is_no_json_is_an_error_that_says_so(open_sandbox: OpenPool, value: object) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await call(session, "add", ADD, first=value)
        assert outcome.ending is Ending.RAISED
        assert "JSON cannot hold" in outcome.error


async def test_number_of_too_many_digits_is_an_error_also_when_the_action_allowed_them(open_sandbox: OpenPool) -> None:
    source = "import sys\ndef big() -> int:\n    sys.set_int_max_str_digits(0)\n    return 10**100_000\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await call(session, "big", source)
        assert outcome.ending is Ending.RAISED
        assert "JSON cannot hold" in outcome.error


async def test_step_that_outgrows_memory_by_changing_what_it_shares_loses_nothing(open_sandbox: OpenPool) -> None:
    fill = "state[::4096] = b'{}' * len(state[::4096])"
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "state = bytearray(150 << 20)\n" + fill.format(1))
        assert (await run(session, fill.format(2) + "\nwhile True: pass")).ending is Ending.MEMORY
        assert await shown(session, "state[0]") == str(ord("1"))


async def test_request_cancelled_before_it_is_sent_costs_nothing(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "x = 1")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await run(session, "x = 2")
        assert not session.is_lost
        assert await shown(session, "x") == "1"


async def test_caller_who_gives_up_waiting_takes_no_seat(open_sandbox: OpenPool) -> None:
    async with open_sandbox(sessions=1) as pool:
        async with anyio.create_task_group() as tasks, pool.session("me") as session:
            giving_up = anyio.CancelScope()

            async def wait() -> None:
                with giving_up:
                    async with pool.session("me"):
                        pass

            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await session.kill()
            giving_up.cancel()
        assert pool.session_names("me") == []
        async with pool.session("you") as session:
            assert await shown(session, "1") == "1"


async def test_workers_started_together_leave_the_server_all_its_processors(open_sandbox: OpenPool) -> None:
    before = os.sched_getaffinity(0)
    async with open_sandbox() as pool:

        async def use(name: str) -> None:
            async with pool.session("me", name):
                pass

        async with anyio.create_task_group() as tasks:
            for name in ("a", "b", "c"):
                tasks.start_soon(use, name)
    assert os.sched_getaffinity(0) == before


async def test_more_actions_than_memory_holds_can_be_called_one_after_another(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        for number in range(40):
            source = f"def give_{number}() -> int:\n    return {number}\n"
            assert (await call(session, f"give_{number}", source)).value == number


async def test_what_a_library_asks_to_be_told_of_forks_it_is_told(open_sandbox: OpenPool) -> None:
    told = "import os\ntold = []\nos.register_at_fork(after_in_child=lambda: told.append(os.getpid()))"
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, told)
        await run(session, "1")
        assert await shown(session, "len(told) >= 2, told[-1] == os.getpid()") == "(True, True)"


async def test_locks_and_random_numbers_are_as_after_any_fork(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "import logging, random, threading\nrandom.seed(1)")
        expected = random.Random(1)
        for _ in range(2):
            assert await shown(session, "random.random()") == repr(expected.random())
        assert await shown(session, "threading.current_thread() is threading.main_thread()") == "True"
        source = "import random\ndef draw() -> float:\n    return random.random()\n"
        assert len({(await session.call("draw", {"draw": source}, (), {})).value for _ in range(4)}) == 4
