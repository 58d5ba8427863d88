"""The shape of code: what is left of a file without names, texts, types, comments and docstrings.

Two actions of one shape are the same code, or the same but for the texts in it. Written from the syntax tree node by
node, not by `ast.dump`, which differs from one Python to the next.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator

from dynasaur_mcp.library.rules import Function, find_dotted, read_imports

_SKIPPED = frozenset(["ctx", "kind", "simple", "type_comment", "type_ignores", "type_params"])
_TYPES = frozenset(["annotation", "returns"])

Item = ast.AST | str
"""A node that is still to be written, or text."""


def hash_shape(tree: ast.Module, name: str) -> str:
    """Equal for actions of one shape. `name` is the function that is the action: a file may define several."""
    return hashlib.sha256(write_form(tree, name, with_texts=False).encode("utf-8", "replace")).hexdigest()[:32]


def write_form(tree: ast.Module, name: str, *, with_texts: bool) -> str:
    """A file without the names that are its own, comments and docstrings; then which of its functions is the action.

    Args:
        with_texts: With the texts and types in it, too.
    """
    form = _Form(tree, with_texts)
    # A list of what to write next, not a recursion: code may be nested deeper than Python's stack.
    waiting: list[Item] = [tree]
    written: list[str] = []
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            written.append(item)
        else:
            waiting += reversed([*form.write(item)])
    return " ".join([*written, form.write_name(name)])


class _Form:
    """How each node is written: names that a file gives are numbered in their order, imported ones said in full."""

    def __init__(self, tree: ast.Module, with_texts: bool) -> None:
        self._with_texts = with_texts
        self._skipped = _SKIPPED if with_texts else _SKIPPED | _TYPES
        self._imported = read_imports(tree)
        self._own = set(_find_own_names(tree))
        self._numbers: dict[str, str] = {}

    def write(self, node: ast.AST) -> Iterator[Item]:
        if isinstance(node, ast.Name | ast.Attribute) and (name := find_dotted(node)):
            root, dot, rest = name.partition(".")
            yield f"{self._imported.get(root) or self.write_name(root)}{dot}{rest}"
        elif isinstance(node, ast.Constant):
            is_text = isinstance(node.value, str | bytes)
            yield "text" if is_text and not self._with_texts else _write_constant(node.value)
        else:
            # `x: int = 1` does what `x = 1` does.
            yield "(" + ("Assign" if isinstance(node, ast.AnnAssign) else type(node).__name__)
            for field, value in ast.iter_fields(node):
                if field not in self._skipped and value not in (None, []):
                    yield "targets" if field == "target" and isinstance(node, ast.AnnAssign) else field
                    for each in value if isinstance(value, list) else [value]:
                        yield from self._write_part(each, node)
            yield ")"

    def _write_part(self, part: object, node: ast.AST) -> Iterator[Item]:
        if isinstance(part, ast.keyword):
            # What a parameter of a function in the file is called is the file's own affair.
            is_own = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self._own
            yield self.write_name(part.arg) if part.arg and is_own else f"{part.arg}="
            yield part.value
        elif isinstance(part, ast.stmt) and not _counts(part, node):
            return
        elif isinstance(part, ast.AST):
            yield part
        elif isinstance(part, str) and not isinstance(node, ast.Attribute):
            yield self.write_name(part)
        else:
            yield str(part)

    def write_name(self, name: str) -> str:
        return self._numbers.setdefault(name, f"v{len(self._numbers)}") if name in self._own else name


def _write_constant(value: object) -> str:
    try:
        return repr(value)
    except ValueError:
        # Python writes out no number of many digits but in a base that is a power of two.
        return hex(value) if isinstance(value, int) else str(type(value))


def _find_own_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, Function | ast.ClassDef | ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name


def _counts(statement: ast.stmt, parent: ast.AST) -> bool:
    """Whether a statement does anything when an action is called."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return False
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return False
    if isinstance(statement, ast.AnnAssign) and statement.value is None:
        return isinstance(parent, ast.ClassDef)
    return not (
        isinstance(parent, ast.Module) and isinstance(statement, Function) and statement.name.startswith("test_")
    )
