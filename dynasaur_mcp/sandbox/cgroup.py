"""Control groups for jails: the kernel holds memory, processes and CPU time, also what no count of processes can see.

Version 1: below the server's own group of each controller, where that can be written, as root can. Version 2: below the
server's own group, where systemd has delegated it (`Delegate=yes`), or it is the root of all. From a group that was not
delegated systemd takes the controllers away again at its next reload (seen with systemd 252). A group that has groups
under control may hold no process itself, so those in it move to a leaf. Version 2 was seen to hold in delegated scopes
(Linux 6.1, systemd 252), a user's and root's; in the root group it was never tried.

A jail is moved into its group after it has started, while its interpreter loads, and before it is sent anything. The
kernel takes about ten milliseconds for a move, which a launcher inside the group would have to wait for. The few MB
that it took until then stay uncounted.

Version 1 counts what TCP and UDP hold apart from all other memory: there they have an eighth of it on top.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.types import Limits

logger = logging.getLogger(__name__)

_NEEDED, _CONTROLLERS = ("memory", "pids"), ("memory", "pids", "cpu")
_LEAF = "dynasaur-mcp-servers"
_PERIOD_MICROSECONDS = 100_000
_REMOVE_SECONDS = 5.0
_ASK_SECONDS = 5.0
_EVENTS_INSIDE = {1: "/sys/fs/cgroup/memory/memory.oom_control", 2: "/sys/fs/cgroup/memory.events"}
"""Where the worker looks for how often the kernel has killed for memory, as in a container."""
_MUST_BE = ("memory.limit_in_bytes", "memory.max", "pids.max")


@dataclass(frozen=True, slots=True)
class _Mount:
    root: str
    """The group that is seen at `point`."""
    point: Path
    controllers: frozenset[str]
    """Empty: all of version 2."""


@dataclass(frozen=True, slots=True)
class Group:
    """A jail's group: one folder, or with version 1 one for each controller."""

    name: str
    folders: Mapping[str, Path]
    """By controller, memory first."""
    version: int

    @property
    def _each(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(self.folders.values()))

    @property
    def events(self) -> tuple[Path, str]:
        """A file that counts what the kernel killed for memory, and its place inside the jail."""
        inside = _EVENTS_INSIDE[self.version]
        return self.folders["memory"] / Path(inside).name, inside

    def make(self, limits: Limits) -> None:
        """Blocking.

        Raises:
            OSError
        """
        for folder in self._each:
            folder.mkdir()
        for controller, folder in self.folders.items():
            for name, value in _values(controller, self.version, limits):
                if name in _MUST_BE or (folder / name).exists():
                    with (folder / name).open("r+") as file:
                        file.write(value)

    def take(self, pid: int) -> None:
        """Blocking: move a process here, then its children; what each starts once it has moved is born here.

        Raises:
            OSError
        """
        try:
            for folder in self._each:
                (folder / "cgroup.procs").write_text(str(pid))
        except ProcessLookupError:
            return
        for child in children_of(pid):
            self.take(child)

    def remove(self) -> None:
        """Blocking: end what is in it, if anything is, and the group; nothing to do when it is gone."""
        for folder in self._each:
            try:
                _remove(folder)
            except OSError as error:
                # The next server removes it.
                logger.error("group %s was not removed: %s", self.name, error)


@dataclass(frozen=True, slots=True)
class Place:
    """Where groups of jails can be made: the folder by controller; none, and why."""

    folders: Mapping[str, Path] = field(default_factory=dict)
    version: int = 0
    why_none: str = ""

    def new_group(self, presence: Presence) -> Group:
        """A group of this server, yet to be made.

        Raises:
            OSError: the server's sign of life cannot be given.
        """
        name = f"{_prefix_of(presence)}{presence.id}-{secrets.token_hex(4)}"
        return Group(name, {controller: folder / name for controller, folder in self.folders.items()}, self.version)


def find_place() -> Place:
    """Blocking. With version 2 the server's processes may move to make room."""
    if not Path("/proc/self/task", str(os.getpid()), "children").exists():
        return Place(why_none="the kernel lists no children of processes")
    own = _own_folders()
    if all(name in own for name in _NEEDED):
        writable = {name: own[name] for name in _CONTROLLERS if name in own and os.access(own[name], os.W_OK)}
        if all(name in writable for name in _NEEDED):
            return Place(writable, 1)
        return Place(why_none="the server's own group may not be written")
    if "" not in own:
        return Place(why_none="no control groups are mounted")
    try:
        return _find_place_2(own[""])
    except OSError as error:
        return Place(why_none=f"the server's own group may not be written: {error.strerror}")


