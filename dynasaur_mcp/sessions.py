"""Sessions as their principal sees them: which are open, and closing one."""

from __future__ import annotations

from dynasaur_mcp.sandbox.pool import Pool


async def list_sessions(principal: str, pool: Pool) -> str:
    """One line for each of the principal's sessions."""
    lines = []
    for one in await pool.held():
        if one.principal == principal:
            memory = "" if one.memory_bytes is None else f", {one.memory_bytes >> 20} MiB"
            lines.append(f"{one.name}: {'at work' if one.is_busy else f'idle for {one.idle_seconds:.0f} s'}{memory}")
    return "\n".join(sorted(lines)) or "No session is open. run_python opens one."


async def close_session(name: str, principal: str, pool: Pool) -> str:
    """End a session once it is idle.

    Raises:
        SessionNotFound
    """
    await pool.close_session(principal, name)
    return f"Session {name!r} is closed, its variables and files are gone."
