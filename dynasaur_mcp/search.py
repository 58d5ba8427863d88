"""search_actions: a query -> the actions that fit it best, and why."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from dynasaur_mcp.errors import ActionNotFound
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.types import NAME_PATTERN, Found, Match, Status

MAX_LIMIT = 50


def search_actions(query: str, *, index: Index, store: Store, limit: int = 5) -> Found:
    """Find actions for a task in any words. An action's own name finds it first, whatever else fits.

    Args:
        limit: From 1 to MAX_LIMIT; more or less is taken as the nearest of these.
    """
    limit = max(1, min(limit, MAX_LIMIT))
    found = index.find(query, limit)
    name = query.strip()
    with contextlib.suppress(ActionNotFound):
        entry = store.get(name) if NAME_PATTERN.fullmatch(name) else None
        if entry and entry.status is not Status.DISABLED:
            others = [match for match in found.matches if match.entry.name != name]
            matches = (Match(entry, 1.0, (name,)), *others)[:limit]
            return replace(found, matches=matches, total=max(found.total, len(matches)), fits=True)
    return found
