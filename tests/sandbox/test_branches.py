"""Sessions forked from others: each test on each sandbox."""

from __future__ import annotations

import anyio
import pytest

from dynasaur_mcp.errors import SessionExists, SessionNotCopied, SessionNotFound, SessionsFull
from dynasaur_mcp.types import Ending

from .conftest import ADD, ALIVE, RUNTIME, OpenPool, call, run, shown

pytestmark = pytest.mark.anyio

FILES = "import os; sorted(name for name in os.listdir('/workspace') if name != '.branches')"


async def test_fork_of_a_session_has_its_state_and_files_and_is_independent(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "state = {'a': 1}\nimport os\nos.mkdir('data')\nopen('data/f', 'w').write('old')")
        await pool.fork("me", "x", "y")
        async with pool.session("me", "y", create=False) as session:
            assert await shown(session, "state['a'], open('/workspace/data/f').read()") == "(1, 'old')"
            await run(session, "state['a'] = 2\nopen('data/f', 'w').write('new')\nopen('only_y', 'w').close()")
            assert session.steps[0].startswith("state = ")
        async with pool.session("me", "x") as session:
            assert await shown(session, "state['a'], open('data/f').read(), open('/workspace/data/f').read()") == (
                "(1, 'old', 'old')"
            )
            assert await shown(session, FILES) == "['data']"
            await run(session, "os.remove('data/f')")
        async with pool.session("me", "y") as session:
            assert await shown(session, "state['a'], open('data/f').read()") == "(2, 'new')"
            assert await shown(session, FILES) == "['data', 'only_y']"


async def test_fork_finds_itself_in_its_own_copy_of_the_current_folder(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "import os\nos.makedirs('a/b')\nos.chdir('a/b')")
        await pool.fork("me", "x", "y")
        for name in ("y", "x", "y"):
            async with pool.session("me", name) as session:
                assert await shown(session, "os.getcwd()") == "'/workspace/a/b'"
                await run(session, f"open('here', 'w').write({name!r})")
                assert await shown(session, "open('/workspace/a/b/here').read()") == repr(name)


async def test_steps_of_forks_commit_and_roll_back_each_by_itself(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "n = 1")
        await pool.fork("me", "x", "y")
        await pool.fork("me", "y", "z")
        async with pool.session("me", "y") as session:
            outcome = await run(session, "n = 2\nimport os\nos._exit(1)")
            assert "as they were before" in outcome.notes[0]
            await run(session, "n = 3")
        async with pool.session("me", "z") as session:
            assert (await call(session, "add", ADD, first=1)).value == 2
            assert (await run(session, "n = 9\nwhile True: pass", 0.3)).ending is Ending.TIMEOUT
            assert await shown(session, "n") == "1"
        for name, n in (("x", "1"), ("y", "3"), ("z", "1")):
            async with pool.session("me", name) as session:
                assert await shown(session, "n") == n


async def test_calls_in_a_fork_see_its_files(open_sandbox: OpenPool) -> None:
    source = "def read() -> str:\n    return open('/workspace/f').read() + open('f').read()\n"
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "open('f', 'w').write('x')")
            assert (await call(session, "read", source)).value == "xx"
        await pool.fork("me", "x", "y")
        async with pool.session("me", "y") as session:
            await run(session, "open('f', 'w').write('y')")
            assert (await call(session, "read", source)).value == "yy"
        async with pool.session("me", "x") as session:
            assert (await call(session, "read", source)).value == "xx"


async def test_fork_of_a_session_that_has_run_nothing_is_empty(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x"):
            pass
        await pool.fork("me", "x", "y")
        async with pool.session("me", "y") as session:
            assert await shown(session, "1 + 1") == "2"


async def test_session_with_threads_cannot_be_forked_and_goes_on(open_sandbox: OpenPool) -> None:
    code = "import threading\nstop = threading.Event()\nthreading.Thread(target=stop.wait, daemon=True).start()\nn = 5"
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, code)
        with pytest.raises(SessionNotCopied, match="'x' cannot be copied: it keeps threads running"):
            await pool.fork("me", "x", "y")
        assert pool.session_names("me") == ["x"]
        async with pool.session("me", "x") as session:
            assert await shown(session, "n") == "5"
            assert await shown(session, FILES) == "[]"


