"""What the processes of this sandbox use, read from /proc, and ending those that nobody answers for."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping

INODE_BYTES = 1024
ON_GVISOR = os.path.exists("/proc/sentry-meminfo")
"""Its kernel is this sandbox's alone and counts memory exactly, but for all processes and files together."""
_SWEEP_SECONDS = 30.0 if ON_GVISOR else 10.0
"""gVisor takes 1 to 3 s for a fork bomb with a processor to itself."""
_STANDING = (b"T", b"t", b"Z", b"X")
_GOING = (b"R", b"S")
"""One in any other state, a parent that waits for its vfork's end among them, stops before it can fork again."""
_WRITABLE = ("/workspace", "/tmp", "/dev/shm")


def _open_oom_kills() -> int | None:
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return None


_oom_kills = _open_oom_kills()
"""Kept open: it is read twice for each job."""


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def memory_of(pid: int) -> int:
    """Memory of a process that no file on a disk backs, in bytes, shared pages counted in each; 0 if it is gone."""
    names = (b"VmRSS:",) if ON_GVISOR else (b"RssAnon:", b"RssShmem:")
    found = _sum_of(f"/proc/{pid}/status", names)
    if found is None:
        found = max((_sum_of(f"{thread}/status", names) or 0 for thread in _threads_of(pid)), default=0)
    return found


def count_memory(shared_by: Mapping[int, int], shared_bytes: int, idle: set[int]) -> int:
    """What all processes together hold at most, in bytes: each counts by what it does not share with all.

    Args:
        shared_by: By pid, what a process shares with many others, in bytes.
        shared_bytes: What each other process shares with all.
        idle: They do not count: this process, and forks that wait and have nothing of their own.
    """
    if ON_GVISOR:
        return _sum_of("/proc/meminfo", (b"AnonPages:",)) or 0
    return sum(max(0, memory_of(pid) - shared_by.get(pid, shared_bytes)) for pid in pids() if pid not in idle)


def uses_more_than(memory_bytes: int, shared_by: Mapping[int, int], shared_bytes: int, idle: set[int]) -> bool:
    """Whether all processes together hold more. The other arguments are those of `count_memory`, whose count is cheap:
    among a fork bomb this one takes seconds. It makes it only where that is over, and there a process that can be read
    counts by its proportional share of each page."""
    if count_memory(shared_by, shared_bytes, idle) <= memory_bytes:
        return False
    if ON_GVISOR:
        return True
    others = [pid for pid in pids() if pid not in idle]
    # Nor may they grow during the exact one: forty busy processes leave this one a fortieth of its processor.
    stopped = {pid for pid in others if _state_of(pid) not in _STANDING}
    _signal_all(stopped, signal.SIGSTOP)
    if sum(_share_of(pid, shared_by.get(pid, shared_bytes)) for pid in others) > memory_bytes:
        return True  # they stay so, until the sweep ends them, or lets those go on that are to live
    _signal_all(stopped, signal.SIGCONT)
    return False


def count_files() -> int:
    """Names in what can be written: each costs the kernel about INODE_BYTES that no process is charged for."""
    total = 0
    for place in _WRITABLE:
        with contextlib.suppress(OSError):
            found = os.statvfs(place)
            total += found.f_files - found.f_ffree
    return total


def _share_of(pid: int, shared_bytes: int) -> int:
    share = _sum_of(f"/proc/{pid}/smaps_rollup", (b"Pss_Anon:", b"Pss_Shmem:"))
    return max(0, memory_of(pid) - shared_bytes) if share is None else share


def _sum_of(path: str, names: tuple[bytes, ...]) -> int | None:
    """The lines of those names together, in bytes; None where they cannot be read."""
    try:
        with open(path, "rb") as file:
            found = [int(line.split()[1]) * 1024 for line in file if line.startswith(names)]
    except OSError:
        return None
    return sum(found) if found else None


def count_oom_kills() -> int:
    """How often the kernel has killed for memory in this sandbox's cgroup; 0 where it has none of its own."""
    if _oom_kills is None:
        return 0
    _, _, after = os.pread(_oom_kills, 4096, 0).partition(b"oom_kill ")
    return int(after.split()[0]) if after else 0


def kill_strays(spared: set[int]) -> bool:
    """End every process but the spared; whether none is left.

    None is killed before all are seen to stand: each one killed would make room for a fork bomb's next. On gVisor a
    process goes on for a while, and forks, after it was told to stop.
    """
    deadline = time.monotonic() + _SWEEP_SECONDS
    standing: set[int] = set()
    while strays := _find_strays(spared):
        if strays <= standing:
            _signal_all(strays, signal.SIGKILL)
            reap()
        else:
            _signal_all(strays - standing, signal.SIGSTOP)
            standing = {pid for pid in strays if _state_of(pid) not in _GOING}
        if time.monotonic() > deadline:
            return False
    reap()
    return True


def _find_strays(spared: set[int]) -> set[int]:
    return {pid for pid in pids() if pid not in spared and not is_zombie(pid)}


def _signal_all(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def is_asleep(pid: int) -> bool:
    """Whether it waits for something to happen: not for a processor, nor for a disk, nor for another of its threads."""
    return _read_stat(f"/proc/{pid}") == (b"S", 1)


def is_zombie(pid: int) -> bool:
    return _state_of(pid) in (b"Z", b"X")


def _state_of(pid: int) -> bytes:
    """As /proc names it; `X` of one that is gone. Its first thread may have ended before others: then as these are, or
    `?` on gVisor, which shows of them no more than their number."""
    state, threads = _read_stat(f"/proc/{pid}")
    if state != b"Z":
        return state
    if ON_GVISOR:
        return b"?" if threads > 1 else state
    others = {_read_stat(thread)[0] for thread in _threads_of(pid)} - {b"Z", b"X"}
    return min(others, key=_STANDING.__contains__, default=state)


def _read_stat(place: str) -> tuple[bytes, int]:
    """Its state, and how many threads there are; `X` and 0 of what is gone."""
    try:
        with open(f"{place}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return b"X", 0
    return fields[0], int(fields[17])


def _threads_of(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return [f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task")]
    return []


def reap() -> None:
    """Let go of children that are over."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
