"""What actions use of each other: followed through the library to the end, and what is missing on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dynasaur_mcp.errors import ActionDisabled, ActionNotFound, NetworkDenied, RequirementsInvalid
from dynasaur_mcp.hosts import find_uncovered
from dynasaur_mcp.types import Entry, Problem, Status


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
    def needs(self) -> dict[str, tuple[str, ...]]:
        """Name -> the requirements that it declares."""
        return {entry.name: entry.action.requirements for entry in self.entries}


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


def join_requirements(needs: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """All of them, each once."""
    return tuple(sorted({text for requirements in needs.values() for text in requirements}))


@contextlib.contextmanager
def naming_who_needs(needs: Mapping[str, Sequence[str]], first: str = "") -> Iterator[None]:
    """Have an error about requirements say whose they are.

    Args:
        needs: Name of an action -> what it declares; the name "" for a step's own.
        first: The action in hand, which uses the others; empty for a step.

    Raises:
        RequirementsInvalid
    """
    try:
        yield
    except RequirementsInvalid as error:
        wanted = {name: [text for text in texts if text in error.culprits] for name, texts in needs.items()}
        askers = sorted((name for name in wanted if wanted[name]), key=lambda name: (name != first, name))
        if set(askers) <= {first}:
            raise
        told = "; ".join(f"{_describe_asker(name, first)} needs {', '.join(wanted[name])}" for name in askers)
        problems = [Problem(f"{told}: {error.problems[0]}"), *error.problems[1:]]
        raise RequirementsInvalid(problems, error.culprits) from None


def _describe_asker(name: str, first: str) -> str:
    if not name:
        return "this step"
    return repr(name) if name == first else f"{name!r} (which {'it' if first else 'this step'} uses)"
