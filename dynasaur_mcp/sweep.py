"""Remove what killed servers left behind, in every kind of sandbox."""

from __future__ import annotations

from dataclasses import dataclass

from dynasaur_mcp.app import choose_sandbox
from dynasaur_mcp.errors import SandboxError
from dynasaur_mcp.settings import Settings


@dataclass(frozen=True, slots=True)
class Swept:
    """How many leftovers one kind of sandbox had."""

    sandbox: str
    removed: int
    note: str


async def sweep(settings: Settings) -> list[Swept]:
    """Reap in each sandbox that works here; one that does not has nothing left."""
    return [await _sweep(settings.model_copy(update={"sandbox": sandbox})) for sandbox in ("docker", "jail")]


async def _sweep(settings: Settings) -> Swept:
    try:
        sandbox = await choose_sandbox(settings)
    except SandboxError as error:
        return Swept(settings.sandbox, 0, str(error))
    try:
        return Swept(settings.sandbox, await sandbox.reap(), "left by servers that were killed")
    finally:
        await sandbox.aclose()
