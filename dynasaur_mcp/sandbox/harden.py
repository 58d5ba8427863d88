"""The container of a worker, with all that it may not do.

Nothing of the host is mounted, so an engine elsewhere does as well. `put_archive` is refused on a read-only root, even
into a tmpfs: files travel in the worker's frames.

`/workspace` and `/tmp` are in memory, and count against the container's: see `Limits.with_files_in_memory`.

gVisor (`runsc`) lets a process kill pid 1 and read its environment and descriptors, where both have one uid. So there
the worker starts as root with the right to change that and nothing else, and its supervisor gets a uid of its own.
Limits may not be those of cgroups there: the worker counts memory itself, and gVisor's kernel, in which no one else is,
holds its uid to a number of processes.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping
from typing import Any

from dynasaur_mcp.sandbox.seccomp import profile_text
from dynasaur_mcp.sandbox.volume import PLACE
from dynasaur_mcp.types import Limits

UID, SUPERVISOR_UID = 65534, 65533
_FIRST_UID, _UIDS = 20_000, 40_000
"""Whom systems do not have by themselves, and engines with a range of users (rootless ones) have all the same."""

ENVIRONMENT = (
    "HOME=/workspace",
    # No user of the image is this one.
    "USER=sandbox",
    "LANG=C.UTF-8",
    # They would be in the workspace, and loaded by each Python that a call starts.
    "PYTHONNOUSERSITE=1",
    "PYTHONDONTWRITEBYTECODE=1",
    # Threads of these would make sessions that cannot fork.
    "OMP_NUM_THREADS=1",
    "OPENBLAS_NUM_THREADS=1",
    "MKL_NUM_THREADS=1",
    "NUMEXPR_NUM_THREADS=1",
    "MPLCONFIGDIR=/tmp/matplotlib",
    "XDG_CACHE_HOME=/tmp/cache",
)


def describe_container(
    image: str, limits: Limits, labels: Mapping[str, str], volume: str, runtime: str
) -> dict[str, Any]:
    """The whole of it, in the words of the engine's API. Each has a user of its own.

    Args:
        volume: Of packages, to be read.
        runtime: OCI runtime, empty for the engine's default. One with `runsc` in its name is taken for gVisor.
    """
    on_gvisor = "runsc" in runtime
    uid = UID if on_gvisor else _FIRST_UID + secrets.randbelow(_UIDS)
    limits = limits.with_files_in_memory()
    worker_limits: dict[str, object] = dataclasses.asdict(limits)
    if on_gvisor:
        worker_limits |= {"uid": UID, "own_uid": SUPERVISOR_UID, "limit_processes": True}
    ulimits = (("core", 0), ("nofile", limits.open_files), ("fsize", limits.file_bytes))
    return {
        "Image": image,
        "Cmd": [json.dumps(worker_limits)],
        "Hostname": "sandbox",
        "User": "0:0" if on_gvisor else f"{uid}:{UID}",
        "WorkingDir": "/workspace",
        "Env": list(ENVIRONMENT),
        "Labels": labels,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": True,
        # The network `none` is one too: to join it takes half of a start. Docker 20.10 was once seen to hang, waiting
        # for a lock of its networks, when a hundred containers ended at once.
        "NetworkDisabled": True,
        # stdin closes with the attached connection: a server that vanishes ends its workers.
        "StdinOnce": True,
        # pid 1 heeds no other signal, and an engine that stops would wait ten seconds for it.
        "StopSignal": "SIGKILL",
        "HostConfig": {
            "AutoRemove": True,
            "CapDrop": ["ALL"],
            "CapAdd": ["SETUID", "SETGID"] if on_gvisor else [],
            "SecurityOpt": ["no-new-privileges", f"seccomp={profile_text()}"],
            "ReadonlyRootfs": True,
            "Tmpfs": {
                "/workspace": f"rw,exec,nosuid,nodev,mode=1777,size={limits.workspace_bytes}",
                "/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={limits.tmp_bytes}",
            },
            "Mounts": [{"Type": "volume", "Source": volume, "Target": PLACE, "ReadOnly": True}],
            "NetworkMode": "none",
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "ShmSize": limits.shm_bytes,
            "PidsLimit": limits.processes,
            "Memory": limits.memory_bytes,
            "MemorySwap": limits.memory_bytes,
            "NanoCpus": int(limits.cpus * 1e9),
            # No nproc: it would count the processes of all containers of this uid together.
            "Ulimits": [{"Name": name, "Soft": value, "Hard": value} for name, value in ulimits],
            # json-file would double every byte of the frames onto the engine's disk.
            "LogConfig": {"Type": "none"},
            **({"Runtime": runtime} if runtime else {}),
        },
    }
