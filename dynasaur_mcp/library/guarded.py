"""A function that an `if` or a `try` has at module level, brought to the top level."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from dynasaur_mcp.library.modules import SESSION, Modules, Reference
from dynasaur_mcp.library.rules import Function
from dynasaur_mcp.library.statements import Statement, read_node


def lift(modules: Modules, function: Reference) -> Modules:
    """The same modules, where of a guarded statement that defines the function only the branch with it is left.

    Of several it is the last, an `else` or an `except`: what code falls back to, and so what works anywhere. In a
    session one of them ran, and which cannot be told: none is taken.
    """
    statements = modules.statements(function.module)
    if any(isinstance(each.node, Function) and each.node.name == function.name for each in statements):
        return modules
    for position in reversed(range(len(statements))):
        branches = find_branches(statements[position].node, function.name)
        if len(branches) == 1 or (branches and function.module != SESSION):
            lifted = [each for node in branches[-1] for each in read_node(node, ast.unparse(node))]
            replaced: list[Statement] = [*statements[:position], *lifted, *statements[position + 1 :]]
            # It may be guarded twice.
            return lift(modules.replacing(function.module, replaced), function)
    return modules


def find_branches(node: ast.stmt, name: str) -> list[Sequence[ast.stmt]]:
    """The statements of each branch in which a function is defined."""
    return [branch for branch in list_branches(node) if any(_defines(each, name) for each in branch)]


def _defines(node: ast.stmt, name: str) -> bool:
    if isinstance(node, Function):
        return node.name == name
    return bool(find_branches(node, name))


def list_branches(node: ast.stmt) -> Iterator[Sequence[ast.stmt]]:
    """What may run of an `if` or a `try`; nothing for any other statement."""
    if isinstance(node, ast.If):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.Try):
        yield [*node.body, *node.orelse, *node.finalbody]
        yield from (handler.body for handler in node.handlers)
