"""Remove what killed servers left behind, in every kind of sandbox."""

from __future__ import annotations

from dataclasses import dataclass

import anyio.to_thread

from dynasaur_mcp.errors import SandboxError
from dynasaur_mcp.sandbox.docker import DockerSandbox, Engine
from dynasaur_mcp.sandbox.engine import connect
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.settings import Settings


@dataclass(frozen=True, slots=True)
class Swept:
    """How many leftovers one kind of sandbox had."""

    sandbox: str
    removed: int
    note: str


async def sweep(settings: Settings) -> list[Swept]:
    """Reap in each kind of sandbox."""
    jail = Swept("jail", 0, "jails end with their server: nothing is ever left")
    return [await _sweep_docker(settings), jail]


async def _sweep_docker(settings: Settings) -> Swept:
    try:
        client = await anyio.to_thread.run_sync(connect)
        # No image is named: also what a server of another version left is swept, whose image is not this one's.
        sandbox = DockerSandbox(
            Engine(client, "", "", ""), settings.limits(), settings.cache, Presence(settings.cache / "servers")
        )
        try:
            return Swept("docker", await sandbox.reap(), "containers of servers that were killed")
        finally:
            await sandbox.aclose()
    except SandboxError as error:
        return Swept("docker", 0, str(error))
