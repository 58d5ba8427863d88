"""Types that a signature lacks, as its docstring says them, or its defaults and examples show them. Nothing is run."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library.docstring import IMPORTS, RETURNS, read_types
from dynasaur_mcp.library.reading import parsing
from dynasaur_mcp.library.rules import Function, walk_own
from dynasaur_mcp.library.shown import Code, evaluate, find_calls, name_type
from dynasaur_mcp.library.symbols import Definition, is_overload
from dynasaur_mcp.types import Problem


def add_types(source: str, name: str) -> str:
    """The file with a type for each parameter, and for what the function returns.

    Raises:
        ActionInvalid: nothing says or shows one.
    """
    with parsing():
        tree = ast.parse(source)
    function = next(node for node in reversed(tree.body) if isinstance(node, Function) and node.name == name)
    code = {node.name: Code() for node in tree.body if isinstance(node, Definition)}
    calls = list(find_calls(function, code))
    said = read_types(ast.get_docstring(function) or "")
    declared = _read_overloads(tree, name)
    inserts: list[tuple[int, int, str]] = []
    problems: list[Problem] = []
    for argument, default in _pair_defaults(function.args):
        if argument.annotation is None:
            seen = [value for given, _ in calls for value in given.get(argument.arg, ())]
            stated = declared.get(argument.arg) or said.get(argument.arg, "")
            if kind := _allow_default(stated, default) or _guess_parameter(seen, default, code):
                inserts.append((argument.end_lineno or 0, argument.end_col_offset or 0, f": {kind}"))
            else:
                shows = "neither docstring nor default nor example shows one"
                problems.append(Problem(f"parameter {argument.arg!r} has no type, and {shows}."))
    if function.returns is None:
        shown = [kind for _, kind in calls if kind]
        # What is shown comes before what is said: a result of another type would be an error.
        stated = declared.get(RETURNS) or _name_shown(shown) or said.get(RETURNS, "")
        if kind := stated or _guess_returned(function):
            inserts.append((*_find_colon(source, function.lineno), f" -> {kind}"))
        else:
            problems.append(Problem("it does not say what type it returns, and no example shows it."))
    if problems:
        raise ActionInvalid(f"{name!r} lacks types:", problems)
    return _import_used(_insert(source, inserts), tree, [text for *_, text in inserts])


def _guess_parameter(seen: Sequence[Any], default: ast.expr | None, known: Mapping[str, Any]) -> str:
    values = list(seen)
    if default is not None:
        try:
            values.append(evaluate(default, known))
        except ValueError:
            values = values and [*values, object()]
    if values == [None]:
        return "Any"
    return name_type(values) if values else ""


def _read_overloads(tree: ast.Module, name: str) -> dict[str, str]:
    """Of what `@overload` says of it: the types of each parameter, and of what comes back, joined."""
    kinds: dict[str, dict[str, None]] = {}
    for node in tree.body:
        if isinstance(node, Function) and node.name == name and is_overload(node):
            pairs = [(argument.arg, argument.annotation) for argument, _ in _pair_defaults(node.args)]
            for argument, annotation in [*pairs, (RETURNS, node.returns)]:
                if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
                    kinds.setdefault(argument, {})[annotation.value] = None
                elif annotation:
                    kinds.setdefault(argument, {})[ast.unparse(annotation)] = None
    return {argument: " | ".join(found) for argument, found in kinds.items()}


def _allow_default(kind: str, default: ast.expr | None) -> str:
    is_none = isinstance(default, ast.Constant) and default.value is None
    return f"{kind} | None" if kind and is_none and not re.search(r"\bNone\b|^Optional\b", kind) else kind


def _name_shown(shown: Sequence[str]) -> str:
    kinds = dict.fromkeys(shown)
    return "Any" if "Any" in kinds else " | ".join(kinds)


def _guess_returned(function: Function) -> str:
    own = [each for statement in function.body for each in walk_own(statement)]
    if any(isinstance(each, ast.Yield | ast.YieldFrom) for each in own):
        return "" if isinstance(function, ast.AsyncFunctionDef) else "Iterator[Any]"
    return "" if any(isinstance(each, ast.Return) and each.value for each in own) else "None"


def _pair_defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    places = [*arguments.posonlyargs, *arguments.args]
    yield from zip(places, [*[None] * (len(places) - len(arguments.defaults)), *arguments.defaults], strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    if arguments.vararg:
        yield arguments.vararg, None


def _find_colon(source: str, line: int) -> tuple[int, int]:
    """Line and byte column of the colon that ends the signature beginning at that line."""
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO("\n".join(source.split("\n")[line - 1 :])).readline):
        depth += (token.string in ("(", "[", "{")) - (token.string in (")", "]", "}"))
        if token.string == ":" and depth == 0:
            return line + token.start[0] - 1, len(token.line[: token.start[1]].encode())
    raise AssertionError("a function without a colon")


def _insert(source: str, inserts: Iterable[tuple[int, int, str]]) -> str:
    lines = [line.encode() for line in source.split("\n")]
    for line, column, text in sorted(inserts, reverse=True):
        lines[line - 1] = lines[line - 1][:column] + text.encode() + lines[line - 1][column:]
    return b"\n".join(lines).decode()


def _import_used(source: str, tree: ast.Module, texts: Sequence[str]) -> str:
    """The file with imports of what the added types name, before its first statement that is no future import."""
    there = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    missing = [f"from {IMPORTS[word]} import {word}" for word in IMPORTS if word in words - there]
    if not missing:
        return source
    rest = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    first = rest[0]
    decorators = first.decorator_list if isinstance(first, Definition) else []
    line = min([first.lineno, *(each.lineno for each in decorators)])
    lines = source.split("\n")
    gap = [] if isinstance(first, ast.Import | ast.ImportFrom) else ["", ""]
    return "\n".join([*lines[: line - 1], *missing, *gap, *lines[line - 1 :]])
