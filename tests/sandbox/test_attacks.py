"""Attacks on the sandbox. Each is run on every sandbox, must be contained, and must leave nothing.

`attacked` sees to the second half for every one of them: the session answers as before, or its loss was said; another
principal's session never noticed; no process is left in the worker, none and no container outside when the pool is
closed; the server has no descriptor and the machine no file that it had not before.

One file, as what is asked of it is whether an attack is in it: by kind, from taking too much to files taken out.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from dynasaur_mcp.errors import ArgumentsInvalid, FileRefused
from dynasaur_mcp.sandbox.cgroup import find_place
from dynasaur_mcp.sandbox.container import HOME_LABEL
from dynasaur_mcp.sandbox.engine import connect
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.session import Session
from dynasaur_mcp.types import Ending, Outcome
from tests.sandbox.conftest import ADD, ALIVE, RUNTIME, OpenPool, call, run, shown

pytestmark = pytest.mark.anyio

SECRET = "a-secret-of-the-server-51423"

TOOLS = """
import ctypes, errno, json, mmap, os, platform, resource, signal, socket, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def refused(do, *arguments):
    try:
        do(*arguments)
    except (OSError, ValueError) as error:
        return True
    return False
def others():
    return [int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]
def raw(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(*map(ctypes.c_long, (number, *arguments)))
    return 'allowed' if result != -1 else errno.errorcode[ctypes.get_errno()]
before = 'kept'
"""


@dataclass(frozen=True)
class Target:
    """What an attack is let loose on."""

    session: Session
    bystander: Session

    async def step(self, code: str, seconds: float = 2) -> Outcome:
        return await self.session.run(code, {}, (), timeout_seconds=seconds)

    async def value(self, code: str, seconds: float = 20) -> str:
        outcome = await self.step(code, seconds)
        assert outcome.ending is Ending.RETURNED, outcome
        return outcome.shown


Attacked = Callable[..., AbstractAsyncContextManager[Target]]


@pytest.fixture
def attacked(open_sandbox: OpenPool, sandbox_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attacked:
    monkeypatch.setenv("API_KEY", SECRET)

    # A temporary folder of the server's own: others use the machine's too.
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    @asynccontextmanager
    async def attacked(actions: int = 1, **limits: Any) -> AsyncIterator[Target]:
        files, descriptors, children = list_files(tmp_path), list_descriptors(), list_children()
        async with open_sandbox(**limits) as pool:
            async with pool.session("me") as session, pool.session("you") as bystander:
                await run(bystander, "mine = 1\nopen('mine', 'w').write('1')")
                await run(session, TOOLS)
                # Each action that is called has a zygote, and that a fork for its next call.
                assert (await call(session, "add", ADD, first=1)).value == 2
                inside = int(await shown(session, ALIVE)) + 2 * (actions - 1)
                yield Target(session, bystander)
                if not session.is_lost:
                    outcome = await run(session, "before")
                    if outcome.ending is Ending.RAISED:  # its loss was said when it happened
                        await run(session, TOOLS)
                    else:
                        assert outcome.shown == "'kept'", outcome
                if not session.is_lost:
                    assert (await call(session, "add", ADD, first=1)).value == 2
                    assert int(await shown(session, ALIVE)) <= inside
                assert await shown(bystander, "mine, open('mine').read()") == "(1, '1')"
            async with pool.session("me") as session:
                assert (await call(session, "add", ADD, first=1)).value == 2
        assert list_children() == children
        assert list_files(tmp_path) == files
        assert list_descriptors() <= descriptors
        if sandbox_name == "docker":
            assert list_containers(tmp_path) == []

    return attacked


def list_files(tmp_path: Path) -> set[str]:
    """What the server may write to, but packages and signs of life."""
    return {str(path) for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "cache")}


def list_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def list_children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def list_containers(tmp_path: Path) -> list[str]:
    client = connect()
    try:
        home = Presence(tmp_path / "cache" / "servers").home
        return [one["Id"] for one in client.containers(all=True, filters={"label": f"{HOME_LABEL}={home}"})]
    finally:
        client.close()


# Attacks by taking too much: time, memory, processes, threads, descriptors, signals.

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
        "import faulthandler\nfaulthandler._stack_overflow()",  # Python's own has an end, from 3.12 on
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
    "talk with the supervisor that has no end": (
        Ending.TIMEOUT,
        "body = json.dumps({'phase': 'x'}).encode()\nframes = (struct.pack('>I', len(body)) + body) * 5000\n"
        "for number in range(3, 1024):\n    try: channel = socket.socket(fileno=number)\n    except OSError: pass\n"
        "while True:\n    try: channel.sendall(frames)\n    except BaseException: pass",
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


# Attacks on the disk, which is to fill, or to keep a core.

DISKS = {
    "one large file": "with open(F, 'wb') as file:\n    while True: file.write(bytes(1 << 20))",
    "many files": (
        "import itertools\nfor number in itertools.count():\n"
        "    with open(F + str(number), 'wb') as file: file.write(bytes(1 << 20))"
    ),
    "a file that is written, open and removed": (
        "file = open(F, 'wb'); os.unlink(F)\nwhile True: file.write(bytes(1 << 20)); file.flush()"
    ),
    "a mapped file": (
        "file = open(F, 'wb+'); file.truncate(900 << 20)\nblock = mmap.mmap(file.fileno(), 900 << 20)\n"
        "for at in range(0, 900 << 20, 4096): block[at] = 1"
    ),
}


@pytest.mark.parametrize("folder", ["/workspace", "/tmp", "/dev/shm"])
@pytest.mark.parametrize("attack", DISKS)
async def test_disk_is_filled_for_the_one_who_fills_it_only(attacked: Attacked, attack: str, folder: str) -> None:
    async with attacked() as target:
        code = f"os.mkdir({folder!r} + '/full')\nF = {folder!r} + '/full/f'\n{DISKS[attack]}"
        outcome = await target.step(code, 20)
        # SIGBUS ends who touches a page for which there is no room.
        assert outcome.ending in (Ending.RAISED, Ending.MEMORY, Ending.LOST), outcome
        if outcome.ending is Ending.RAISED:
            assert any(f"Errno {number}]" in outcome.error for number in (27, 28, 13, 2)), outcome
        # What it holds open is its own too.
        await target.step(
            f"file = block = None; import shutil; shutil.rmtree({folder!r} + '/full', ignore_errors=True)"
        )
        assert await target.value("open('/workspace/f', 'wb').write(bytes(1 << 20))") == str(1 << 20)


@pytest.mark.parametrize("folder", ["/workspace", "/tmp", "/dev/shm"])
async def test_empty_files_are_bounded_too_and_can_be_removed(attacked: Attacked, folder: str) -> None:
    if RUNTIME == "runsc":
        pytest.skip("gVisor keeps files in its own memory, and makes a thousand a second")
    code = """
os.mkdir('many')
number = 0
while True:
    number += 1
    os.close(os.open(f'many/{number}', os.O_CREAT | os.O_WRONLY))
"""
    async with attacked() as target:
        await target.value(f"os.chdir({folder!r})")
        outcome = await target.step(code, 60)
        assert outcome.ending is Ending.MEMORY, outcome
        assert await target.value("len(os.listdir('many')) < 200_000") == "True"
        assert await target.value("import shutil; shutil.rmtree('many'); os.path.exists('many')", 60) == "False"
        assert await target.value("os.mkdir('again'); True") == "True"


async def test_core_is_dumped_nowhere(attacked: Attacked) -> None:
    async with attacked() as target:
        assert (await target.step("os.chdir('/workspace'); os.abort()")).ending is Ending.LOST
        assert await target.value("[name for name in os.listdir('/workspace') if 'core' in name]") == "[]"


# Attacks by reaching for what is not the code's own: of the server, its supervisor, the kernel, the host.

NOT_ALLOWED = {
    "environment of the server": f"""
def environments():
    for pid in [1, *others(), os.getpid()]:
        try:
            yield open(f'/proc/{{pid}}/environ').read()
        except OSError: pass
[not any({SECRET!r} in text for text in environments()), GVISOR or refused(lambda: open('/proc/1/environ').read()),
 'API_KEY' not in os.environ]
""",
    "memory and descriptors of the supervisor": """
def is_for_prints(number):
    return os.readlink(f'/proc/1/fd/{number}').startswith(('pipe:', '/dev/null'))
numbers = [n for n in range(64) if not (GVISOR and os.path.lexists(f'/proc/1/fd/{n}') and is_for_prints(n))]
[refused(open, '/proc/1/mem', 'rb'), all(refused(open, f'/proc/1/fd/{number}', 'wb') for number in numbers),
 GVISOR or refused(os.listdir, '/proc/1/fd'), refused(os.readlink, '/proc/1/cwd'), refused(os.readlink, '/proc/1/exe'),
 GVISOR or refused(lambda: open('/proc/1/maps').read())]
""",
    "memory of zygotes": """
def is_readable(pid):
    try:
        open(f'/proc/{pid}/mem', 'rb').close()
        return 'zombie' not in open(f'/proc/{pid}/status').read()
    except OSError:
        return False
[not any(is_readable(pid) for pid in others() if pid != os.getppid())]
""",
    "what cannot be written": """
places = '/ /etc /usr /usr/lib /bin /opt /opt/worker /packages /root /home /var /dev /proc /sys'.split()
[refused(open, f'{place}/x', 'w') for place in places if os.path.isdir(place)] + [
 refused(open, path, 'w') for path in (sys.executable, os.__file__, '/etc/passwd', '/proc/sys/kernel/core_pattern',
 '/proc/sys/vm/overcommit_memory', '/proc/sysrq-trigger', '/sys/kernel/mm/ksm/run', '/proc/1/oom_score_adj')]
""",
    "any other place to write to": """
def writable():
    for folder, names, _ in os.walk('/'):
        if folder.startswith(('/proc', '/sys', '/workspace', '/tmp', '/dev/shm')):
            names[:] = []
        elif not refused(lambda: os.close(os.open(folder + '/x', os.O_CREAT | os.O_WRONLY))):
            yield folder
[list(writable()) == []]
""",
    "devices and pipes by name": """
disks = ('sd', 'vd', 'nvme', 'kvm', 'mem', 'kmsg', 'loop', 'fuse')
refused(os.mknod, '/workspace/disk', 0o60600, os.makedev(8, 0))
refused(os.mknod, '/tmp/memory', 0o20600, os.makedev(1, 1))
[refused(open, '/workspace/disk', 'rb'), refused(open, '/tmp/memory', 'rb'),
 GVISOR or not [name for name in os.listdir('/dev') if name.startswith(disks)]]
""",
    "rights it does not have": """
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
[os.getuid() != 0, os.geteuid() != 0, int(status['CapEff'], 16) == 0, int(status['CapPrm'], 16) == 0,
 refused(os.setuid, 0), refused(os.setgid, 0), refused(os.chown, '/workspace', 0, 0),
 refused(os.chroot, '/tmp'), GVISOR or refused(os.nice, -5), libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0) == -1,
 libc.umount2(b'/proc', 0) == -1, refused(socket.socket, socket.AF_PACKET, socket.SOCK_RAW),
 refused(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)]
