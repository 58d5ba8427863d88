"""What a step of code gives, and what is left of it in its session: each test on each sandbox."""

import anyio
import pytest

from dynasaur_mcp.sandbox.session import TAKEN_BACK
from dynasaur_mcp.types import Ending
from dynasaur_mcp.values import tell_values

from .conftest import ADD, ALIVE, OpenPool, call, run, shown

pytestmark = pytest.mark.anyio


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


async def test_program_that_a_step_starts_finds_the_modules_beside_it(open_sandbox: OpenPool) -> None:
    code = """
import subprocess, sys
open('tool.py', 'w').write('print("beside", end="")')
open('main.py', 'w').write('import tool')
subprocess.run([sys.executable, 'main.py'], capture_output=True, text=True).stdout
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        assert await shown(session, code) == "'beside'"


async def test_code_that_does_not_parse_changes_nothing_and_names_its_line(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await run(session, "x = 1\nx = = 2")
        assert outcome.ending is Ending.RAISED
        assert "line 2" in outcome.error
        assert "SyntaxError" in outcome.error
        assert (await run(session, "x")).ending is Ending.RAISED


@pytest.mark.parametrize(
    ("code", "ran"),
    [
        ("a = 1\n1 / 0\na = 2", "a = 1"),
        ("é = 'é'; 1 / 0; a = 2", "é = 'é'"),
        ("a = 1\r\ndef f():\r\n    1 / 0\r\nf()\r\n", "a = 1\ndef f():\n    1 / 0"),
        ("import asyncio\nawait asyncio.sleep(0)\nraise ValueError\na = 2", "import asyncio\nawait asyncio.sleep(0)"),
        ("a = 1\n@(1 / 0)\ndef f(): ...", "a = 1"),
        ("if True:\n    a = 1\n    1 / 0\na = 2", "if True:\n    a = 1\n    1 / 0"),
        ("a = 1\n(yield)", ""),
        ("a = = 1", ""),
        ("a = 1\nclass C:\n    __repr__ = None\nC()", "a = 1\nclass C:\n    __repr__ = None\nC()"),
    ],
)
async def test_of_a_step_that_raises_what_had_run_counts(open_sandbox: OpenPool, code: str, ran: str) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        assert (await run(session, code)).ending is Ending.RAISED
        assert session.steps == (ran,)


async def test_error_marks_its_place_in_the_line(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await run(session, "text = '\x0c\u2028'\nx = 1; print(nothing)")
        assert outcome.error.splitlines()[-3:-1] == ["    x = 1; print(nothing)", "                 ^^^^^^^"]
        outcome = await run(session, "x = 1\nreturn x")
        assert outcome.error.splitlines()[1] == "    return x"


async def test_values_are_told_without_a_step_of_the_session(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "x = [1, {'b', 'a'}]\nx")
        told = await tell_values(session, ["x", "nothing"])
        assert told["x"][0] == "list(1, set('a', 'b'))"
        assert list(told) == ["x"]
        assert session.steps == ("x = [1, {'b', 'a'}]\nx",)
        assert await shown(session, "_ is x") == "True"


async def test_step_that_was_undone_before_values_were_told_is_told_of_with_the_next(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "x = 1")
        await run(session, "x = 2\nimport os\nos.register_at_fork(after_in_child=lambda: os._exit(0))")
        assert (await tell_values(session, ["x"]))["x"][0] == "1"
        assert TAKEN_BACK in (await run(session, "x")).notes
        assert session.steps == ("x = 1", "x")


async def test_program_in_a_step_finds_no_arguments(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        parse = "import argparse, sys\nparser = argparse.ArgumentParser()\nparser.add_argument('--n', default=3)\n"
        assert await shown(session, f"{parse}sys.argv, parser.parse_args().n") == "([''], 3)"


@pytest.mark.parametrize(
    "code", ["exit()", "import sys\nwith open('out', 'w') as sys.stdout: pass", "import sys\nsys.stderr.close()"]
)
async def test_streams_that_a_step_closed_are_open_again(open_sandbox: OpenPool, code: str) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, code)
        outcome = await run(session, "import sys\nhelp(len)\nprint('é\\ud800', file=sys.stderr)\nsys.stdin.read()")
        assert (outcome.shown, outcome.stderr) == ("''", "é\\ud800\n")
        assert "Return the number of items" in outcome.stdout


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


async def test_session_keeps_no_more_than_the_newest_code(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        for number in range(3):
            assert await shown(session, f"{number} #{'x' * 600_000}") == str(number)
        assert [step[:1] for step in session.steps] == ["2"]


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


async def test_session_that_a_step_has_replaced_is_no_process_any_more(open_sandbox: OpenPool) -> None:
    dead = """
import os, subprocess, sys
def state(pid):
    try:
        return open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0]
    except OSError:
        return ''
dead = [pid for pid in filter(str.isdigit, os.listdir('/proc')) if state(pid) == 'Z']
dead, subprocess.call([sys.executable, '-c', 'exit(3)'])
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "n = 1")
        await run(session, "n = 2")
        assert await shown(session, dead) == "([], 3)"


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
