"""Types that a signature lacks, as its docstring says them, or its defaults and examples show them. Nothing is run."""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library.docstring import IMPORTS, RETURNS, read_types
from dynasaur_mcp.library.reading import parsing
from dynasaur_mcp.library.rules import Function, walk_own
from dynasaur_mcp.library.symbols import Definition
from dynasaur_mcp.types import Problem

_MAX_RANGE = 1000
_COLLECTORS = ("frozenset", "list", "set", "sorted", "tuple")

_Call = tuple[dict[str, list[Any]], str]
"""What an example gives to each parameter, as far as it can be told, and the type of what comes back, or empty."""


class _Range(list[int]):
    """What any iterable would do for."""


def add_types(source: str, name: str) -> str:
    """The file with a type for each parameter, and for what the function returns.

    Raises:
        ActionInvalid: nothing says or shows one.
    """
    with parsing():
        tree = ast.parse(source)
    function = next(node for node in reversed(tree.body) if isinstance(node, Function) and node.name == name)
    calls = list(_find_calls(function))
    said = read_types(ast.get_docstring(function) or "")
    inserts: list[tuple[int, int, str]] = []
    problems: list[Problem] = []
    for argument, default in _pair_defaults(function.args):
        if argument.annotation is None:
            seen = [value for given, _ in calls for value in given.get(argument.arg, ())]
            if kind := _allow_default(said.get(argument.arg, ""), default) or _guess_parameter(seen, default):
                inserts.append((argument.end_lineno or 0, argument.end_col_offset or 0, f": {kind}"))
            else:
                shows = "neither docstring nor default nor example shows one"
                problems.append(Problem(f"parameter {argument.arg!r} has no type, and {shows}."))
    if function.returns is None:
        shown = [kind for _, kind in calls if kind]
        # What is shown comes first: a result that is of another type than is said would be an error.
        if kind := _name_shown(shown) or said.get(RETURNS, "") or _guess_returned(function):
            inserts.append((*_find_colon(source, function.lineno), f" -> {kind}"))
        else:
            problems.append(Problem("it does not say what type it returns, and no example shows it."))
    if problems:
        raise ActionInvalid(f"{name!r} lacks types:", problems)
    return _import_used(_insert(source, inserts), tree, [text for *_, text in inserts])


def _find_calls(function: Function) -> Iterator[_Call]:
    names: dict[str, Any] = {}
    for example in doctest.DocTestParser().get_examples(ast.get_docstring(function, clean=False) or ""):
        try:
            with parsing():
                nodes = ast.parse(example.source).body
        except SyntaxError:
            continue
        for node in nodes:
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                _assign(names, node.targets[0].id, node.value)
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == function.name:
                    yield _read_arguments(function.args, call, names), _read_returned(node, call, example.want)


def _assign(names: dict[str, Any], name: str, value: ast.expr) -> None:
    try:
        names[name] = _evaluate(value, names)
    except ValueError:
        names.pop(name, None)


def _evaluate(node: ast.expr, names: dict[str, Any]) -> Any:
    """What an expression is without running anything.

    Raises:
        ValueError: that cannot be told.
    """
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        try:
            return _Range(range(*(ast.literal_eval(each) for each in node.args))[:_MAX_RANGE])
        except (TypeError, SyntaxError, MemoryError, RecursionError):
            raise ValueError from None
    try:
        return ast.literal_eval(node)
    except (TypeError, SyntaxError, MemoryError, RecursionError):
        raise ValueError from None


def _read_arguments(arguments: ast.arguments, call: ast.Call, names: dict[str, Any]) -> dict[str, list[Any]]:
    places = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    pairs: list[tuple[str, ast.expr]] = []
    if not any(isinstance(each, ast.Starred) for each in call.args):
        several = [arguments.vararg.arg] * len(call.args) if arguments.vararg else []
        pairs += zip([*places, *several], call.args, strict=False)
    pairs += [(keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg]
    given: dict[str, list[Any]] = {}
    for name, node in pairs:
        with contextlib.suppress(ValueError):
            given.setdefault(name, []).append(_evaluate(node, names))
    return given


def _read_returned(node: ast.stmt, call: ast.Call, want: str) -> str:
    """The type of what a call gives, where the example shows that alone, or all the items of it."""
    if not isinstance(node, ast.Expr) or not want.strip():
        return ""
    try:
        value = ast.literal_eval(want.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ""
    if node.value is call:
        return name_type([value])
    match node.value:
        case ast.Call(func=ast.Name(id=collector), args=[only]) if only is call and collector in _COLLECTORS:
            return f"Iterable[{name_type(value)}]" if value else ""
    return ""


def _guess_parameter(seen: Sequence[Any], default: ast.expr | None) -> str:
    values = list(seen)
    if default is not None:
        try:
            values.append(ast.literal_eval(default))
        except (ValueError, TypeError):
            values = values and [*values, object()]
    if values == [None]:
        return "Any"
    return name_type(values) if values else ""


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


def name_type(values: Iterable[Any]) -> str:
    """The narrowest type that all the values have, as source text; `Any` where that cannot be said."""
    kinds: dict[type, list[Any]] = {}
    for value in values:
        kinds.setdefault(type(value), []).append(value)
    names = {_name_kind(kind, some) for kind, some in kinds.items()}
    if "Any" in names or not names:
        return "Any"
    return " | ".join(sorted(names, key=lambda name: (name == "None", name)))


def _name_kind(kind: type, values: Sequence[Any]) -> str:
    if kind in (bool, bytes, complex, float, int, str):
        return kind.__name__
    if kind is type(None):
        return "None"
    if kind is _Range:
        return "Iterable[int]"
    if kind in (frozenset, list, set):
        return f"{kind.__name__}[{name_type(item for value in values for item in value)}]"
    if kind is dict:
        keys, items = (key for value in values for key in value), (item for value in values for item in value.values())
        return f"dict[{name_type(keys)}, {name_type(items)}]"
    if kind is tuple:
        if len({len(value) for value in values}) == 1 and values[0]:
            return f"tuple[{', '.join(name_type(place) for place in zip(*values, strict=True))}]"
        return f"tuple[{name_type(item for value in values for item in value)}, ...]"
    return "Any"


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
