"""What actions use of each other: followed through the library to the end, and what is missing on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from dynasaur_mcp.errors import ActionDisabled, ActionNotFound, NetworkDenied
from dynasaur_mcp.hosts import find_uncovered
from dynasaur_mcp.types import Entry, Status


@dataclass(frozen=True, slots=True)
class Uses:
    """Actions and all that they use, each once; they may use each other."""

    entries: tuple[Entry, ...]
    missing: dict[str, str]
    """Name of each that cannot be called -> why not, and what to do."""
    denied: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Of these, the name of each for want of network -> the hosts it may not reach."""

    @property
    def sources(self) -> dict[str, str]:
        return {entry.name: entry.action.source for entry in self.entries}

    @property
    def requirements(self) -> tuple[str, ...]:
        return tuple(sorted({text for entry in self.entries for text in entry.action.requirements}))


def follow_uses(get: Callable[[str], Entry], names: Iterable[str], network: Sequence[str] | None = None) -> Uses:
    """
    Args:
        get: As `Store.get`.
        network: Hosts that may be reached; one that needs another cannot be called. None: each may need what it likes.
    """
    waiting, seen = list(names), set[str]()
    entries: list[Entry] = []
    missing: dict[str, str] = {}
    denied: dict[str, tuple[str, ...]] = {}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            entry = get(name)
        except ActionNotFound as error:
            missing[name] = str(error)
            continue
        if entry.status is Status.DISABLED:
            missing[name] = str(ActionDisabled(name))
        elif network is not None and (hosts := find_uncovered(entry.action.network, network)):
            denied[name] = hosts
            missing[name] = str(NetworkDenied(name, {name: hosts}))
        else:
            waiting += entry.action.uses
            entries.append(entry)
    return Uses(tuple(entries), missing, denied)