async def test_workspace_with_no_room_for_its_copy_is_not_forked_and_keeps_its_files(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "open('big', 'wb').write(bytes(20 << 20))")
        with pytest.raises(SessionNotCopied, match="its files cannot be copied"):
            await pool.fork("me", "x", "y")
        async with pool.session("me", "x") as session:
            assert await shown(session, "import os; os.path.getsize('big')") == str(20 << 20)
            # What the copy had filled is free again.
            assert await shown(session, "open('other', 'wb').write(bytes(8 << 20))") == str(8 << 20)


async def test_links_sockets_and_locked_folders_do_not_keep_a_session_from_being_forked(
    open_sandbox: OpenPool,
) -> None:
    code = """
import os, socket
socket.socket(socket.AF_UNIX).bind('pipe'); os.symlink('/proc/1/environ', 'link'); os.symlink('loop', 'loop')
os.mkdir('locked'); open('locked/f', 'w').write('in'); os.chmod('locked', 0o500)
open('a\\nb', 'w').write('odd')
"""
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            assert (await run(session, code)).ending is Ending.RETURNED
        await pool.fork("me", "x", "y")
        expected = {"x": "['a\\nb', 'link', 'locked', 'loop', 'pipe']", "y": "['a\\nb', 'link', 'locked', 'loop']"}
        for name in ("y", "x", "y"):
            async with pool.session("me", name) as session:
                assert await shown(session, FILES) == expected[name]
                assert await shown(session, "oct(os.stat('locked').st_mode), open('locked/f').read()") == (
                    "('0o40500', 'in')"
                )


async def test_more_copies_than_a_worker_has_room_for_are_refused_and_cost_no_other(open_sandbox: OpenPool) -> None:
    async with open_sandbox(sessions=100, processes=24) as pool:
        async with pool.session("me", "0") as session:
            await run(session, "n = 1")
        with pytest.raises(SessionNotCopied, match="'0' cannot be copied: its worker has 6 sessions"):  # noqa: PT012
            for number in range(1, 100):
                await pool.fork("me", "0", str(number))
        assert pool.session_names("me") == ["0", "1", "2", "3", "4", "5"]
        for name in pool.session_names("me"):
            async with pool.session("me", name) as session:
                for action in (f"add_{name}", f"also_{name}"):
                    assert (await call(session, action, ADD.replace("add", action), first=1)).value == 2
                assert await shown(session, "n") == "1"


async def test_threads_that_leave_room_for_no_process_cost_the_session_nothing(open_sandbox: OpenPool) -> None:
    code = """
import threading
ended, threads, kept = threading.Event(), [], 1
threading.stack_size(1 << 18)
try:
    for _ in range(64):
        thread = threading.Thread(target=ended.wait, daemon=True)
        thread.start()
        threads.append(thread)
except RuntimeError:
    pass
"""
    async with open_sandbox(processes=32) as pool, pool.session("me") as session:
        assert (await run(session, code)).ending is Ending.RETURNED
        for _ in range(2):
            outcome = await call(session, "add", ADD, first=1)
            assert outcome.value == 2 or "was not begun: its worker has all the processes" in outcome.error, outcome
        assert await shown(session, "ended.set()\nfor thread in threads: thread.join()\nkept") == "1"
        assert (await call(session, "add", ADD, first=1)).value == 2
        assert await shown(session, "kept") == "1"


async def test_fork_needs_a_session_to_fork_a_free_name_and_room(open_sandbox: OpenPool) -> None:
    async with open_sandbox(sessions=2) as pool:
        with pytest.raises(SessionNotFound, match="'x'"):
            await pool.fork("me", "x", "y")
        for name in ("x", "y"):
            async with pool.session("me", name) as session:
                await run(session, "1")
        with pytest.raises(SessionExists, match="'y' is open"):
            await pool.fork("me", "x", "y")
        with pytest.raises(SessionsFull, match="you hold 'x', 'y'"):
            await pool.fork("me", "x", "z")
        with pytest.raises(SessionsFull, match="others hold 2"):
            async with pool.session("you"):
                pass


