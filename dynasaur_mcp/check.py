"""Check an action in a fresh worker together with all that it uses: it imports, its schemas, its tests."""

from __future__ import annotations

from collections.abc import Callable

import anyio.to_thread

from dynasaur_mcp.errors import RequirementsInvalid
from dynasaur_mcp.library.change import FILE_AUTHOR, decide_status
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.uses import follow_uses, join_requirements, naming_who_needs
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.stages import tell_stage
from dynasaur_mcp.types import Action, Check, Entry, Problem, Status, Tests


async def check_action(action: Action, get: Callable[[str], Entry], pool: Pool) -> Check:
    """What cannot even be tried, for want of another action or of a package, is a problem like any other.

    Args:
        get: As `Store.get`, for what it uses.

    Raises:
        SandboxError, LibraryError
    """
    used = follow_uses(get, action.uses)
    missing = {name: why for name, why in used.missing.items() if name != action.name}
    if missing:
        problems = [Problem(f"it uses {name!r} from actions. {why}") for name, why in missing.items()]
        return Check(problems=tuple(problems))
    needs = {**used.needs, action.name: action.requirements}
    sources = {**used.sources, action.name: action.source}
    try:
        with naming_who_needs(needs, action.name):
            check = await pool.workers.check(action.name, sources, join_requirements(needs))
    except RequirementsInvalid as error:
        return Check(problems=error.problems)
    if check.problems and action.name in used.sources.keys() | used.missing.keys():
        hint = "Import it inside the function, or break the circle"
        circle = Problem(f"{', '.join(map(repr, action.uses))} in turn uses {action.name!r}. {hint}.")
        return Check((*check.problems, circle), check.schemas, check.tests, check.output)
    return check


async def check_kept(
    entry: Entry, *, store: Store, pool: Pool, require_approval: bool, author: str = FILE_AUTHOR
) -> Entry:
    """Check a version that is kept already, and keep what came out. A draft becomes active if its tests pass.

    Args:
        author: Who wants it; nobody, for what was found in the folder.

    Raises:
        ActionNotFound: it is gone meanwhile.
        SandboxError, LibraryError
    """
    tell_stage(f"Testing {entry.name!r}")
    check = await check_action(entry.action, store.get, pool)
    tests = Tests(check.tests.passed, (*map(str, check.problems), *check.tests.failures))
    status = decide_status(tests, require_approval) if entry.status is Status.DRAFT else entry.status
    schemas = check.schemas or entry.schemas
    return await anyio.to_thread.run_sync(
        lambda: store.record_check(
            entry.name, entry.version, tests=tests, schemas=schemas, status=status, author=author
        )
    )
