"""Whether what a function takes from its session's module level is the same where only its file has run.

Which statements of a session made a value what it is, is read from their text: a change by way of another name, by a
function or by `globals()` does not show there. So the values themselves are compared, those that have a text that says
all of them.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence

from dynasaur_mcp.library.rules import find_dotted
from dynasaur_mcp.library.statements import Statement, read_module
from dynasaur_mcp.library.symbols import Definition, find_root, find_touched
from dynasaur_mcp.sandbox.session import TAKEN_BACK, VARIABLES_LOST, Session
from dynasaur_mcp.types import Ending, Problem

_LONGEST_SHOWN = 60
_WORKER_MODULE = "dynasaur_mcp.sandbox.worker.values"
Values = Mapping[str, tuple[str, str]]
"""By name, the beginning of a value's text and a digest of all of it."""


def find_values(source: str) -> list[str]:
    """Names that the module level of a file binds, but by imports, and that nothing in its functions and classes may
    change when called: a step may have called one to see what it does."""
    statements = read_module(source)
    bound = {name for each in statements if not each.is_import for name in each.binds}
    return sorted(bound.difference(*(_find_changed(each) for each in statements if isinstance(each.node, Definition))))


def _find_changed(definition: Statement) -> Iterator[str]:
    inside = list(ast.walk(definition.node))
    for each in inside:
        if isinstance(each, ast.Global):
            yield from each.names
    calls = [each for each in inside if isinstance(each, ast.Call)]
    # Also where what is changed gives something back: `return seen.setdefault(key, 1)`, `next(numbers)`.
    yield from definition.later.intersection(find_touched([*inside, *map(ast.Expr, calls)]))
    yield from (find_root(each.args[0]) for each in calls if find_dotted(each.func) == "next" and each.args)


async def tell_values(
    session: Session,
    names: Sequence[str],
    code: str = "",
    sources: Mapping[str, str] | None = None,
    requirements: tuple[str, ...] = (),
) -> Values:
    """What values a session has, without that being one of its steps.

    Args:
        code: To be run before, with the actions in `sources` and with `requirements`.

    Raises:
        SandboxError, RequirementsInvalid
    """
    if not names:
        return {}
    tell = f"__import__({_WORKER_MODULE!r}, fromlist='_').print_values(globals(), {list(names)!r})"
    news = session.news
    outcome = await session.run(f"{code}\n{tell}", sources or {}, requirements)
    # The caller hears with the next step what this one was told.
    session.news = (*news, *(note for note in outcome.notes if note in (TAKEN_BACK, VARIABLES_LOST)))
    if outcome.ending is Ending.RAISED and not session.is_lost:
        session.steps = session.steps[:-1]
    try:
        told = json.loads(outcome.stdout.splitlines()[-1])
        return {name: (str(text), str(digest)) for name, (text, digest) in told.items()}
    except (ValueError, IndexError, AttributeError, TypeError):  # the session's code may print what it likes
        return {}


def compare_values(here: Values, there: Values) -> list[Problem]:
    """What is another value in the session, `here`, than where only the file has run."""
    return [
        Problem(
            f"{name!r} is {_cut(text)} in the session, but {_cut(there[name][0])} where only this code has run. "
            "Make it a parameter, or assign it plainly in one step; anyway=true keeps it as it is."
        )
        for name, (text, digest) in here.items()
        if name in there and there[name][1] != digest
    ]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
