"""What of a module runs when it is imported, as far as that tells what else runs and whom it may change: read fast."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from dynasaur_mcp.library.rules import walk_own
from dynasaur_mcp.library.statements import is_main_guard, names_type_checking
from dynasaur_mcp.library.symbols import Definition, Import, parse


@dataclass(frozen=True, slots=True)
class Outline:
    imports: tuple[tuple[int, Import], ...]
    """Each with the line on which its statement at module level begins."""
    words: frozenset[str]
    """All names in statements that may change what another module has."""


def read_outline(text: str) -> Outline:
    imports: list[tuple[int, Import]] = []
    words: set[str] = set()
    for node in getattr(parse(text), "body", ()):
        found = sorted((each for each in _walk(node) if isinstance(each, Import)), key=lambda each: each.lineno)
        imports += [(node.lineno, each) for each in found]
        aliases = {alias.asname: alias.name for each in found for alias in each.names if alias.asname}
        words |= set(aliases.values()) | {name for part in _list_changing(node) for name in _find_words(part)}
    return Outline(tuple(imports), frozenset(words))


def _walk(node: ast.stmt) -> Iterator[ast.stmt]:
    """Statements that run, in their order: none of functions, and none for type checkers."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        if is_main_guard(node) or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        is_for_types = isinstance(node, ast.If) and names_type_checking(node.test)
        fields = ("orelse",) if is_for_types else ("body", "handlers", "orelse", "finalbody", "cases")
        # No recursion: each `elif` is in the one above it.
        waiting += reversed([inner for field in fields for inner in getattr(node, field, ())])


def _list_changing(node: ast.stmt) -> Iterator[ast.AST]:
    """The parts of a statement in which it may change something: an assignment to a name of its own does not."""
    if isinstance(node, Definition):
        yield from node.decorator_list
        yield from getattr(node, "bases", ())
    elif isinstance(node, ast.Assign):
        yield from (each for each in node.targets if not isinstance(each, ast.Name))
    elif not isinstance(node, Import | ast.AnnAssign):
        yield node


def _find_words(node: ast.AST) -> Iterator[str]:
    for each in walk_own(node):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Attribute):
            yield each.attr