""",
    "larger limits": """
def be_spared():
    with open('/proc/self/oom_score_adj', 'w') as file: file.write('-500')
def raised(kind):
    soft, hard = resource.getrlimit(kind)
    return hard == resource.RLIM_INFINITY or refused(resource.setrlimit, kind, (soft, hard + 1))
[resource.getrlimit(resource.RLIMIT_CORE) == (0, 0), raised(resource.RLIMIT_CORE), raised(resource.RLIMIT_NOFILE),
 raised(resource.RLIMIT_FSIZE), raised(resource.RLIMIT_DATA), GVISOR or refused(be_spared),
 resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= 1024]
""",
    "turn and limits of the supervisor": """
def limit():
    resource.prlimit(1, resource.RLIMIT_NOFILE, (4, 4))
def yield_group():
    with open('/proc/self/autogroup', 'w') as file: file.write('19')
def of_supervisor(name):
    return open(f'/proc/1/{name}').read() if os.path.exists(f'/proc/1/{name}') else ''
before_it = of_supervisor('autogroup')
refused(yield_group)
[GVISOR or refused(os.setpriority, os.PRIO_PROCESS, 1, 19), GVISOR or refused(os.setpriority, os.PRIO_USER, 0, 19),
 GVISOR or refused(os.setpriority, os.PRIO_PGRP, 0, 19), GVISOR or refused(limit),
 of_supervisor('autogroup') == before_it, GVISOR or of_supervisor('stat').rpartition(')')[2].split()[16] == '0']
