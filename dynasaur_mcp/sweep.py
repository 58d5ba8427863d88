"""Remove what is of no more use, in every kind of sandbox: leftovers of killed servers, packages beyond their room."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import anyio.to_thread

from dynasaur_mcp.errors import SandboxError
from dynasaur_mcp.sandbox import cgroup
from dynasaur_mcp.sandbox.docker import DockerSandbox, Engine, find_targets
from dynasaur_mcp.sandbox.engine import connect
from dynasaur_mcp.sandbox.image import image_tag
from dynasaur_mcp.sandbox.packages import PackageStore, sweep_folder
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.resolved import forget_resolved
from dynasaur_mcp.sandbox.wheels import Target
from dynasaur_mcp.settings import Settings


@dataclass(frozen=True, slots=True)
class Swept:
    """What was removed of one kind of sandbox."""

    sandbox: str
    workers: int
    sets: int
    """Of packages."""
    bytes: int
    note: str


async def sweep(settings: Settings, *, all_packages: bool = False) -> list[Swept]:
    """Sweep each kind of sandbox.

    Args:
        all_packages: All sets go that no worker uses, and all that was resolved is forgotten.
    """
    if all_packages:
        settings = settings.model_copy(update={"packages_bytes": 0})
        await anyio.to_thread.run_sync(forget_resolved, settings.cache)
    tags, docker = await _sweep_docker(settings)
    work = partial(sweep_folder, settings.cache / "packages", settings.packages_bytes, tags)
    removed = await anyio.to_thread.run_sync(work)
    jails = await anyio.to_thread.run_sync(_remove_groups, settings)
    note = "control groups of servers that were killed; packages are those of the cache folder, also docker's"
    return [docker, Swept("jail", jails, removed["sets"], removed["bytes"], note)]


async def _sweep_docker(settings: Settings) -> tuple[set[str] | None, Swept]:
    """Also the tags of all targets that the engine has images for; None where it does not answer."""
    tags, reaped = None, 0
    try:
        async with _open_docker(settings) as sandbox:
            reaped = await sandbox.reap()
            tags = await anyio.to_thread.run_sync(find_targets, sandbox.engine.client)
            removed = await sandbox.sweep_packages(tags)
    except SandboxError as error:
        return tags, Swept("docker", reaped, 0, 0, str(error))
    note = "containers of servers that were killed; packages are those of the volume"
    return tags, Swept("docker", reaped, removed["sets"], removed["bytes"], note)


def _remove_groups(settings: Settings) -> int:
    with contextlib.closing(Presence(settings.cache / "servers")) as presence:
        leftovers = cgroup.find_leftovers(presence)
        for group in leftovers:
            group.remove()
    return len(leftovers)


async def find_leftovers(settings: Settings) -> list[tuple[str, str]]:
    """What killed servers left behind: the sandbox, and the name of a container (none where no engine answers) or of a
    jail's control group.
    """
    found: list[tuple[str, str]] = []
    with contextlib.suppress(SandboxError, OSError):
        async with _open_docker(settings) as sandbox:
            found += [("docker", name) for name in await sandbox.leftovers()]
    with contextlib.suppress(OSError), contextlib.closing(Presence(settings.cache / "servers")) as presence:
        found += [("jail", group.name) for group in await anyio.to_thread.run_sync(cgroup.find_leftovers, presence)]
    return found


@contextlib.asynccontextmanager
async def _open_docker(settings: Settings) -> AsyncIterator[DockerSandbox]:
    client = await anyio.to_thread.run_sync(connect)
    # What a server of another version left is found too; the image is only for looking after packages.
    engine = Engine(client, image_tag(), "", "")
    store = PackageStore(settings.cache, Target(""), settings.package_rules())
    with contextlib.closing(Presence(settings.cache / "servers")) as presence:
        sandbox = DockerSandbox(engine, settings.limits(), store, presence)
        try:
            yield sandbox
        finally:
            await sandbox.aclose()