def find_leftovers(presence: Presence) -> list[Group]:
    """Blocking: groups of dead servers of this folder.

    Raises:
        OSError: the folder cannot be written.
    """
    prefix = _prefix_of(presence)
    found: dict[str, dict[str, Path]] = {}
    for mount in _mounts():
        if not mount.controllers or mount.controllers & set(_CONTROLLERS):
            for folder in _walk(mount.point, prefix):
                found.setdefault(folder.name, {})[str(folder)] = folder
    return [
        Group(name, folders, 0)
        for name, folders in found.items()
        if not presence.is_alive(name.removeprefix(prefix).partition("-")[0])
    ]


def children_of(pid: int) -> list[int]:
    """Of a process with one thread; none where it is gone, or the kernel has no such list."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _find_place_2(own: Path) -> Place:
    """Raises: OSError, also where a process was started meanwhile: then none is found this time."""
    base = own.parent if own.name == _LEAF else own
    offered = _words(base / "cgroup.controllers")
    if not offered.issuperset(_NEEDED):
        return Place(why_none="its controllers for memory and processes are not handed down to the server's own group")
    wanted = [name for name in _CONTROLLERS if name in offered]
    if not _words(base / "cgroup.subtree_control").issuperset(wanted):
        is_root = not (base / "cgroup.events").exists()
        if not (is_root or _is_delegated(base)):
            return Place(why_none="the server's own group is not delegated to it")
        if not is_root:
            (base / _LEAF).mkdir(exist_ok=True)
            for pid in _pids_in(base):
                with contextlib.suppress(ProcessLookupError):
                    (base / _LEAF / "cgroup.procs").write_text(str(pid))
        (base / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
    elif not os.access(base, os.W_OK):
        return Place(why_none="the server's own group may not be written")
    return Place(dict.fromkeys(wanted, base), 2)


def _is_delegated(folder: Path) -> bool:
    """Ask systemd: up to version 252 at least, a user's own leaves no mark on what it has delegated."""
    whose = ["--user"] if any(part.startswith("user@") for part in folder.parent.parts) else []
    command = ["systemctl", *whose, "show", "--property=Delegate", "--value", "--", folder.name]
    environment = {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}
    try:
        said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_ASK_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.stdout.strip() == "yes"


def _values(controller: str, version: int, limits: Limits) -> list[tuple[str, str]]:
    """What to write, in this order; what a kernel without swap or without a controller's part lacks is left out."""
    memory, quota = str(limits.memory_bytes), str(int(limits.cpus * _PERIOD_MICROSECONDS))
    # bubblewrap is in the group too.
    processes = str(limits.processes + 1)
    return {
        ("memory", 1): [
            ("memory.limit_in_bytes", memory),
            ("memory.memsw.limit_in_bytes", memory),
            ("memory.kmem.tcp.limit_in_bytes", str(limits.memory_bytes // 8)),
        ],
        ("memory", 2): [("memory.max", memory), ("memory.swap.max", "0")],
        ("pids", 1): [("pids.max", processes)],
        ("pids", 2): [("pids.max", processes)],
        ("cpu", 1): [("cpu.cfs_period_us", str(_PERIOD_MICROSECONDS)), ("cpu.cfs_quota_us", quota)],
        ("cpu", 2): [("cpu.max", f"{quota} {_PERIOD_MICROSECONDS}")],
    }[controller, version]


def _remove(folder: Path) -> None:
    """Raises: OSError."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:  # busy
            if time.monotonic() > deadline:
                raise
            with contextlib.suppress(FileNotFoundError):
                for pid in _pids_in(folder):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        else:
            return


def _pids_in(folder: Path) -> list[int]:
    """None of another pid namespace, which read as 0."""
    return [pid for pid in map(int, (folder / "cgroup.procs").read_text().split()) if pid]


def _words(file: Path) -> set[str]:
    return set(file.read_text().split())


def _mounts() -> list[_Mount]:
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        head, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            root, point = head.split()[3:5]
            found.append(_Mount(root, Path(point), frozenset(options.split(",") if kind == "cgroup" else ())))
    return found


def _own_folders() -> dict[str, Path]:
    """Of this process: by controller of version 1, and `""` for version 2; those that can be seen."""
    mounts, found = _mounts(), {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if ".." in path:  # above what this namespace shows
            continue
        for name in names.split(","):
            for mount in mounts:
                is_its = name in mount.controllers if name else not mount.controllers
                if is_its and Path(path).is_relative_to(mount.root):
                    found[name] = mount.point / Path(path).relative_to(mount.root)
    return found


def _prefix_of(presence: Presence) -> str:
    """Raises: OSError."""
    return f"dynasaur-{presence.home}-"


def _walk(folder: Path, prefix: str) -> Iterator[Path]:
    """All groups below whose names begin so."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                continue
            if entry.name.startswith(prefix):
                yield Path(entry.path)
            elif entry.stat(follow_symlinks=False).st_nlink > 2:  # it has groups below
                yield from _walk(Path(entry.path), prefix)