""",
    "programs with another's rights": """
import stat
def privileged():
    for folder, names, files in os.walk('/'):
        if folder in ('/proc', '/sys'): names[:] = []
        for path in (os.path.join(folder, name) for name in files):
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID): yield path
[all(os.statvfs(path).f_flag & os.ST_NOSUID for path in privileged()),
 GVISOR or 'NoNewPrivs:\\t1' in open('/proc/self/status').read()]
""",
    "network": """
def connect(family, address):
    with socket.socket(family) as one:
        one.settimeout(1)
        one.connect(address)
hosts = {'127.0.0.1': PORT, '127.0.0.2': PORT, '169.254.169.254': 80, '10.0.0.1': 80, '172.17.0.1': PORT}
[refused(connect, socket.AF_INET, address) for address in hosts.items()] + [
 refused(connect, socket.AF_INET6, ('::1', PORT)), refused(connect, socket.AF_UNIX, '\\0' + NAME),
 refused(socket.getaddrinfo, 'example.org', 80), [name for _, name in socket.if_nameindex()] == ['lo']]
""",
    "files of the host": """
places = [HOME + '/.ssh', HOME + '/.docker', LIBRARY, '/etc/ssh', '/var/lib/docker']
[not os.path.exists(path) for path in (*places, '/var/run/docker.sock', '/run/docker.sock')] + [
 refused(lambda: open('/etc/shadow').read()),
 not any('docker.sock' in line for line in open('/proc/self/mountinfo')) ]
