"""What the library was worth: how often each action was used, from where, and what was not written again for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from graphlib import CycleError, TopologicalSorter

from dynasaur_mcp.types import Entry, Usage

CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Tally:
    """One action, as it is now."""

    entry: Entry
    usage: Usage
    depth: int
    """Levels of actions that it is composed of: 0 for one that uses no other."""

    @property
    def tokens(self) -> int:
        """Of its source, about."""
        return len(self.entry.action.source) // CHARACTERS_A_TOKEN

    @property
    def tokens_saved(self) -> int:
        """That would have been written again, had it not been kept."""
        return self.tokens * self.usage.reuse

    @property
    def success_rate(self) -> float | None:
        return self.entry.successes / self.entry.calls if self.entry.calls else None


def tally_actions(entries: Sequence[Entry], usages: Mapping[str, Usage]) -> list[Tally]:
    """By name.

    Args:
        usages: As `Store.usages`.
    """
    depths = _measure_depths(entries)
    return [Tally(entry, usages.get(entry.name, Usage()), depths[entry.name]) for entry in entries]


def find_stale(entries: Sequence[Entry], now: datetime, days: float) -> list[Entry]:
    """Those not used in any way for so many days, and no newer than that; the longest unused first."""
    since = now - timedelta(days=days)
    stale = [entry for entry in entries if _last_sign(entry) < since]
    return sorted(stale, key=_last_sign)


def _last_sign(entry: Entry) -> datetime:
    return max(entry.used_at or entry.defined_at, entry.defined_at)


def _measure_depths(entries: Sequence[Entry]) -> dict[str, int]:
    names = {entry.name for entry in entries}
    below = {entry.name: names.intersection(entry.action.uses) for entry in entries}
    depths: dict[str, int] = {}
    for name in _order(below):
        depths[name] = max((depths[used] + 1 for used in below[name]), default=0)
    return depths


def _order(below: dict[str, set[str]]) -> list[str]:
    """Each after those it uses. Actions may use each other in a circle: `below` is then without one step of it."""
    while True:
        try:
            return list(TopologicalSorter(below).static_order())
        except CycleError as error:
            used, user = error.args[1][:2]
            below[user].discard(used)
