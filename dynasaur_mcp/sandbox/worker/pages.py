"""Which pages of memory a call or a step comes to own: learnt from the first one, made ready for all that follow.

A fork shares every page with what it was forked from until it writes to it, and counting references writes to most that
it touches. Each then costs a fault and a copy; for a call that uses pandas that was two thirds of its time. A fork that
waits for its job has the time for it, and can have them all by a few calls to the kernel.

Where the kernel does not tell (gVisor) or cannot (Linux before 5.14), nothing is learnt or nothing is made ready.
"""

from __future__ import annotations

import ctypes
import re
import struct
from contextlib import suppress
from mmap import PAGESIZE
from os import O_RDONLY, close, pipe, pread, read, set_blocking, write
from os import open as open_file

MAX_RANGES = 2000
MAX_BYTES = 8 << 20
"""Of pages made ready: less than a fork that waits may own."""
MAX_LOOKS = 3
"""For a step that is not too large to learn from."""

_MADV_POPULATE_WRITE = 23
_OWN = re.compile(rb"\x81(?:[^\x81]?\x81)*", re.DOTALL)
"""Of the highest byte of each page's 64 bits (Linux' admin-guide/mm/pagemap.rst): pages that are there, of no file, and
of no other process. A single other one between two comes along."""
_RANGE = struct.Struct("=QQ")
_ENTRY_BYTES = 8

_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Pages:
    """What this process knows of its forks.

    What a call tells comes from a process that ran user code. It is but where to look, in a fork for the same code.
    """

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []
        """Start and length, in bytes."""
        self._told = self._to_tell = -1
        self._looks = 0

    def note(self) -> None:
        """In a session, at the end of a step: later ones, forks of it, will do much the same, unless this was large."""
        if self._ranges or self._looks == MAX_LOOKS:
            return
        self._looks += 1
        with suppress(OSError, ValueError):
            found = _find_own()
            if sum(length for _, length in found) <= MAX_BYTES:
                self._ranges = found[:MAX_RANGES]

    def listen(self) -> None:
        """In a zygote, before its first fork."""
        self._told, self._to_tell = pipe()
        for end in (self._told, self._to_tell):
            set_blocking(end, False)

    def tell(self) -> None:
        """In a fork of the zygote, at the end of the first call."""
        if self._to_tell >= 0:
            with suppress(OSError, ValueError):
                write(self._to_tell, b"".join(_RANGE.pack(*own) for own in _find_own()[:MAX_RANGES]))

    def learn(self) -> None:
        """In the zygote, before a fork."""
        if self._to_tell < 0:
            return
        with suppress(BlockingIOError):
            data = read(self._told, MAX_RANGES * _RANGE.size)
            self._ranges = list(_RANGE.iter_unpack(data[: len(data) // _RANGE.size * _RANGE.size]))
            close(self._told)
            close(self._to_tell)
            self._to_tell = -1

    @property
    def are_known(self) -> bool:
        return bool(self._ranges)

    def own(self) -> None:
        """In a fork that waits."""
        left = MAX_BYTES
        for start, length in self._ranges:
            if length <= left:
                left -= length
                _madvise(start, length, _MADV_POPULATE_WRITE)


pages = Pages()


def _find_own() -> list[tuple[int, int]]:
    """Start and length of what is this process's alone, among what it can write and others cannot see."""
    found = []
    pages = open_file("/proc/self/pagemap", O_RDONLY)
    try:
        with open("/proc/self/maps", "rb") as maps:
            for line in maps:
                span, access = line.split(maxsplit=2)[:2]
                if access != b"rw-p":
                    continue
                start, end = (int(edge, 16) for edge in span.split(b"-"))
                first, last = (edge // PAGESIZE * _ENTRY_BYTES for edge in (start, end))
                for own in _OWN.finditer(pread(pages, last - first, first)[_ENTRY_BYTES - 1 :: _ENTRY_BYTES]):
                    found.append((start + own.start() * PAGESIZE, len(own[0]) * PAGESIZE))
    finally:
        close(pages)
    return found
