"""Steps and calls are forks, which code may notice: each test on each sandbox."""

import random

import pytest

from dynasaur_mcp.types import Ending

from .conftest import ADD, OpenPool, call, run, shown

pytestmark = pytest.mark.anyio


async def test_steps_run_in_place_and_say_so_once_threads_are_running(open_sandbox: OpenPool) -> None:
    code = "import threading\nstop = threading.Event()\nthreading.Thread(target=stop.wait, daemon=True).start()"
    async with open_sandbox() as pool, pool.session("me") as session:
        assert (await run(session, code)).notes == ()
        outcome = await run(session, "x = 5\nx")
        assert outcome.shown == "5"
        assert "Rollback is off" in outcome.notes[0]
        assert await shown(session, "stop.set(); x") == "5"


async def test_seeded_numbers_go_on_from_step_to_step(open_sandbox: OpenPool) -> None:
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


async def test_calls_draw_different_random_numbers_also_where_a_module_of_python_does_so(
    open_sandbox: OpenPool,
) -> None:
    source = "from email.utils import make_msgid\ndef draw() -> str:\n    return make_msgid().split('.')[2]\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        values = {(await call(session, "draw", source)).value for _ in range(3)}
        assert len(values) == 3


async def test_action_that_has_put_something_else_in_the_place_of_random_is_called(open_sandbox: OpenPool) -> None:
    source = "import sys\nsys.modules['random'] = None\ndef give() -> int:\n    return 5\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        assert (await call(session, "give", source)).value == 5


async def test_each_call_is_a_fork_of_the_freshly_imported_action(open_sandbox: OpenPool) -> None:
    source = "calls = []\ndef count() -> int:\n    calls.append(1)\n    return len(calls)\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        assert [(await call(session, "count", source)).value for _ in range(3)] == [1, 1, 1]


async def test_interpreter_that_names_an_impossible_child_costs_its_own_step_only(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "n = 1")
        forker = "sys.modules['dynasaur_mcp.sandbox.worker.forker']"
        await run(session, f"import sys\nopen('kept', 'w').close()\n{forker}.fork = lambda: 2**32 - 1")
        outcome = await run(session, "import os; n, os.listdir()")
        assert outcome.shown == "(1, ['kept'])"
        assert "The step before this one was taken back" in outcome.notes[0]


@pytest.mark.parametrize("end", ["", "raise ValueError('in the child')"], ids=["runs on", "raises"])
async def test_fork_that_runs_on_to_the_end_of_a_step_does_not_answer_for_it(open_sandbox: OpenPool, end: str) -> None:
    code = "import os, time\nchild = os.fork()\nif child: os.waitpid(child, 0); time.sleep(0.2)\nelse: x = 2\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "x = 1")
        outcome = await run(session, f"{code}if not child:\n    pass\n    {end}\nx")
        assert (outcome.ending, outcome.shown) == (Ending.RETURNED, "1"), outcome
        assert await shown(session, "x, child > 0") == "(1, True)"


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


async def test_actions_that_wait_for_their_next_call_leave_no_dead_processes(open_sandbox: OpenPool) -> None:
    count = """
import os
def is_dead(pid):
    try: return open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0] == 'Z'
    except OSError: return False
sum(map(is_dead, filter(str.isdigit, os.listdir('/proc'))))
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        for number in range(8):
            name = f"add_{number}"
            assert (await call(session, name, ADD.replace("add", name), first=1)).value == 2
        # What was ended last may still be at it.
        assert "0" in [await shown(session, count) for _ in range(20)]


async def test_what_code_does_when_its_processes_end_stays_as_it_set_it(open_sandbox: OpenPool) -> None:
    code = """
import os, signal, time
ended = []
def note(*_): ended.append(1)
signal.signal(signal.SIGCHLD, note) and None
"""
    start = """
child = os.fork()
if not child: os._exit(3)
while not ended: time.sleep(0.01)
ended.clear()
os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, code)
        for _ in range(3):
            assert await shown(session, start) == "3"
            assert await shown(session, "signal.getsignal(signal.SIGCHLD) is note, len(ended)") == "(True, 0)"