async def test_closed_fork_leaves_the_other_as_it_is(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "n = 1\nimport os\nos.makedirs('d/e')\nopen('d/e/f', 'wb').write(bytes(9 << 20))")
            before = int(await shown(session, ALIVE))
        for closed, kept in (("y", "x"), ("x", "z")):
            await pool.fork("me", "x", kept) if kept != "x" else await pool.fork("me", "x", "y")
            await pool.close_session("me", closed)
            async with pool.session("me", kept) as session:
                assert await shown(session, "n, os.path.getsize('/workspace/d/e/f')") == f"(1, {9 << 20})"
                assert int(await shown(session, ALIVE)) == before
        assert pool.session_names("me") == ["z"]
        async with pool.session("me", "z") as session:
            assert await shown(session, "open('more', 'wb').write(bytes(20 << 20))") == str(20 << 20)


async def test_closed_fork_leaves_nothing_however_deep_its_folders_lie(open_sandbox: OpenPool) -> None:
    code = """
import os
folder = os.open('/workspace', os.O_RDONLY)
for _ in range(2000):
    os.mkdir('deep', dir_fd=folder)
    outer, folder = folder, os.open('deep', os.O_RDONLY, dir_fd=folder)
    os.close(outer)
with open(os.open('big', os.O_CREAT | os.O_WRONLY, dir_fd=folder), 'wb') as file: file.write(bytes(20 << 20))
os.mkdir('locked', 0, dir_fd=folder)
"""
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "n = 1")
        await pool.fork("me", "x", "y")
        async with pool.session("me", "y") as session:
            assert (await run(session, code)).ending is Ending.RETURNED
        await pool.close_session("me", "y")
        async with pool.session("me", "x") as session:
            assert await shown(session, "open('other', 'wb').write(bytes(20 << 20))") == str(20 << 20)


async def test_copy_that_memory_may_not_hold_is_refused_and_costs_nothing(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "data = bytearray(150 << 20)")
        with pytest.raises(SessionNotCopied, match=r"its variables take 1\d\d MiB, and a copy"):
            await pool.fork("me", "x", "y")
        async with pool.session("me", "x") as session:
            assert await shown(session, "len(data)") == str(150 << 20)
            await run(session, "del data\nkept = 1")
        await pool.fork("me", "x", "y")
        async with pool.session("me", "y") as session:
            assert await shown(session, "kept") == "1"


async def test_copies_that_grow_apart_past_their_memory_keep_what_they_had(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "data = bytearray(100 << 20)")
        await pool.fork("me", "x", "y")
        async with pool.session("me", "x") as session:
            outcome = await run(session, "more = bytearray(75 << 20)")
            if RUNTIME != "runsc":  # there what they share can be told
                assert outcome.ending is Ending.MEMORY
                assert "with what the sessions hold that were forked from one another" in outcome.error
        await anyio.sleep(1)  # in which the worker looks at what it uses
        for name in ("x", "y"):
            async with pool.session("me", name) as session:
                assert await shown(session, "import time\ntime.sleep(0.2)\nlen(data)") == str(100 << 20)


async def test_actions_that_wait_for_their_next_call_take_no_room_from_copies(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "data = bytearray(55 << 20)")
        for copy in ("y", "z"):
            await pool.fork("me", "x", copy)
        async with pool.session("me", "x") as session:
            for name in ("give_a", "give_b"):
                await call(session, name, f"data = bytearray(20 << 20)\ndef {name}() -> int: return len(data)")
            assert await shown(session, "more = bytearray(50 << 20)\nlen(more)") == str(50 << 20)


async def test_thread_that_takes_memory_between_steps_ends_its_own_session_alone(open_sandbox: OpenPool) -> None:
    code = """
import threading, time
taken = []
def take():
    while True: taken.append(b'x' * (1 << 20))
threading.Timer(0.5, take).start()
"""
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "kept = b'x' * (60 << 20)")
        await pool.fork("me", "x", "y")
        async with pool.session("me", "y") as session:
            assert (await run(session, code)).ending is Ending.RETURNED
        for _ in range(60):
            await anyio.sleep(1)
            if not {one.name: one.memory_bytes for one in await pool.held()}["y"]:
                break
        async with pool.session("me", "y") as session:
            assert "The session's variables are lost; its files are still there." in (await run(session, "1")).notes
        async with pool.session("me", "x") as session:
            assert await shown(session, "len(kept)") == str(60 << 20)
