"""A name at module level spelled anew in a statement, wherever it means that name; or why that would not be safe."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import partial

from dynasaur_mcp.library.assembly import Edit, edit
from dynasaur_mcp.library.reading import parsing
from dynasaur_mcp.library.rules import Function
from dynasaur_mcp.library.symbols import Definition, find_annotations, find_names_in_text

_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_Use = ast.Name | ast.alias | Definition
_BY_TEXT = frozenset({"delattr", "eval", "exec", "getattr", "globals", "hasattr", "locals", "setattr", "vars"})


class UnsafeError(Exception):
    """It would not mean the same; says why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name


def rename(text: str, names: Mapping[str, str]) -> str:
    """The text of one statement with other names, old -> new.

    Raises:
        UnsafeError: what one of them means there cannot be told from the text.
    """
    wanted = {old: new for old, new in names.items() if re.search(rf"\b{re.escape(old)}\b", text)}
    if not wanted:
        return text
    with parsing():
        tree = ast.parse(text)
    for old in wanted:
        _require_safe(tree, old)

    def find(tree: ast.Module) -> Iterator[Edit]:
        lines = text.encode().split(b"\n")
        for old, new in wanted.items():
            for node in _find_uses(tree, old):
                if isinstance(node, ast.alias):
                    yield node, partial(_import_as, new)
                else:
                    yield _find_name(node, lines), partial(_replace, new)

    return edit(text, find)


def _import_as(new: str, old: str) -> str:
    return f"{old.split(' as ')[0].strip()} as {new}"


def _replace(new: str, _old: str) -> str:
    return new


def _find_name(node: ast.Name | Definition, lines: list[bytes]) -> ast.Name:
    """Where the name itself stands."""
    if isinstance(node, ast.Name):
        return node
    head = re.compile(rb"(?:async\s+)?(?:def|class)\s+").match(lines[node.lineno - 1], node.col_offset)
    if not head:
        raise UnsafeError(node.name, f"the head of {node.name!r} is in several lines")
    line, end = node.lineno, head.end() + len(node.name.encode())
    return ast.Name(node.name, lineno=line, col_offset=head.end(), end_lineno=line, end_col_offset=end)


def _require_safe(tree: ast.Module, name: str) -> None:
    nodes = list(ast.walk(tree))
    if any(isinstance(each, ast.Global) and name in each.names for each in nodes):
        raise UnsafeError(name, f"`global {name}`")
    if any(getattr(each, "name", "") == name for node in nodes for each in getattr(node, "type_params", ())):
        raise UnsafeError(name, f"a type parameter is called {name!r} too")
    by_text = _BY_TEXT & {each.id for each in nodes if isinstance(each, ast.Name)}
    if by_text and any(isinstance(each, ast.Constant) and each.value == name for each in nodes):
        raise UnsafeError(name, f"the text {name!r} beside `{min(by_text)}`")
    for annotation in find_annotations(tree):
        texts = (each.value for each in ast.walk(annotation) if isinstance(each, ast.Constant))
        if any(isinstance(text, str) and name in find_names_in_text(text) for text in texts):
            raise UnsafeError(name, f"{name!r} is in a type that is written as text")


def _find_uses(node: ast.AST, name: str) -> Iterator[_Use]:
    """Where the code means the name at module level: not in scopes that have one of their own so called.

    Raises:
        UnsafeError
    """
    if isinstance(node, ast.Name | Definition | ast.alias) and _binds_or_is(node, name):
        yield node
    if isinstance(node, Function | ast.Lambda):
        for each in (*getattr(node, "decorator_list", ()), getattr(node, "returns", None), node.args):
            yield from _find_uses(each, name) if each else ()
        body = node.body if isinstance(node.body, list) else [node.body]
        given = {each.arg for each in ast.iter_child_nodes(node.args) if isinstance(each, ast.arg)}
        if name not in given and not any(_binds(each, name) for each in body):
            for each in body:
                yield from _find_uses(each, name)
    elif isinstance(node, ast.ClassDef):
        if any(_binds(each, name) for each in node.body):
            at_once = (part for each in node.body for part in _list_at_once(each))
            if any(getattr(inner, "id", "") == name for part in at_once for inner in ast.walk(part)):
                raise UnsafeError(name, f"the class {node.name!r} has one of its own")
        for each in ast.iter_child_nodes(node):
            # A method so called is no name to the others.
            yield from (use for use in _find_uses(each, name) if use is not each or each not in node.body)
    elif isinstance(node, _Comprehension) and any(_binds(each.target, name) for each in node.generators):
        yield from _find_uses(node.generators[0].iter, name)
    elif not isinstance(node, Definition | ast.Name | ast.alias) and name in (
        getattr(node, "name", None),
        getattr(node, "rest", None),
    ):
        raise UnsafeError(name, f"`{ast.unparse(node).splitlines()[0]}`")
    else:
        for each in ast.iter_child_nodes(node):
            yield from _find_uses(each, name)


def _list_at_once(node: ast.stmt) -> list[ast.AST]:
    """What of a statement of a class runs in the scope of the class: of a method all but its body."""
    if not isinstance(node, Function):
        return [node]
    return [*node.decorator_list, node.args, *([node.returns] if node.returns else [])]


def _binds_or_is(node: _Use, name: str) -> bool:
    if isinstance(node, ast.alias):
        if not node.asname and node.name.startswith(f"{name}."):
            raise UnsafeError(name, f"`import {node.name}`")
        return (node.asname or node.name) == name
    return (node.id if isinstance(node, ast.Name) else node.name) == name


def _binds(node: ast.AST, name: str) -> bool:
    """Whether code gives the name a value in its own scope."""
    if isinstance(node, Definition):
        return node.name == name
    if isinstance(node, ast.Lambda):
        return False
    if isinstance(node, ast.Name):
        return node.id == name and not isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.alias):
        return (node.asname or node.name.partition(".")[0]) == name
    if isinstance(node, _Comprehension):
        return any(_binds(each.target, name) for each in ast.walk(node) if isinstance(each, ast.NamedExpr))
    if name in (getattr(node, "name", None), getattr(node, "rest", None)):
        return True
    return any(_binds(each, name) for each in ast.iter_child_nodes(node))