""",
}


@pytest.fixture
def listeners() -> Iterator[tuple[int, str]]:
    """Of the host: a port, and a name without a file."""
    with socket.socket() as port, socket.socket(socket.AF_UNIX) as name:
        port.bind(("0.0.0.0", 0))
        port.listen()
        # Chosen by the kernel, as the port is: several runs share a machine.
        name.bind("")
        name.listen()
        yield port.getsockname()[1], name.getsockname().decode()[1:]


@pytest.mark.parametrize("attack", NOT_ALLOWED)
async def test_sandbox_gives_no_access_to(
    attacked: Attacked, attack: str, tmp_path: Path, listeners: tuple[int, str]
) -> None:
    names: dict[str, object] = {
        "PORT": listeners[0],
        "NAME": listeners[1],
        "HOME": str(Path.home()),
        "LIBRARY": str(tmp_path),
    }
    # Its kernel is the sandbox's own: what it shows of itself, and nice, are nobody else's.
    names["GVISOR"] = RUNTIME == "runsc"
    head = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    async with attacked() as target:
        answers = await target.value(head + NOT_ALLOWED[attack])
        assert "False" not in answers, answers
        assert "True" in answers


async def test_kernel_has_no_door_that_is_open(attacked: Attacked) -> None:
    if RUNTIME == "runsc":
        pytest.skip("gVisor answers with a kernel of its own")
    code = """
