"""Steps that ruin the process they run in: what comes of it for them, and that the session goes on."""

from __future__ import annotations

import anyio
import pytest

from dynasaur_mcp.types import Ending

from .conftest import ADD, OpenPool, call, run, shown

pytestmark = pytest.mark.anyio

HARMLESS = {
    "functions of os": "import os\nos.fork = os.read = os.write = os._exit = os.open = os.close = os.dup2 = None\n"
    "os.getpid = os.waitpid = os.listdir = os.scandir = None",
    "functions of signal": "import signal, _signal\nsignal.signal = _signal.signal = signal.setitimer = None",
    "json": "import json, sys\njson.dumps = json.loads = None\nsys.modules['json'] = None",
    "socket": "import socket\nsocket.socket = socket.recv_fds = None",
    "ast and time": "import ast, time\nast.parse = time.clock_gettime_ns = None",
    "lines of tracebacks": "import linecache, traceback\ntraceback.TracebackException = linecache.cache = None",
    "threading": "import threading\nthreading.Thread = threading.current_thread = threading._after_fork = None",
    "open": "import builtins\nbuiltins.open = None",
    "import": "import builtins\nbuiltins.__import__ = None",
    "every module": "import sys\nsys.modules.clear()",
    "no streams": "import sys\nsys.stdout = sys.stderr = None",
    "streams deleted": "import sys\ndel sys.stdout, sys.stderr",
    "low descriptors": "import os\nfor number in range(21):\n    try: os.close(number)\n    except OSError: pass",
    "signals blocked": "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))",
    "signals ignored": "import signal\nfor number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n"
    "    signal.signal(number, signal.SIG_IGN)",
    "end with its parent": "import ctypes\nctypes.CDLL(None).prctl(1, 9)",
    "no reading of it": "import ctypes\nctypes.CDLL(None).prctl(4, 0)",
    "recursion": "import sys\nsys.setrecursionlimit(50)",
    "garbage": "import gc\ngc.freeze(); gc.disable()",
    "folder that is gone": "import os\nos.mkdir('x'); os.chdir('x'); os.rmdir('/workspace/x')",
    "hook that raises": "import os\ndef hook(): raise ValueError\n"
    "os.register_at_fork(before=hook, after_in_child=hook, after_in_parent=hook)",
}
"""What the session outlives, with all that the step assigned."""

RUINED = {
    "every limit for good": "import resource\nfor kind in ('AS', 'DATA', 'NOFILE'):\n"
    "    resource.setrlimit(getattr(resource, f'RLIMIT_{kind}'), (0, 0))",
    "every descriptor": "import os\nos.closerange(0, 10_000)",
    "builtins": "import builtins\nbuiltins.len = builtins.isinstance = builtins.map = builtins.list = None",
    "encoder": "import json.encoder\njson.encoder.JSONEncoder.encode = json.encoder.JSONEncoder.iterencode = None",
    "audits": "import sys\ndef hook(*_): raise ValueError\nsys.addaudithook(hook)",
}
"""What shows at the end of the step itself."""

HANGING = "import os, time\ndef hang():\n    while True: time.sleep(1000)"
DEAD_ENDS = {
    "hook that exits": "import os\nos.register_at_fork(after_in_child=lambda: os._exit(0))",
    "hook that hangs": f"{HANGING}\nos.register_at_fork(before=hang)",
    "hook that hangs in the fork": f"{HANGING}\nos.register_at_fork(after_in_child=hang)",
    "compiler": "import sys\ndef hook(event, _):\n    if event == 'compile': raise ValueError\nsys.addaudithook(hook)",
    "finders": "import sys\nsys.meta_path = None",
}
"""What shows in no step but the next."""


@pytest.mark.parametrize("ruin", HARMLESS)
async def test_step_may_replace_or_close_what_the_worker_has_of_its_own(open_sandbox: OpenPool, ruin: str) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "kept = 1")
        outcome = await run(session, f"{HARMLESS[ruin]}\nnew = 2")
        assert (outcome.ending, outcome.notes) == (Ending.RETURNED, ()), outcome
        for _ in range(2):
            outcome = await run(session, "kept, new")
            assert (outcome.shown, outcome.notes) == ("(1, 2)", ()), outcome


async def test_limits_that_a_step_lowers_are_raised_again_and_it_says_so(open_sandbox: OpenPool) -> None:
    lower = "kind = resource.RLIMIT_NOFILE\nresource.setrlimit(kind, (3, resource.getrlimit(kind)[1]))"
    async with open_sandbox() as pool, pool.session("me") as session:
        before = await shown(session, "import resource\nresource.getrlimit(resource.RLIMIT_NOFILE)")
        outcome = await run(session, lower)
        assert outcome.ending is Ending.RETURNED
        assert outcome.notes == (
            "The limits that it lowered for its own process are as they were before: RLIMIT_NOFILE.",
        )
        assert await shown(session, "resource.getrlimit(resource.RLIMIT_NOFILE)") == before


