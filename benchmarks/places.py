"""Where the benchmarks measure: each sandbox with our server, and the same kind of container or jail without us."""

import argparse
import functools
import json
import os
import random
import secrets
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pydantic
from peer import pipes_of

from dynasaur_mcp.sandbox.bubblewrap import find_bwrap
from dynasaur_mcp.sandbox.engine import connect
from dynasaur_mcp.sandbox.image import image_tag
from dynasaur_mcp.sandbox.seccomp import profile_text
from dynasaur_mcp.settings import read_settings

PROGRAM = Path(__file__).with_name("bare_fork.py").read_text()
IMAGE = read_settings().image or image_tag()
_IMPORT_PYDANTIC = "import sys; sys.path.append('{}'); import pydantic.json_schema\nimport gc; gc.freeze()\n"
_STREAM_HEADER = struct.Struct(">BxxxI")


class Bare(Protocol):
    """A container or jail with the program of bare_fork.py."""

    id: str
    """As `memory_of` wants it."""

    def fileno(self) -> int:
        """Can be read when there is an answer."""
        ...

    def send(self, request: bytes) -> None: ...

    def receive(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Place:
    """One sandbox: `docker`, `jail`, or docker with another runtime."""

    name: str
    sandbox: str
    runtime: str = ""

    @property
    def options(self) -> list[str]:
        """For `dynasaur-mcp serve`."""
        return ["--sandbox", self.sandbox, *(["--docker-runtime", self.runtime] if self.runtime else [])]

    @contextmanager
    def open_bare(self, *, with_pydantic: bool = False) -> Iterator[Bare]:
        """Without us, ready; what forks has imported nothing, or what validates the arguments of calls."""
        in_jail = self.sandbox == "jail"
        program = _IMPORT_PYDANTIC.format(Path(pydantic.__file__).parents[1] if in_jail else "/opt/worker")
        program = (program if with_pydantic else "") + PROGRAM
        with _open_jail(program) if in_jail else _open_container(program, self.runtime) as bare:
            bare.receive()
            yield bare


def add_place_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--sandboxes", nargs="*", default=["docker", "jail"], choices=["docker", "jail"])
    options.add_argument("--runtimes", nargs="*", default=[], help="docker with these too, such as runsc (gVisor)")


def read_places(given: argparse.Namespace) -> list[Place]:
    return [
        *(Place(name, name) for name in given.sandboxes),
        *(Place(f"docker {runtime}", "docker", runtime) for runtime in given.runtimes),
    ]


def ask(bare: Bare, a: int = 1, b: int = 2) -> None:
    """One call without us."""
    bare.send(json.dumps({"a": a, "b": b}).encode())
    if json.loads(bare.receive())["value"] != a + b:
        raise SystemExit("a wrong answer")


class _Pipes:
    """Of a jail."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.id = str(process.pid)
        self._in, self._out = pipes_of(process)

    def fileno(self) -> int:
        return self._out.fileno()

    def send(self, request: bytes) -> None:
        self._in.write(len(request).to_bytes(4, "big") + request)

    def receive(self) -> bytes:
        return self._read(int.from_bytes(self._read(4), "big"))

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._out.read(size - len(data))
            if not part:
                raise SystemExit("a bare jail ended")
            data += part
        return data


class _Attachment:
    """Of a container: stdout comes in pieces, each after a header that says how long it is."""

    def __init__(self, name: str, stream: Any) -> None:
        self.id = name
        self._socket = getattr(stream, "_sock", stream)
        self._received = b""

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def send(self, request: bytes) -> None:
        self._socket.sendall(len(request).to_bytes(4, "big") + request)

    def receive(self) -> bytes:
        while True:
            size = int.from_bytes(self._received[:4], "big") if len(self._received) >= 4 else 1 << 30
            if len(self._received) >= 4 + size:
                body, self._received = self._received[4 : 4 + size], self._received[4 + size :]
                return body
            _, length = _STREAM_HEADER.unpack(self._read(_STREAM_HEADER.size))
            self._received += self._read(length)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise SystemExit("a bare container ended")
            data += part
        return data


_client = functools.cache(connect)


@contextmanager
def _open_container(program: str, runtime: str) -> Iterator[_Attachment]:
    """Hardened as the workers are, as far as it may cost anything: through the docker SDK alone."""
    client = _client()
    name = f"dynasaur-bench-{secrets.token_hex(4)}"
    host = client.create_host_config(
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges", f"seccomp={profile_text()}"],
        tmpfs={"/workspace": "rw,size=64m", "/tmp": "rw,size=64m"},
        mem_limit="1g",
        memswap_limit="1g",
        pids_limit=128,
        nano_cpus=10**9,
        log_config={"Type": "none"},
        runtime=runtime or None,
    )
    client.create_container(
        IMAGE,
        ["-I", "-c", program],
        entrypoint=["python3"],
        name=name,
        stdin_open=True,
        network_disabled=True,
        host_config=host,
    )
    try:
        stream = client.attach_socket(name, {"stdin": 1, "stdout": 1, "stream": 1})
        client.start(name)
        yield _Attachment(name, stream)
        stream._response.close()
        stream.close()
    finally:
        client.remove_container(name, force=True)


@contextmanager
def _open_jail(program: str) -> Iterator[_Pipes]:
    command = [
        find_bwrap(),
        "--unshare-all",
        "--as-pid-1",
        "--die-with-parent",
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
    ]
    command += ["--dev", "/dev", "--tmpfs", "/tmp", "--cap-drop", "ALL", os.path.realpath(sys.executable)]
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {random.choice(sorted(before))})  # one CPU, as the workers have
    try:
        process = subprocess.Popen(
            [*command, "-I", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
    finally:
        os.sched_setaffinity(0, before)
    writing, reading = pipes_of(process)
    try:
        yield _Pipes(process)
    finally:
        writing.close()
        process.wait(timeout=10)
        reading.close()


def memory_of(place: Place, worker: str) -> int | None:
    """What one worker costs this machine, in bytes: the proportional share (PSS) of each of its processes, those that
    hold it from outside (bubblewrap, containerd's shim, gVisor's kernel) too. None where it cannot be read."""
    try:
        pid = (
            int(worker) if place.sandbox == "jail" else _parent_of(_client().inspect_container(worker)["State"]["Pid"])
        )
        return sum(map(_pss_of, _family_of(pid)))
    except PermissionError:
        return None


def cpu_of(place: Place, worker: str) -> tuple[float, float, float] | None:
    """What one worker has used, in seconds: its pid 1, other processes that are there, and those that have ended.

    None where it cannot be read: gVisor's processes are its own.
    """
    if place.runtime:
        return None
    in_jail = place.sandbox == "jail"
    first = _children_of(int(worker))[0] if in_jail else _client().inspect_container(worker)["State"]["Pid"]
    family = _family_of(first)
    own = [_own_cpu_of(pid) for pid in family]
    return own[0], sum(own[1:]), sum(map(_ended_cpu_of, family))


def _own_cpu_of(pid: int) -> float:
    with suppress(FileNotFoundError, ProcessLookupError):  # a fork that has just ended
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    return 0


def _ended_cpu_of(pid: int) -> float:
    """Of its children."""
    with suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return 0


def _children_of(pid: int) -> list[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def _family_of(pid: int) -> list[int]:
    found = [pid]
    for member in found:
        found += _children_of(member)
    return found


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _pss_of(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):  # a fork that has just ended
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
