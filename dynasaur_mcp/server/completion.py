"""Completion of what prompts and resource templates ask for: names of actions, sessions and runs, paths of files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mcp_types import Completion, PromptReference, ResourceTemplateReference

from dynasaur_mcp.errors import ActionError, SandboxError
from dynasaur_mcp.types import Status

if TYPE_CHECKING:
    from dynasaur_mcp.library.store import Store
    from dynasaur_mcp.runs import Runs
    from dynasaur_mcp.sandbox.pool import Pool

MOST = 100
"""Values of one answer, as the protocol has it."""


def complete_action(begun: str, store: Store) -> Completion:
    """Names of active actions that begin so."""
    entries = store.entries(begun, MOST + 1, Status.ACTIVE)
    names = [entry.action.name for entry in entries if entry.action.name.startswith(begun)]
    try:
        if begun and store.get(begun).status is Status.ACTIVE:
            names.insert(0, begun)
    except ActionError:
        pass
    return _page(names)


async def complete(
    ref: PromptReference | ResourceTemplateReference,
    argument: str,
    begun: str,
    given: dict[str, str],
    *,
    store: Store,
    runs: Runs,
    pool: Pool,
    principal: str,
) -> Completion:
    """What an argument that was begun so may be; nothing where nothing is known.

    Args:
        given: The other arguments, as far as they are filled in.
    """
    asked = ref.name if isinstance(ref, PromptReference) else ref.uri
    match asked.split("{")[0], argument:
        case (("generalise_action" | "dynasaur://actions/"), "name"):
            return complete_action(begun, store)
        case "dynasaur://actions/", "version":
            return _complete_version(begun, given.get("name", ""), store)
        case "dynasaur://sessions/", "session":
            return _page(sorted(name for name in pool.session_names(principal) if name.startswith(begun)))
        case "dynasaur://sessions/", "path":
            return await _complete_path(begun, given.get("session", ""), pool, principal)
        case "dynasaur://runs/", "id":
            return _page([run_id for run_id in runs.ids(principal) if run_id.startswith(begun)])
    return Completion(values=[])


def _complete_version(begun: str, name: str, store: Store) -> Completion:
    try:
        versions = [str(entry.version) for entry in store.history(name)]
    except ActionError:
        return Completion(values=[])
    return _page([version for version in versions if version.startswith(begun)])


async def _complete_path(begun: str, session: str, pool: Pool, principal: str) -> Completion:
    folder, slash, rest = begun.rpartition("/")
    try:
        async with pool.session(principal, session, create=False) as found:
            listing = await found.files.list(folder)
    except (ActionError, SandboxError):
        return Completion(values=[])
    paths = [
        folder + slash + item.name + "/" * (item.kind == "folder")
        for item in listing.items
        if item.name.startswith(rest)
    ]
    return _page(paths)


def _page(values: Sequence[str]) -> Completion:
    return Completion(values=list(values[:MOST]), has_more=len(values) > MOST)
