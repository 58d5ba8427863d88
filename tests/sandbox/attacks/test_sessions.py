"""Attacks on a session: by its own step, by an action that is called in it, by another principal."""

from __future__ import annotations

import pytest

from dynasaur_mcp.types import Ending
from tests.sandbox.conftest import ADD, OpenPool, call, run, shown

from .conftest import TOOLS, Attacked

pytestmark = pytest.mark.anyio


async def test_what_a_step_replaces_does_not_reach_calls(attacked: Attacked) -> None:
    code = """
import builtins, pydantic
json.dumps = json.loads = lambda *a, **k: 'fake'
pydantic.TypeAdapter.validate_python = pydantic.BaseModel.model_validate_json = lambda *a, **k: 'fake'
for module in [module for name, module in sys.modules.items() if name.startswith('dynasaur_mcp')]:
    for name in [name for name in vars(module) if not name.startswith('__')]: setattr(module, name, None)
sys.modules['actions'] = sys.modules['actions.add'] = type(sys)('actions')
builtins.isinstance = builtins.len = lambda *_: 0
"""
    async with attacked() as target:
        # Its own process is spoilt by this, and it only.
        await target.step(code)
        assert (await call(target.session, "add", ADD, first=20, second=22)).value == 42
        await target.step("os._exit(1)")
        outcome = await target.step("1")
        if outcome.ending is not Ending.RETURNED:
            await target.session.kill()


async def test_what_a_step_leaves_for_every_python_to_load_does_not_reach_those_that_a_call_starts(
    attacked: Attacked,
) -> None:
    plant = """
import site
folder = site.getusersitepackages()
os.makedirs(folder)
for name in ('usercustomize.py', 'sitecustomize.py'): open(f'{folder}/{name}', 'w').write('print("planted")')
open(f'{folder}/planted.pth', 'w').write('import os; print("planted")')
subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True, text=True).stdout
"""
    source = """
import subprocess, sys
def start() -> str:
    return subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True, text=True).stdout
"""
    async with attacked(actions=2) as target:
        assert await target.value(plant) == repr("1\n")
        assert (await call(target.session, "start", source)).value == "1\n"


async def test_action_cannot_read_the_memory_of_the_session(attacked: Attacked) -> None:
    source = """
import os
def readable() -> int:
    count = 0
    for pid in filter(str.isdigit, os.listdir('/proc')):
        if int(pid) == os.getpid(): continue
        try:
            open(f'/proc/{pid}/mem', 'rb').close()
            count += 1
        except OSError: pass
    return count
"""
    async with attacked(actions=2) as target:
        assert (await call(target.session, "readable", source)).value == 0
        await target.step("os._exit(1)")
        assert (await call(target.session, "readable", source)).value == 0


async def test_one_principal_finds_nothing_of_another(attacked: Attacked) -> None:
    leave = """
for folder in ('/workspace', '/tmp', '/dev/shm'):
    refused(lambda: open(folder + '/left', 'w').write('TRACE'))
libc.prctl(15, b'TRACE')
marker = 'TRACE-IN-MEMORY'
open('/proc/self/comm').read().strip()
"""
    look = """
import os
found = [os.path.join(folder, name) for place in ('/workspace', '/tmp', '/dev/shm')
         for folder, _, names in os.walk(place) for name in names]
words = [open(f'/proc/{pid}/comm').read() for pid in os.listdir('/proc') if pid.isdigit()]
found, any('TRACE' in text for text in words), 'marker' in globals()
"""
    async with attacked() as target:
        assert await target.value(leave) == "'TRACE'"
        assert await shown(target.bystander, look) == "(['/workspace/mine'], False, False)"


KILLED = {
    "every process in reach": "os.kill(-1, signal.SIGKILL)\nwhile True:\n    pass",
    "the interpreter it would go back to": "os.kill(os.getppid(), signal.SIGKILL)\nos._exit(1)",
    "each by its number": (
        "for pid in [*others(), os.getpid()]:\n    pid == 1 or refused(os.kill, pid, signal.SIGKILL)"
    ),
}


@pytest.mark.parametrize("attack", KILLED)
async def test_kill_that_reaches_the_session_is_reported(attacked: Attacked, attack: str) -> None:
    async with attacked() as target:
        outcome = await target.step(KILLED[attack])
        assert outcome.ending in (Ending.LOST, Ending.TIMEOUT), outcome
        if (await target.step("before")).ending is not Ending.RETURNED:
            told = ("The session's variables are lost; its files are still there.", "The session's worker is gone")
            assert outcome.notes[0].startswith(told)
            await run(target.session, TOOLS)


async def test_branches_that_user_code_spoils_cost_no_more_than_their_files(
    attacked: Attacked, open_sandbox: OpenPool
) -> None:
    spoil = "import os\nos.chmod('.branches', 0o700)\nos.rename('.branches', 'gone')\nos.symlink('/tmp', '.branches')"
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "n = 1")
        await pool.fork("me", "x", "y")
        async with pool.session("me", "y") as session:
            await run(session, spoil)
        async with pool.session("me", "x") as session:
            outcome = await run(session, "n")
            # Either it works without its files, or its worker is honestly lost.
            assert outcome.shown == "1" or outcome.ending is Ending.LOST
        async with pool.session("me", "x") as session:
            assert await shown(session, "1 + 1") == "2"
