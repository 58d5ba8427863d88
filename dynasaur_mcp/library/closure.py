"""A function of a session, plus everything at module level it uses, as one self-contained file.

A session is not a file: names are bound again, and a constant may have been made from a value that has changed since.
So each name is looked up as of the moment it is needed: what a statement needs when it runs, among those before
it; what a function needs when it is called, among all. The statements found keep their order; only imports that
nothing contradicts move to the top.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence

from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library.rules import Function
from dynasaur_mcp.library.script import find_script
from dynasaur_mcp.library.statements import Definition, Statement, read_steps
from dynasaur_mcp.types import Problem


def extract_function(steps: Sequence[str], name: str) -> str:
    """The source of function `name` as the steps of a session left it.

    Raises:
        ActionInvalid: no step defines it, or it depends on what no file can hold.
    """
    statements = read_steps(steps)
    chosen = [statements[position] for position in sorted(_choose(statements, name))]
    problems = _find_problems(name, statements, chosen)
    if problems:
        raise ActionInvalid(f"{name[:60]!r} cannot be kept from this session:", problems)
    blocks = [block for step in steps if (block := find_script(step))]
    future = [statement for statement in statements if statement.is_future_import]
    return _write_file(blocks[-1:], [*future, *chosen])


def _choose(statements: Sequence[Statement], name: str) -> set[int]:
    """Positions of the statements without which `name` would not be what it is."""
    chosen: set[int] = set()
    asked: set[tuple[str, int]] = set()
    waiting = [(name, len(statements))]
    while waiting:
        need = waiting.pop()
        if need in asked:
            continue
        asked.add(need)
        wanted, moment = need
        found = _find_binding(statements, wanted, moment)
        if not found and not hasattr(builtins, wanted):
            found = [position for position in range(moment) if statements[position].is_star_import]
        for position in found:
            statement = statements[position]
            chosen.add(position)
            waiting += [(other, position) for other in statement.now]
            waiting += [(other, moment) for other in statement.later]
    return chosen


def _find_binding(statements: Sequence[Statement], name: str, moment: int) -> list[int]:
    """What made `name` what it was at that moment, last first."""
    found = []
    for position in range(moment - 1, -1, -1):
        statement = statements[position]
        if name in statement.binds or name in statement.touches:
            found.append(position)
        if name in statement.binds and name not in statement.touches and not statement.may_not_bind:
            break
    is_bound = any(name in statements[position].binds for position in found)
    return found if is_bound else []


def _find_problems(name: str, statements: Sequence[Statement], chosen: Sequence[Statement]) -> list[Problem]:
    if not any(isinstance(statement.node, Function) and statement.node.name == name for statement in chosen):
        functions = {s.node.name: None for s in statements if isinstance(s.node, Function)}
        there = ", ".join(map(repr, functions)) or "none yet"
        bound = any(name in statement.binds for statement in statements)
        what = "is no function made by `def`" if bound else "is not defined in it"
        return [Problem(f"{name[:60]!r} {what}. Its functions: {there}.")]
    awaiting = [statement.text.splitlines()[0][:80] for statement in chosen if statement.awaits]
    hint = "and a module cannot await. Await it in the function"
    return [Problem(f"it depends on `{text}`, {hint}.") for text in awaiting]


def _write_file(blocks: Iterable[str], statements: Sequence[Statement]) -> str:
    """The block, then imports that mean the same everywhere, then the rest in its order."""
    texts: dict[str, set[str]] = {}
    for statement in statements:
        for bound in statement.binds:
            texts.setdefault(bound, set()).add("" if statement.may_not_bind else statement.text)
    top: dict[str, None] = dict.fromkeys(s.text for s in statements if s.is_future_import)
    rest = []
    for statement in statements:
        if statement.is_future_import:
            continue
        if statement.is_import and all(len(texts[bound]) == 1 for bound in statement.binds):
            top[statement.text] = None
        else:
            rest.append(statement)
    parts = [*blocks, *(["\n".join(top)] if top else [])]
    text = "\n".join(parts)
    for before, statement in zip([None, *rest], rest, strict=False):
        is_wide = isinstance(statement.node, Definition) or (before and isinstance(before.node, Definition))
        text += ("\n\n\n" if is_wide else "\n\n" if before is None else "\n") if text else ""
        text += statement.text
    return text.strip("\n") + "\n"
