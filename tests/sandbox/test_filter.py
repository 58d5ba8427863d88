"""The system call filter of docker/seccomp.json, in every sandbox. gVisor ignores it: see test_gvisor."""

from __future__ import annotations

import json
import platform
import struct

import pytest

from dynasaur_mcp.sandbox.seccomp import build_filter, profile_text, read_numbers
from dynasaur_mcp.types import Ending

from .conftest import OpenPool

pytestmark = pytest.mark.anyio

NAMED = """
ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp unshare setns mount umount2 chroot pivot_root
open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr add_key request_key keyctl bpf perf_event_open
userfaultfd io_uring_setup io_uring_enter io_uring_register name_to_handle_at open_by_handle_at memfd_create
memfd_secret shmget shmat shmctl shmdt msgget msgsnd msgrcv msgctl semget semop semctl semtimedop mknodat personality
sched_setaffinity init_module finit_module delete_module kexec_load kexec_file_load clock_settime clock_adjtime
settimeofday adjtimex quotactl seccomp sync vmsplice landlock_create_ruleset fanotify_init reboot swapon syslog acct
sethostname inotify_init inotify_init1
"""
"""Of what the profile does not list, calls by which kernels were broken or limits are evaded."""

ANSWERS = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def answer(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(*map(ctypes.c_long, (number, *arguments)))
    return 'allowed' if result != -1 else errno.errorcode[ctypes.get_errno()]
"""


async def test_every_call_that_the_profile_does_not_list_is_refused(open_sandbox: OpenPool) -> None:
    listed = {name for rule in json.loads(profile_text())["syscalls"] for name in rule["names"]}
    assert listed.isdisjoint(NAMED.split())
    numbers = read_numbers(platform.machine())
    others = {name: number for name, number in numbers.items() if name not in listed}
    assert others.keys() >= set(NAMED.split()) & numbers.keys()
    code = f"{ANSWERS}\nprint(*(name + '=' + answer(number) for name, number in {others}.items()))"
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await session.run(code, {}, ())
        answers = dict(word.split("=") for word in outcome.stdout.split())
        assert answers.keys() == others.keys(), outcome
        # Above all that the engine's libseccomp knows of the profile it is ENOSYS, so that libc takes an older call.
        assert {name for name, said in answers.items() if said != "EPERM" and numbers[name] < 440} == set()
        assert {name for name, said in answers.items() if said not in ("EPERM", "ENOSYS")} == set()


async def test_fork_that_asks_for_a_new_namespace_is_refused(open_sandbox: OpenPool) -> None:
    numbers = read_numbers(platform.machine())
    code = f"""{ANSWERS}
kinds = [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]
[answer({numbers["clone"]}, kind | 17, 0, 0, 0, 0) for kind in kinds] + [answer({numbers["clone3"]}, 0, 0)]
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await session.run(code, {}, ())
        assert outcome.shown == str(["EPERM"] * 7 + ["ENOSYS"]), outcome


async def test_no_socket_but_tcp_udp_unix_and_route(open_sandbox: OpenPool) -> None:
    code = """
import socket
def is_open(family, kind, protocol):
    try:
        socket.socket(family, kind, protocol).close()
    except OSError:
        return False
    return True
stream = {(family, protocol) for family in range(48) for protocol in (0, 6, 132, 262) if is_open(family, 1, protocol)}
datagram = {(family, protocol) for family in range(48) for protocol in (0, 12, 17, 136) if is_open(family, 2, protocol)}
raw = [family for family in range(48) if is_open(family, 3, 255)]
[sorted(stream), sorted(datagram), raw, len(socket.socketpair())]
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await session.run(code, {}, ())
        stream = [(1, 0), (2, 0), (2, 6), (10, 0), (10, 6)]
        datagram = [(1, 0), (2, 0), (2, 17), (10, 0), (10, 17), (16, 0)]
        assert outcome.shown == str([stream, datagram, [], 2]), outcome


async def test_what_python_programs_do_is_allowed(open_sandbox: OpenPool) -> None:
    code = """
import asyncio, mmap, multiprocessing, os, pty, shutil, signal, sqlite3, subprocess, sys, tempfile, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import shared_memory

async def serve(reader, writer):
    writer.write(await reader.readline())
    writer.close()

async def talk():
    said = []
    async with await asyncio.start_server(serve, '127.0.0.1', 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b'tcp\\n'); said.append(await reader.readline()); writer.close()
    async with await asyncio.start_unix_server(serve, '/tmp/socket'):
        reader, writer = await asyncio.open_unix_connection('/tmp/socket')
        writer.write(b'unix\\n'); said.append(await reader.readline()); writer.close()
    child = await asyncio.create_subprocess_exec(sys.executable, '-c', 'print("child")', stdout=-1)
    said.append((await child.communicate())[0])
    return said + [await asyncio.to_thread(abs, -1)]

def query():
    with sqlite3.connect('a.db') as database:
        database.execute('pragma journal_mode=wal')
        database.execute('create table t (x)')
        return database.execute('select count(*) from t').fetchone()[0]

def handle_files():
    with tempfile.TemporaryDirectory() as folder:
        a, b, c, d, e = (f'{folder}/{name}' for name in 'abcde')
        with open(a, 'w') as file: os.fsync(file.fileno())
        shutil.copy2(a, b); os.symlink('a', c); os.link(a, d); os.rename(b, e)
        os.utime(a); os.truncate(a, 9); os.chmod(a, 0o600)
        shutil.copytree(folder, 'copied'); shutil.make_archive('archive', 'gztar', folder)
        return sorted(os.listdir(folder))

def share():
    block = shared_memory.SharedMemory(create=True, size=4096)
    block.buf[0] = 7
    block.close(); block.unlink()
    return len(mmap.mmap(-1, 1 << 20))

def alarm():
    came = []
    signal.signal(signal.SIGALRM, lambda *_: came.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    return came

def pool_by(method):
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool: return list(pool.map(abs, [-1, 2]))

def run_all():
    with ThreadPoolExecutor(4) as threads: yield list(threads.map(abs, [-1, 2]))
    child = [sys.executable, '-c', 'print(42)']
    yield subprocess.run(child, capture_output=True, check=True, start_new_session=True).stdout
    yield from (query(), handle_files(), share(), alarm(), len(pty.openpty()), len(os.pipe()), os.nice(0))
    yield from (pool_by('fork'), pool_by('spawn'), pool_by('forkserver'))
    yield len(os.sched_getaffinity(0)) > 0, len(os.urandom(4)), time.process_time() > 0
    yield asyncio.run(talk())
list(run_all())
"""
    async with open_sandbox(wall_seconds=60) as pool, pool.session("me") as session:
        outcome = await session.run(code, {}, ())
        assert outcome.ending is Ending.RETURNED, outcome
        assert outcome.shown == str(
            [
                [1, 2],
                b"42\n",
                0,
                ["a", "c", "d", "e"],
                1 << 20,
                [1],
                2,
                2,
                0,
                [1, 2],
                [1, 2],
                [1, 2],
                (True, 4, True),
                [b"tcp\n", b"unix\n", b"child\n", 1],
            ]
        )


async def test_packages_of_science_work(open_sandbox: OpenPool) -> None:
    code = """
import io, lxml.html, numpy, pandas
from PIL import Image
from matplotlib import pyplot
table = pandas.DataFrame({'x': numpy.arange(4.0), 'y': list('abab')})
table.to_excel('table.xlsx')
pyplot.plot(table['x'])
pyplot.savefig('plot.png')
pyplot.close()
[float(numpy.linalg.det(numpy.eye(100))), float(numpy.memmap('m', 'f8', 'w+', shape=9).sum()),
 pandas.read_excel('table.xlsx').groupby('y')['x'].sum().tolist(), Image.open('plot.png').resize((8, 8)).size,
 lxml.html.fromstring('<p>hé</p>').text]
"""
    requirements = ("lxml", "matplotlib", "numpy", "openpyxl", "pandas")
    async with open_sandbox(wall_seconds=60, memory_bytes=1 << 30) as pool, pool.session("me") as session:
        outcome = await session.run(code, {}, requirements)
        assert outcome.shown == "[1.0, 0.0, [2, 4], (8, 8), 'hé']", outcome


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_program_of_the_jail_answers_as_the_profile_says(machine: str) -> None:
    program = build_filter(machine)
    assert program
    rules = json.loads(profile_text())["syscalls"]
    listed = {name for rule in rules for name in rule["names"]}
    free = {
        name for rule in rules for name in rule["names"] if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule
    }
    numbers = read_numbers(machine)
    highest = max(numbers[name] for name in listed & numbers.keys())
    for name, number in numbers.items():
        said = interpret(program, machine, number)
        if name in free:
            assert said == "allowed", name
        elif name not in listed:
            assert said == ("EPERM" if number <= highest else "ENOSYS"), name
    assert interpret(program, machine, numbers["clone3"]) == "ENOSYS"
    assert interpret(program, machine, numbers["clone"], 0x10000011) == "EPERM"
    assert interpret(program, machine, numbers["clone"], 0xF_0000_0011) == "allowed"
    assert interpret(program, machine, numbers["socket"], 2, 1, 6) == "allowed"
    assert interpret(program, machine, numbers["socket"], 1 << 32 | 2, 1, 6) == "EPERM"
    assert interpret(program, machine, numbers["socket"], 2, 1, 132) == "EPERM"
    assert interpret(program, "i386", 1) == "killed"
    assert interpret(program, machine, 0x40000000) == "ENOSYS"


def test_filter_of_an_unknown_machine_is_none() -> None:
    assert build_filter("riscv64") is None


def test_profile_can_be_read_by_engines_as_it_is_meant() -> None:
    """Two conditions on one argument would be two rules to runc, either of which is enough."""
    known = read_numbers("x86_64").keys() | read_numbers("aarch64").keys()
    for rule in json.loads(profile_text())["syscalls"]:
        assert set(rule["names"]) <= known
        indexes = [condition["index"] for condition in rule.get("args", [])]
        assert len(indexes) == len(set(indexes))


def interpret(program: bytes, machine: str, number: int, *arguments: int) -> str:
    """What a classic BPF program says of a system call."""
    arch = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "i386": 0x40000003}[machine]
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    instructions = list(struct.iter_unpack("<HBBI", program))
    value, at = 0, 0
    while True:
        code, if_true, if_false, operand = instructions[at]
        at += 1
        match code:
            case 0x20:
                (value,) = struct.unpack_from("<I", data, operand)
            case 0x54:
                value &= operand
            case 0x15:
                at += if_true if value == operand else if_false
            case 0x25:
                at += if_true if value > operand else if_false
            case 0x06:
                return {0x7FFF0000: "allowed", 0x80000000: "killed", 0x50001: "EPERM", 0x50026: "ENOSYS"}[operand]
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")