@pytest.mark.parametrize("ruin", RUINED)
async def test_step_that_leaves_nothing_to_go_on_with_is_taken_back_and_told(open_sandbox: OpenPool, ruin: str) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "kept = 1")
        outcome = await run(session, f"kept = 2\n{RUINED[ruin]}")
        assert outcome.ending is Ending.LOST
        assert "left its own process unable to go on" in outcome.error
        assert outcome.notes == ("The session's variables are as they were before this step.",)
        outcome = await run(session, "kept")
        assert (outcome.shown, outcome.notes) == ("1", ())


async def test_step_that_leaves_all_files_open_that_it_may_is_told_so(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "kept = 1")
        outcome = await run(session, "kept, held = 2, []\nwhile True: held.append(open('/dev/null'))")
        assert "left its own process unable to go on" in outcome.error
        assert "OSError: [Errno 24] Too many open files" in outcome.error
        assert (await run(session, "kept")).shown == "1"


@pytest.mark.parametrize("ruin", DEAD_ENDS)
async def test_step_after_which_no_other_can_run_is_taken_back_and_the_next_says_so(
    open_sandbox: OpenPool, ruin: str
) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "kept = 1")
        assert (await run(session, f"kept = 2\n{DEAD_ENDS[ruin]}")).ending is Ending.RETURNED
        outcome = await run(session, "kept")
        assert outcome.shown == "1"
        assert len(outcome.notes) == 1
        assert "The step before this one was taken back" in outcome.notes[0]
        assert session.steps == ("kept = 1", "kept")
        assert (await run(session, "kept")).notes == ()


async def test_copy_of_a_session_whose_last_step_was_taken_back_is_told_too(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "kept = 1")
            await run(session, f"kept = 2\n{DEAD_ENDS['hook that exits']}")
        await pool.fork("me", "x", "y")
        for name in ("y", "x"):
            async with pool.session("me", name) as session:
                outcome = await run(session, "kept")
                assert outcome.shown == "1"
                assert "The step before this one was taken back" in outcome.notes[0]
                assert session.steps == ("kept = 1", "kept")


async def test_first_step_that_is_taken_back_leaves_a_session_without_variables(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, f"kept = 2\n{DEAD_ENDS['hook that exits']}")
        outcome = await run(session, "'kept' in globals()")
        assert outcome.shown == "False"
        assert "The step before this one was taken back" in outcome.notes[0]


async def test_call_that_ruins_its_process_is_told_why_it_failed(open_sandbox: OpenPool) -> None:
    source = "import os\ndef close() -> int:\n    os.closerange(0, 10_000)\n    return 1\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await call(session, "close", source)
        assert outcome.ending is Ending.LOST
        assert outcome.error.startswith("The call left its own process unable to go on")
        assert (await call(session, "add", ADD, first=1)).value == 2


async def test_cancelled_while_a_hook_on_forks_hangs_a_session_is_not_lost(open_sandbox: OpenPool) -> None:
    async with open_sandbox(grace_seconds=5) as pool, pool.session("me") as session:
        await run(session, "kept = 1")
        await run(session, f"{HANGING}\nos.register_at_fork(before=hang)")
        with anyio.move_on_after(0.1):
            await run(session, "kept = 2")
        assert await shown(session, "kept") in ("1", "2")


async def test_session_whose_thread_lets_no_other_run_for_seconds_is_waited_for(open_sandbox: OpenPool) -> None:
    # As a long computation in C does; `PyDLL` keeps the lock of the interpreter.
    holding = "import ctypes, sys, threading\nsys.setswitchinterval(60)\nkept = 2\n"
    holding += "threading.Timer(0.5, ctypes.PyDLL(None).sleep, [4]).start()"
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "kept = 1")
        await run(session, holding)
        await anyio.sleep(1)
        assert await shown(session, "kept") == "2"


async def test_action_whose_hook_on_forks_hangs_says_so(open_sandbox: OpenPool) -> None:
    source = f"{HANGING}\nos.register_at_fork(before=hang)\ndef give() -> int:\n    return 5\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "kept = 1")
        outcome = await call(session, "give", source)
        assert outcome.error == (
            "The call was not begun: a hook of it on forks (os.register_at_fork) or a thread lets nothing else run."
        )
        assert await shown(session, "kept") == "1"
