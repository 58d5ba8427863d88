"""Commands about what became of the library: `stats`, `actions stale`, `actions restore`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from dynasaur_mcp.app import open_store
from dynasaur_mcp.errors import ActionError, ActionNotFound
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.tally import Tally, find_stale, tally_actions
from dynasaur_mcp.options import AsJson, Library
from dynasaur_mcp.settings import read_settings
from dynasaur_mcp.tables import show_json, show_table
from dynasaur_mcp.types import LOCAL, Entry


def stats(
    library: Library = None,
    as_json: AsJson = False,
) -> None:
    """Show how often each action was used, used again in later sessions, and what that saved.

    A reuse is a call that returned, or a step that imported the action and succeeded, in a session that began after the
    version used was defined.
    """
    with open_store(read_settings(library=library)) as store:
        tallies = tally_actions(store.entries(), store.usages())
    total = _sum_up(tallies)
    if as_json:
        show_json({"actions": [_to_json(tally) for tally in tallies], "total": total})
        return
    columns = ["name", "by", "version", "calls", "succeeded", "p50", "last used", "reused", "depth", "tokens saved"]
    show_table(columns, map(_to_row, tallies))
    typer.echo(
        f"{total['actions']:,} actions, {total['reused']:,} of them reused; {total['calls']:,} calls and "
        f"{total['imports']:,} imports, {total['reuse']:,} of these reuses; "
        f"about {total['tokens_saved']:,} tokens not written again",
        err=True,
    )


def _to_row(tally: Tally) -> tuple[str, ...]:
    entry, usage = tally.entry, tally.usage
    return (
        entry.name,
        usage.maker,
        f"v{entry.version}",
        f"{entry.calls:,}",
        "" if tally.success_rate is None else f"{tally.success_rate:.0%}",
        "" if usage.p50_seconds is None else f"{usage.p50_seconds * 1000:,.1f} ms",
        _show_day(entry.used_at),
        f"{usage.reuse:,}",
        str(tally.depth),
        f"{tally.tokens_saved:,}",
    )


def _to_json(tally: Tally) -> dict[str, Any]:
    entry, usage = tally.entry, tally.usage
    return {
        "name": entry.name,
        "version": entry.version,
        "status": entry.status,
        "maker": usage.maker,
        "calls": entry.calls,
        "imports": usage.imports,
        "success_rate": tally.success_rate,
        "p50_seconds": usage.p50_seconds,
        "last_use": entry.used_at.isoformat() if entry.used_at else None,
        "reuse": usage.reuse,
        "depth": tally.depth,
        "tokens": tally.tokens,
        "tokens_saved": tally.tokens_saved,
    }


def _sum_up(tallies: Sequence[Tally]) -> dict[str, int]:
    return {
        "actions": len(tallies),
        "reused": sum(tally.usage.reuse > 0 for tally in tallies),
        "calls": sum(tally.entry.calls for tally in tallies),
        "imports": sum(tally.usage.imports for tally in tallies),
        "reuse": sum(tally.usage.reuse for tally in tallies),
        "tokens_saved": sum(tally.tokens_saved for tally in tallies),
    }


def stale(
    days: Annotated[float, typer.Option("--days", min=0, help="Not used for so long.")] = 30,
    library: Library = None,
    as_json: AsJson = False,
) -> None:
    """List actions that were not used for long: not called, not imported by a step, not by way of another action."""
    with open_store(read_settings(library=library)) as store:
        found = find_stale(store.entries(), datetime.now(UTC), days)
    if as_json:
        show_json([_to_short_json(entry) for entry in found])
        return
    if not found:
        typer.echo(f"Every action was used, or defined, within {days:g} days.", err=True)
    show_table(["name", "version", "status", "last used", "calls", "what it does"], map(_to_stale_row, found))


def _to_stale_row(entry: Entry) -> tuple[str, ...]:
    status = f"{entry.status}, pinned" if entry.pinned else str(entry.status)
    return (
        entry.name,
        f"v{entry.version}",
        status,
        _show_day(entry.used_at) or "never",
        str(entry.calls),
        entry.action.summary,
    )


def _to_short_json(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "version": entry.version,
        "status": entry.status,
        "last_use": entry.used_at.isoformat() if entry.used_at else None,
        "calls": entry.calls,
        "summary": entry.action.summary,
    }


def _show_day(when: datetime | None) -> str:
    return f"{when:%Y-%m-%d}" if when else ""


def restore(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Without: list what is deleted.")] = None,
    version: Annotated[int | None, typer.Option("--version", min=1, help="Its version; the last, if deleted.")] = None,
    library: Library = None,
    as_json: AsJson = False,
) -> None:
    """Bring back deleted actions as they last were, or an earlier version of one."""
    if version and not names:
        raise typer.BadParameter("--version is that of an action: give its name")
    settings = read_settings(library=library)
    with open_store(settings) as store:
        if not names:
            deleted = store.deleted()
            rows = [(one.name, f"v{one.version}", str(one.calls), one.action.summary) for one in deleted]
            if as_json:
                show_json([_to_short_json(one) for one in deleted])
            else:
                show_table(["name", "last version", "calls", "what it did"], rows)
        for name in names or []:
            back = version or _find_deleted(name, store)
            entry = store.rollback(name, back, author=LOCAL, require_approval=settings.require_approval)
            typer.echo(f"{name} v{entry.version} is what v{back} was: {entry.status}.")


def _find_deleted(name: str, store: Store) -> int:
    versions = store.history(name)
    try:
        current = store.get(name)
    except ActionNotFound:
        return versions[0].version
    there = ", ".join(f"--version {entry.version}" for entry in reversed(versions) if entry.version != current.version)
    hint = f"There is {there}" if there else "It has no other version"
    raise ActionError(f"{name!r} is not deleted: it is at version {current.version}. {hint}.")
