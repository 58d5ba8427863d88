"""Attacks by taking too much: time, memory, processes, threads, descriptors, signals."""

from __future__ import annotations

import anyio
import pytest

from dynasaur_mcp.sandbox.cgroup import find_place
from dynasaur_mcp.types import Ending
from tests.sandbox.conftest import ADD, RUNTIME, call, shown

from .conftest import Attacked

pytestmark = pytest.mark.anyio


ENDED = {
    "descriptors to the last one, kept": (
        Ending.LOST,
        "held = []\nwhile not refused(lambda: held.append(os.open('/dev/null', 0))): pass",
    ),
    "fork bomb": (
        Ending.TIMEOUT,
        "while True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    ),
    "fork bomb whose every child leaves its group": (
        Ending.TIMEOUT,
        "while True:\n    try:\n        if not os.fork(): os.setsid()\n    except OSError:\n        pass",
    ),
    "loop that ignores every signal": (
        Ending.TIMEOUT,
        "for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)\n"
        "while True:\n    pass",
    ),
    "loop that catches everything": (
        Ending.TIMEOUT,
        "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
    ),
    "sleep in C with signals blocked": (
        Ending.TIMEOUT,
        "signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))\nwhile True: libc.sleep(1000)",
    ),
    "expression that backtracks for ever": (Ending.TIMEOUT, "import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')"),
    "number that takes for ever": (Ending.TIMEOUT, "9 ** 9 ** 9"),
    "exit": (Ending.LOST, "os._exit(0)"),
    "abort": (Ending.LOST, "os.abort()"),
    "segfault": (Ending.LOST, "ctypes.string_at(0)"),
    "recursion to death": (
        Ending.LOST,
        "sys.setrecursionlimit(10**8)\nclass R:\n    def __repr__(self): return repr([self])\nrepr(R())",
    ),
    "kill of itself": (Ending.LOST, "os.kill(os.getpid(), signal.SIGKILL)"),
    "stop of everything": (
        Ending.TIMEOUT,
        "for pid in others():\n    pid == 1 or refused(os.kill, pid, signal.SIGSTOP)\nwhile True:\n    pass",
    ),
    "stop of itself": (Ending.TIMEOUT, "os.kill(os.getpid(), signal.SIGSTOP)"),
    "memory of one process": (Ending.MEMORY, "block = bytearray(2 << 30)"),
    "memory taken in small parts": (Ending.MEMORY, "parts = []\nwhile True: parts.append(bytes(1 << 16))"),
    "memory of many processes": (
        Ending.MEMORY,
        "for _ in range(8):\n    if not os.fork(): block = bytearray(100 << 20); time.sleep(60)\ntime.sleep(60)",
    ),
    "memory of processes whose first thread has ended": (
        Ending.MEMORY,
        "def take():\n    while ') Z ' not in open(f'/proc/{os.getpid()}/stat').read(): pass\n"
        "    block = bytearray(100 << 20); time.sleep(60)\n"
        "for _ in range(8):\n    if not os.fork(): threading.Thread(target=take).start(); libc.pthread_exit(None)\n"
        "time.sleep(60)",
    ),
    "memory that is shared": (
        Ending.MEMORY,
        "block = mmap.mmap(-1, 900 << 20)\nwhile True: block[::4096] = bytes(len(block) // 4096)",
    ),
    "debugger that waits": (Ending.TIMEOUT, "import threading\nthreading.Event().wait()"),
}


@pytest.mark.parametrize("attack", ENDED)
async def test_step_is_ended_and_the_session_is_as_it_was(attacked: Attacked, attack: str) -> None:
    ending, code = ENDED[attack]
    async with attacked() as target:
        outcome = await target.step(code, 1 if ending is Ending.TIMEOUT else 20)
        if ending is Ending.LOST and outcome.ending is Ending.MEMORY:
            outcome = await target.step("os._exit(0)")  # recursion may meet its memory limit before its end
        if RUNTIME == "runsc" and attack.startswith("fork bomb"):
            # Processes weigh more there: a bomb may meet the limit of memory before that of time.
            assert outcome.ending in (ending, Ending.MEMORY), outcome
        else:
            assert outcome.ending is ending, outcome
        assert "as they were before this step" in outcome.notes[0]


UNSEEN = {
    "memory that is shared and let go of": """
for _ in range(16):
    block = mmap.mmap(-1, 64 << 20)
    held = [*globals().get('held', []), block]
    for start in range(0, len(block), 1 << 20):
        block[start : start + (1 << 20)] = bytes(b'x') * (1 << 20)
        block.madvise(mmap.MADV_DONTNEED)
""",
    "socket buffers of many processes": """
def fill():
    while True:
        try:
            held.extend(pair := socket.socketpair())
            pair[0].setblocking(False)
            while pair[0].send(bytes(1 << 16)): pass
        except BlockingIOError: pass
        except OSError: return
held = []
for _ in range(12):
    if not os.fork(): fill(); time.sleep(60)
time.sleep(60)
""",
}


@pytest.mark.parametrize("attack", UNSEEN)
async def test_memory_that_no_process_shows_is_held_by_the_kernel(
    attacked: Attacked, attack: str, sandbox_name: str
) -> None:
    if RUNTIME or (sandbox_name == "jail" and not find_place().folders):
        pytest.skip("no cgroup of its own holds the sandbox's processes")
    async with attacked() as target:
        outcome = await target.step(UNSEEN[attack], 20)
        assert outcome.ending is Ending.MEMORY, outcome
        assert "as they were before this step" in outcome.notes[0]


HARMLESS = {
    "descriptors to the last one": (
        "held = []\nwhile not refused(lambda: held.append(os.open('/dev/null', 0))): pass\n"
        "for one in held: os.close(one)\nlen(held) <= 1024"
    ),
    "threads to the last one": """
held, stop = [], threading.Event()
def more():
    try:
        thread = threading.Thread(target=stop.wait); thread.start(); held.append(thread)
    except RuntimeError:
        return False
    return len(held) < 2000
while more(): pass
stop.set()
for thread in held: thread.join()
len(held) < 2000
""",
    "sockets and pipes full of data": """
held = []
def fill(descriptor):
    os.set_blocking(descriptor, False)
    try:
        while os.write(descriptor, bytes(1 << 16)): pass
    except BlockingIOError: pass
try:
    while True:
        pair = socket.socketpair(); held += pair; fill(pair[0].fileno())
        held += (ends := os.pipe()); fill(ends[1])
except OSError: pass
for one in held: one.close() if hasattr(one, 'close') else os.close(one)
True
""",
    "processes that outlive their parents": """
for _ in range(5):
    if not os.fork():
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not os.fork(): time.sleep(600)
        os._exit(0)
True
""",
    "processes whose first thread has ended": """
for _ in range(5):
    child = os.fork()
    if not child:
        threading.Thread(target=time.sleep, args=(600,)).start()
        libc.pthread_exit(None)
    while ') Z ' not in open(f'/proc/{child}/stat').read(): pass
True
""",
    "parent that waits for the end of its vfork": """
if not os.fork():
    if not libc.vfork():
        while True: libc.sleep(600)
True
""",
    "alarm and timers left behind": (
        "for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL): signal.setitimer(timer, 0.05)\nsignal.alarm(1)\nTrue"
    ),
    "signals to the supervisor": """
for number in set(signal.Signals): refused(os.kill, 1, number)
True
""",
}


@pytest.mark.parametrize("attack", HARMLESS)
async def test_step_harms_nobody(attacked: Attacked, attack: str) -> None:
    async with attacked() as target:
        assert await target.value(HARMLESS[attack]) == "True"


async def test_descriptors_under_way_between_processes_keep_nobody_else_from_starting_any(attacked: Attacked) -> None:
    if RUNTIME == "runsc":
        pytest.skip("gVisor's kernel has nobody else's processes")
    # The kernel counts them by user, and refuses more to all of that user's processes.
    code = """
def send():
    while True:
        held.append(pair := socket.socketpair())
        pair[0].setblocking(False)
        try:
            while True: socket.send_fds(pair[0], [b'x'], [0] * 250)
        except BlockingIOError: pass
held = []
print(refused(send))
time.sleep(60)
"""
    async with attacked() as target, anyio.create_task_group() as tasks:
        said: list[str] = []
        is_full = anyio.Event()

        async def attack() -> None:
            def note(_: str, text: str) -> None:
                said.append(text)
                is_full.set()

            await target.session.run(code, {}, (), timeout_seconds=90, on_output=note)
            is_full.set()

        tasks.start_soon(attack)
        await is_full.wait()
        assert said == ["True\n"]
        for _ in range(3):
            assert await shown(target.bystander, "mine") == "1"
            assert (await call(target.bystander, "add", ADD, first=1)).value == 2
        tasks.cancel_scope.cancel()
