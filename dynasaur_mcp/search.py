"""search_actions: a query -> the actions that fit it best, and why."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from dynasaur_mcp.errors import ActionNotFound
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.types import NAME_PATTERN, Match, Status

MAX_LIMIT = 50


@dataclass(frozen=True, slots=True)
class Found:
    """An answer: the best matches, of how many, and what the search went by."""

    matches: tuple[Match, ...]
    total: int
    """Actions that fit at all."""
    searched: int
    """Actions that can be found."""
    used: str
    """`words`, or `words and meaning`."""


def search_actions(query: str, *, index: Index, store: Store, limit: int = 5) -> Found:
    """Find actions for a task in any words. An action's own name finds it first, whatever else fits.

    Args:
        limit: From 1 to MAX_LIMIT; more or less is taken as the nearest of these.
    """
    limit = max(1, min(limit, MAX_LIMIT))
    used = index.uses
    matches, total = index.find(query, limit)
    named = _put_named_first(query.strip(), matches, store)
    return Found(tuple(named[:limit]), max(total, len(named)), index.size, used)


def _put_named_first(name: str, matches: list[Match], store: Store) -> list[Match]:
    with contextlib.suppress(ActionNotFound):
        entry = store.get(name) if NAME_PATTERN.fullmatch(name) else None
        if entry and entry.status is not Status.DISABLED:
            return [Match(entry, 1.0, (name,)), *(match for match in matches if match.entry.name != name)]
    return matches