x86 = platform.machine() == 'x86_64'
doors = {
    'ptrace': (101 if x86 else 117, 0), 'process_vm_readv': (310 if x86 else 270, 1, 0, 0, 0, 0, 0),
    'unshare': (272 if x86 else 97, 0x10000000), 'setns': (308 if x86 else 268, 0, 0),
    'clone into a user namespace': (56 if x86 else 220, 0x10000011, 0, 0, 0, 0),
    'mount': (165 if x86 else 40, 0, 0, 0, 0, 0), 'pivot_root': (155 if x86 else 41, 0, 0),
    'chroot': (161 if x86 else 51, 0),
    'keyctl': (250 if x86 else 219, 0, -3, 1), 'add_key': (248 if x86 else 217, 0, 0, 0, 0, -3),
    'bpf': (321 if x86 else 280, 0, 0, 0), 'perf_event_open': (298 if x86 else 241, 0, 0, -1, -1, 0),
    'userfaultfd': (323 if x86 else 282, 1), 'io_uring_setup': (425, 1, 0), 'memfd_create': (319 if x86 else 279, 0, 0),
    'open_by_handle_at': (304 if x86 else 265, 0, 0, 0), 'personality': (135 if x86 else 92, 0x0040000),
    'sched_setaffinity': (203 if x86 else 122, 0, 8, 0), 'init_module': (175 if x86 else 105, 0, 0, 0),
    'kexec_load': (246 if x86 else 104, 0, 0, 0, 0), 'reboot': (169 if x86 else 142, 0, 0, 0, 0),
    'settimeofday': (164 if x86 else 170, 0, 0), 'shmget': (29 if x86 else 194, 0, 4096, 0o1600),
    'vsock': (41 if x86 else 198, 40, 1, 0),
}
{name: raw(*words) for name, words in doors.items()}
"""
    async with attacked() as target:
        answers = (await target.value(code)).replace("EAFNOSUPPORT", "EPERM")
        assert answers.count("EPERM") == answers.count(": "), answers


# Attacks on a session: by its own step, by an action that is called in it, by another principal.


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


# Attacks by what code gives back: floods, results too large or too deep, forged frames, false results.

FLOODS = {
    "stdout": "line = 'x' * 999_999\nfor _ in range(50): print(line)\n'done'",
    "stderr": "line = 'x' * 999_999\nfor _ in range(50): print(line, file=sys.stderr)\n'done'",
    "bytes past Python": "for _ in range(800): os.write(1, b'\\xff\\x00' * 32768)\n'done'",
    "output of a child": "subprocess.run([sys.executable, '-c', 'for _ in range(500): print(\"y\" * 99999)'])\n'done'",
}


@pytest.mark.parametrize("attack", FLOODS)
async def test_flood_of_output_is_capped(attacked: Attacked, attack: str) -> None:
    async with attacked(output_bytes=10_000) as target:
        outcome = await target.step(FLOODS[attack], 30)
        assert outcome.shown == "'done'", outcome
        assert len(outcome.stdout) + len(outcome.stderr) <= 10_000
        assert outcome.dropped_bytes > 40_000_000


async def test_large_and_deep_results_are_refused_or_cut(attacked: Attacked) -> None:
    big = "def give() -> str:\n    return 'x' * 30_000_000\n"
    deep = "def give() -> list:\n    value: list = []\n    for _ in range(100_000): value = [value]\n    return value\n"
    async with attacked(actions=3) as target:
        assert (await call(target.session, "give", big)).ending is Ending.OUTPUT
        assert (await call(target.session, "give", deep)).ending in (Ending.RAISED, Ending.LOST)
        assert len(await target.value("'x' * 30_000_000")) < 1 << 20
        await target.step("class D:\n    def __repr__(self): return 'x' * 10**8\nD()", 20)
        await target.step("value = []\nfor _ in range(100_000): value = [value]\nvalue", 20)


FORGED = {
    "to the server's own channel": (
        "body = json.dumps({'id': 1, 'done': {'ending': 'returned', 'shown': 'FORGED'}}).encode()\n"
        "frame = struct.pack('>I', len(body)) + body\n"
        "for number in range(1024): refused(os.write, number, frame)\n"
        "for pid in others():\n"
        "    for number in range(32):\n"
        "        def write():\n"
        "            with open(f'/proc/{pid}/fd/{number}', 'wb', buffering=0) as file: file.write(frame)\n"
        "        refused(write)\n"
    ),
    "as garbage": "for number in range(3, 1024): refused(os.write, number, b'\\xff' * 100)\n",
    "of no use to anybody": "for number in range(3, 1024): refused(os.write, number, struct.pack('>I', 1 << 31))\n",
}


@pytest.mark.parametrize("attack", FORGED)
async def test_forged_frames_end_at_most_their_own_step(attacked: Attacked, attack: str) -> None:
    async with attacked() as target:
        # What its own step is said to have given it may choose; nothing else.
        await target.step(FORGED[attack] + "'real'", 5)
        outcome = await target.step("40 + 2")
        assert outcome.shown == "42" or outcome.notes[0].startswith("The session's variables are lost"), outcome
        await run(target.session, TOOLS)
        assert (await call(target.session, "add", ADD, first=41)).value == 42


FAKE_DONE = """
import stat
def finish(**done):
    body = json.dumps({"done": done}).encode()
    for number in map(int, os.listdir('/proc/self/fd')):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                socket.socket(fileno=number).sendall(struct.pack(">I", len(body)) + body)
        except OSError: pass
