"""What a fork that waits makes ready. Linux only, as the worker is."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")

BEGINNING = """
import mmap, os, resource
from dynasaur_mcp.sandbox.worker.pages import pages

block = mmap.mmap(-1, 100 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
pages.listen()

def work():
    for number in range(0, 100, 2):
        block[number * mmap.PAGESIZE] = 2

def in_fork(do):
    if pid := os.fork():
        assert os.waitpid(pid, 0)[1] == 0
    else:
        do()
        os._exit(0)

def count_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for number in range(100):
    block[number * mmap.PAGESIZE] = 1
count_faults()
"""


def run(code: str) -> str:
    """In a process of one thread."""
    done = subprocess.run([sys.executable, "-c", BEGINNING + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_fork_that_waits_makes_ready_what_the_first_call_wrote_to() -> None:
    said = run("""
in_fork(lambda: print("first", count_faults(), flush=True) or pages.tell())
pages.learn()
in_fork(lambda: pages.own() or print("later", count_faults(), flush=True))
""")
    first, later = (int(line.split()[1]) for line in said.splitlines())
    assert first >= 50
    assert later < 10


def test_step_that_follows_makes_ready_what_the_first_one_wrote_to() -> None:
    said = run("""
def step():
    count_faults()
    pages.note()
    in_fork(lambda: pages.own() or print(count_faults(), flush=True))

in_fork(step)
""")
    assert int(said) < 10


@pytest.mark.parametrize("told", ["b'x' * 7", "os.urandom(16 * 500)", "bytes(32)", "b'\\xff' * 64", "b''"])
def test_what_a_call_tells_harms_no_later_one(told: str) -> None:
    said = run(f"""
def tell():
    for name in os.listdir("/proc/self/fd"):
        try:
            os.write(int(name), {told}) if int(name) > 2 else None
        except OSError:
            pass

in_fork(tell)
pages.learn()
in_fork(lambda: pages.own() or count_faults())
pages.learn()
in_fork(lambda: pages.tell() or print("well", flush=True))
""")
    assert said == "well\n"
