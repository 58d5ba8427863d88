"""Workers under bubblewrap, for where there is no Docker. Linux only.

Root and an ordinary user get there by different ways. An ordinary user's jail has a user namespace of its own. Root's
has none: bubblewrap sets it up with root's rights and the worker then becomes a uid that no one else has, because the
kernel holds real root, also under another name in a namespace, to no limit on processes.

Memory and processes are held by a control group where this server may make one: see `cgroup`. Everywhere memory has
two bounds more, RLIMIT_DATA for each process and the supervisor's count over all of them, and processes have
RLIMIT_NPROC. What these two do not see, a group does: socket buffers, and shared mappings that a process has let go of.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator

import anyio
import anyio.to_thread
from anyio.abc import Process

from dynasaur_mcp.errors import SandboxUnavailable, WorkerLost
from dynasaur_mcp.sandbox.bubblewrap import PACKAGES, build_command, worker_program
from dynasaur_mcp.sandbox.cgroup import Group, Place, children_of, find_leftovers, find_place
from dynasaur_mcp.sandbox.packages import PackageStore
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.seccomp import build_filter
from dynasaur_mcp.types import Limits

_FIRST_UID = 0x60000000
_LAST_WORDS_BYTES = 2000
_KILL_SECONDS = 5.0


class Jail:
    """A sandbox whose workers are bubblewrap processes of this machine."""

    name = "jail"

    def __init__(self, limits: Limits, packages: PackageStore, presence: Presence) -> None:
        """
        Args:
            presence: This server's. Servers of one folder remove each other's leftover groups, no others'.
        """
        self._limits = limits
        self._packages = packages
        self._presence = presence
        self._place: Place | None = None
        self._workers: set[JailWorker] = set()
        self._starting = anyio.Lock()

    async def start(self) -> JailWorker:
        # One at a time: what another start has pinned this thread to is not where it belongs.
        async with self._starting:
            group = await self._new_group()
            try:
                if group:
                    await self._work(group.make, self._limits)
                process = await self._open_process(group)
            except BaseException:
                await _remove(group)
                raise
        worker = JailWorker(process, group, self._workers)
        self._workers.add(worker)
        try:
            # Before the worker is sent anything; its interpreter loads meanwhile.
            if group:
                await self._work(group.take, process.pid)
        except BaseException:
            await worker.kill()
            raise
        return worker

    async def _new_group(self) -> Group | None:
        """Yet to be made; None where the kernel gives no groups to this server.

        Raises:
            SandboxUnavailable
        """
        if self._place is None:
            self._place = await anyio.to_thread.run_sync(find_place)
        try:
            return self._place.new_group(self._presence) if self._place.folders else None
        except OSError as error:
            raise SandboxUnavailable(f"The cache folder cannot be written: {error.strerror}.") from error

    async def _work(self, on_group: Callable[..., None], *arguments: object) -> None:
        """Raises: SandboxUnavailable."""
        try:
            await anyio.to_thread.run_sync(on_group, *arguments)
        except OSError as error:
            self._place = None  # looked for anew by the next start
            raise SandboxUnavailable(f"The jail's control group could not be made: {error.strerror}.") from error

    async def _open_process(self, group: Group | None) -> Process:
        """Raises: SandboxUnavailable."""
        limits = self._limits.with_files_in_memory() if group else self._limits
        worker_limits = dataclasses.asdict(limits) | {"limit_processes": True}
        if os.geteuid() == 0:
            worker_limits["uid"] = _FIRST_UID + secrets.randbelow(1 << 24)
        try:
            # Shielded: cancelled half-way, asyncio leaves the pipes to the garbage collector.
            with _seccomp_descriptor() as seccomp, _scheduled_on(limits.cpus), anyio.CancelScope(shield=True):
                process = await anyio.open_process(
                    [*build_command(limits, self._packages.folder, seccomp, group), *worker_program(worker_limits)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(seccomp,),
                    env={},
                )
        except OSError as error:
            raise SandboxUnavailable(f"bubblewrap could not be started: {error.strerror}.") from error
        return process

    async def reap(self) -> int:
        """Jails die with the server that started them: only their groups are left."""
        return await anyio.to_thread.run_sync(self._reap)

    def _reap(self) -> int:
        try:
            leftovers = find_leftovers(self._presence)
        except OSError as error:
            raise SandboxUnavailable(f"The cache folder cannot be written: {error.strerror}.") from error
        for group in leftovers:
            group.remove()
        return len(leftovers)

    async def packages(self, requirements: tuple[str, ...], is_gone: bool = False) -> str:  # noqa: ARG002
        resolved = await self._packages.resolve(requirements)
        if not resolved.key:
            return ""
        # The folder itself is looked at each time, so there is nothing to forget.
        await self._packages.install(resolved)
        return f"{PACKAGES}/{resolved.key}"

    async def aclose(self) -> None:
        for worker in list(self._workers):
            await worker.kill()


class JailWorker:
    """One bubblewrap process."""

    def __init__(self, process: Process, group: Group | None, register: set[JailWorker]) -> None:
        self._process = process
        self._group = group
        self._register = register
        self._killing = anyio.Lock()

    @property
    def id(self) -> str:
        return str(self._process.pid)

    def has_ended(self) -> bool:
        return self._process.returncode is not None or self not in self._register

    async def send(self, data: bytes) -> None:
        assert self._process.stdin
        try:
            await self._process.stdin.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise WorkerLost(await self._last_words()) from None

    async def receive(self) -> bytes:
        assert self._process.stdout
        try:
            return await self._process.stdout.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise WorkerLost(await self._last_words()) from None

    async def kill(self) -> None:
        with anyio.CancelScope(shield=True):
            async with self._killing:
                if self in self._register:
                    await self._kill()
                    await _remove(self._group)
                    self._register.discard(self)

    async def _kill(self) -> None:
        # The worker too: in root's jail it has a uid that bubblewrap, without capabilities, cannot end. Where the
        # kernel has no list of children it ends when its stdin does.
        for pid in (*children_of(self._process.pid), self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with anyio.move_on_after(_KILL_SECONDS, shield=True):
            if self._process.stdin:
                await self._process.stdin.aclose()
            # Every process of the jail holds its stderr: at its end none is left.
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                while self._process.stderr:
                    await self._process.stderr.receive()
            await self._process.aclose()

    async def _last_words(self) -> str:
        words = b""
        with anyio.move_on_after(1), contextlib.suppress(anyio.EndOfStream, anyio.ClosedResourceError):
            while self._process.stderr and len(words) < _LAST_WORDS_BYTES:
                words += await self._process.stderr.receive()
        return words.decode(errors="replace").strip() or "it ended without a word"


async def _remove(group: Group | None) -> None:
    if group:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(group.remove)


@contextlib.contextmanager
def _seccomp_descriptor() -> Iterator[int]:
    program = build_filter()
    if program is None:
        raise SandboxUnavailable("The jail has no system call filter for this machine's architecture: use Docker.")
    descriptor = os.memfd_create("seccomp")
    try:
        os.write(descriptor, program)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _scheduled_on(cpus: float) -> Iterator[None]:
    """Start a child on some of the CPUs only, and before no one else: what it inherits it cannot change, as the filter
    refuses that."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, random.sample(sorted(before), min(len(before), max(1, round(cpus)))))
    # Of a server with real-time priority. It stays so, as taking it back needs a right; nobody else is concerned.
    if (policy := os.sched_getscheduler(0)) in (os.SCHED_FIFO, os.SCHED_RR):
        os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_getparam(0))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
