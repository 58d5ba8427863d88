"""What holds of gVisor alone. What holds of each sandbox runs on it where DYNASAUR_TESTS_RUNTIME says so."""

from __future__ import annotations

import pytest

from .conftest import OpenPool

pytestmark = pytest.mark.anyio


async def test_kernel_of_gvisor_answers_in_place_of_the_filter(open_sandbox: OpenPool) -> None:
    code = """
import ctypes
said = ctypes.create_string_buffer(1 << 16)
ctypes.CDLL(None).klogctl(3, said, len(said))
status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())
'gVisor' in said.value.decode(), status['Seccomp'].strip(), int(status['CapEff'], 16)
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        assert (await session.run(code, {}, ())).shown == "(True, '0', 0)"


async def test_no_more_processes_and_threads_run_than_are_allowed(open_sandbox: OpenPool) -> None:
    code = """
import os, signal
count = 0
try:
    while True:
        if not os.fork(): signal.pause()
        count += 1
except OSError as error:
    said = error.strerror
(count, said)
"""
    async with open_sandbox(processes=32, memory_bytes=1 << 30) as pool, pool.session("me") as session:
        shown = (await session.run(code, {}, ())).shown
        count, said = shown.strip("()").split(", ")
        assert 20 <= int(count) < 32
        assert said == "'Resource temporarily unavailable'"