"""


@pytest.mark.parametrize(
    "done",
    [
        "ending='misfit'",
        "ending='unknown'",
        "ending='returned', value=float('nan')",
        "ending='x', a='y' * (16 * 2**20 - 60)",
        "ending='returned', value=[[]] * 800_000",
        "ending='returned', shown='y' * (9 * 2**20)",
    ],
    ids=["misfit", "unknown", "not a number", "at the cap", "value over its cap", "text over its cap"],
)
async def test_false_result_ends_its_own_step_only(attacked: Attacked, done: str) -> None:
    async with attacked() as target:
        outcome = await target.step(f"{FAKE_DONE}\nfinish({done})")
        assert outcome.ending is Ending.LOST
        assert not target.session.is_lost


@pytest.mark.parametrize(
    "done",
    [
        "images=[{'mime_type': 'image/png', 'base64': 'AAAA'}] * 5",
        "images=[{'mime_type': 'image/png', 'base64': 'A' * (2 * 2**20)}]",
        "files=[{'path': 'a', 'size_bytes': 1}] * 51",
        "shown='y' * 2**20",
    ],
    ids=["pictures", "a large picture", "files", "text"],
)
async def test_more_than_any_job_gives_is_never_taken_over(attacked: Attacked, done: str) -> None:
    async with attacked() as target:
        outcome = await target.step(f"{FAKE_DONE}\nfinish(ending='returned', {done})")
        assert outcome.ending is Ending.LOST
        assert (outcome.images, outcome.files, outcome.shown) == ((), (), "")


async def test_false_misfits_fit_a_message(attacked: Attacked) -> None:
    source = f"import json, os, socket, struct\n{FAKE_DONE}\ndef give() -> None:\n    "
    source += "finish(ending='misfit', misfits=%s)\n"
    async with attacked(actions=3) as target:
        for misfits in ("['x'] * 300_000", "['x' * 1_000_000]"):
            with pytest.raises(ArgumentsInvalid) as refused:
                await call(target.session, "give", source % misfits)
            assert len(str(refused.value)) < 600_000


@pytest.mark.parametrize(
    "done",
    [
        "ending='returned', taken_back=True",
        "ending='returned', session_lost=True",
        "ending='raised', overran=True, killed=True",
        "ending='gone'",
        "ending='full'",
        "ending='timeout'",
    ],
    ids=["step before undone", "session lost", "overrun", "packages gone", "no room", "time over"],
)
async def test_what_becomes_of_a_session_is_not_for_its_steps_to_say(attacked: Attacked, done: str) -> None:
    async with attacked() as target:
        await target.step("def f() -> int: return 2")
        steps = target.session.steps
        outcome = await target.step(f"{FAKE_DONE}\nfinish({done})")
        said = " ".join((outcome.error, *outcome.notes))
        assert not any(word in said for word in ("taken back", "are lost", "was stopped", "not begun")), said
        assert target.session.steps[: len(steps)] == steps
        assert await target.value("f()") == "2"


@pytest.mark.parametrize(
    "schema",
    [
        "{'type': 'object', 'properties': {'a': {'$ref': 'http://127.0.0.1:1/'}}}",
        "{'type': 'object', 'properties': {'default': {'$ref': 'http://127.0.0.1:1/'}}}",
        "{'type': 'object', '$schema': 'http://127.0.0.1:1/'}",
        "{'type': 'string'}",
        "{'type': 'object', 'properties': {'a': {'description': 'x' * 200_000}}}",
    ],
    ids=["a reference", "a reference of a name", "another dialect", "no object", "a large one"],
)
async def test_false_schemas_are_never_taken_over(open_sandbox: OpenPool, schema: str) -> None:
    forged = f"import json, os, socket, struct\n{FAKE_DONE}\nschema = {schema}\n"
    forged += (
        "finish(ending='returned', passed=1, schemas={'input': schema, 'output': schema, 'wraps_result': False})\n"
    )
    async with open_sandbox() as pool:
        check = await pool.workers.check("add", {"add": f"{forged}\n{ADD}"}, ())
        assert check.schemas is None
        assert [str(problem)[:18] for problem in check.problems] == ["Importing it ended"]
        assert (await pool.workers.check("add", {"add": ADD}, ())).schemas is not None


# Attacks by files that are taken out of a workspace, or are put into it.

TAKEN = """
os.mkdir('d'); os.symlink('/etc/passwd', 'link'); os.symlink('/', 'root'); os.symlink('loop', 'loop')
socket.socket(socket.AF_UNIX).bind('socket')
open('a\\nb', 'w').write('odd'); open('real', 'w').write('real'); os.link('real', 'd/hard')
refused(os.mkfifo, 'pipe')
sorted(os.listdir('.'))
"""


async def test_files_taken_out_are_the_workspaces_own(attacked: Attacked) -> None:
    async with attacked() as target:
        await target.value(TAKEN)
        files = target.session.files
        for path in (
            "link",
            "root/etc/passwd",
            "loop",
            "socket",
            "pipe",
            "../etc/passwd",
            "/etc/passwd",
            "d/../../etc/passwd",
        ):
            with pytest.raises(FileRefused):
                await files.read(path)
        assert (await files.read("a\nb")).data == b"odd"
        assert (await files.read("d/hard")).data == b"real"
        kinds = {item.name: item.kind for item in (await files.list()).items}
        assert kinds.pop("pipe", "other") == "other"  # only gVisor lets it be made
        assert kinds == {"a\nb": "file", "d": "folder", "real": "file"} | dict.fromkeys(
            ("link", "root", "loop", "socket"), "other"
        )


async def test_archive_with_hostile_entries_unpacks_within_the_sandbox(attacked: Attacked) -> None:
    import io
    import tarfile

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, kind, link in (
            ("../../escaped", tarfile.REGTYPE, ""),
            ("/tmp/absolute", tarfile.REGTYPE, ""),
            ("link", tarfile.SYMTYPE, "/etc"),
            ("link/passwd", tarfile.REGTYPE, ""),
            ("device", tarfile.BLKTYPE, ""),
            ("pipe", tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            archive.addfile(member)

    async def pieces() -> AsyncIterator[bytes]:
        yield packed.getvalue()

    code = """
import tarfile
with tarfile.open('hostile.tar') as archive:
    for member in archive:
        refused(lambda: archive.extract(member, '/workspace/out'))
refused(lambda: open('/etc/passwd', 'a')), os.path.exists('/escaped')
"""
    async with attacked() as target:
        await target.session.files.write("hostile.tar", pieces())
        assert await target.value(code) == "(True, False)"
        listed = {item.name: item.kind for item in (await target.session.files.list("out")).items}
        # gVisor lets anybody make nodes, which lead to no device of the host.
        nodes = {"device", "pipe"} if RUNTIME == "runsc" else set()
        assert {name for name, kind in listed.items() if kind != "other"} == set()
        assert set(listed) <= {"link"} | nodes
