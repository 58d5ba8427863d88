"""What actions use of each other: followed through the library to the end, and what is missing on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dynasaur_mcp.errors import ActionDisabled, ActionNotFound
from dynasaur_mcp.types import Entry, Status


@dataclass(frozen=True, slots=True)
class Uses:
    """Actions and all that they use, each once; they may use each other."""

    entries: tuple[Entry, ...]
    missing: dict[str, str]
    """Name of each that cannot be called -> why not, and what to do."""

    @property
    def sources(self) -> dict[str, str]:
        return {entry.name: entry.action.source for entry in self.entries}

    @property
    def requirements(self) -> tuple[str, ...]:
        return tuple(sorted({text for entry in self.entries for text in entry.action.requirements}))


def follow_uses(get: Callable[[str], Entry], names: Iterable[str]) -> Uses:
    """
    Args:
        get: As `Store.get`.
    """
    waiting, seen = list(names), set[str]()
    entries: list[Entry] = []
    missing: dict[str, str] = {}
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
        else:
            waiting += entry.action.uses
            entries.append(entry)
    return Uses(tuple(entries), missing)
