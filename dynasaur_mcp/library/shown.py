"""What the examples of a docstring show of types: what a function is given, and gives. Nothing is run."""

from __future__ import annotations

import ast
import builtins
import contextlib
import doctest
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dynasaur_mcp.library.reading import parsing
from dynasaur_mcp.library.rules import Function

_MAX_RANGE = 1000
_COLLECTORS = ("frozenset", "list", "set", "sorted", "tuple")
_MAKERS = ("count", "cycle", "enumerate", "filter", "map", "repeat", "reversed", "zip")
"""What is called so gives an iterator."""

_Call = tuple[dict[str, list[Any]], str]
"""What an example gives to each parameter, as far as it can be told, and the type of what comes back, or empty."""


class _Items(list[Any]):
    """What any iterable would do for."""


class Code:
    """A function, or a class to call."""


def find_calls(function: Function, known: Mapping[str, Any]) -> Iterator[_Call]:
    names = dict(known)
    made: set[str] = set()

    def is_made(node: ast.expr) -> bool:
        if isinstance(node, ast.Call):
            return isinstance(node.func, ast.Name) and node.func.id == function.name
        return isinstance(node, ast.Name) and node.id in made

    for example in doctest.DocTestParser().get_examples(ast.get_docstring(function, clean=False) or ""):
        try:
            with parsing():
                nodes = ast.parse(example.source).body
        except SyntaxError:
            continue
        for node in nodes:
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and is_made(call):
                    yield _read_arguments(function.args, call, names), ""
            yield {}, _read_shown(node, example.want, is_made)
            if isinstance(node, Function):
                names[node.name] = Code()
            elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                made = made | {name} if is_made(node.value) else made - {name}
                _assign(names, name, node.value)


def _assign(names: dict[str, Any], name: str, value: ast.expr) -> None:
    try:
        names[name] = evaluate(value, names)
    except ValueError:
        names.pop(name, None)


def evaluate(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """What an expression is without running anything.

    Raises:
        ValueError: that cannot be told.
    """
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.Lambda) or (isinstance(node, ast.Name) and callable(getattr(builtins, node.id, None))):
        return Code()
    if isinstance(node, ast.GeneratorExp):
        return _Items()
    match node:
        case ast.Call(func=ast.Name(id="range")):
            try:
                return _Items(range(*(ast.literal_eval(each) for each in node.args))[:_MAX_RANGE])
            except (TypeError, SyntaxError, MemoryError, RecursionError):
                raise ValueError from None
        case ast.Call(func=ast.Name(id="iter"), args=[only]):
            items = evaluate(only, names)
            return _Items(items) if isinstance(items, list | tuple | str | set | dict) else _Items()
        case ast.Call(func=ast.Name(id=maker)) if maker in _MAKERS:
            return _Items()
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
            given.setdefault(name, []).append(evaluate(node, names))
    return given


def _read_shown(node: ast.stmt, want: str, is_made: Callable[[ast.expr], bool]) -> str:
    """The type of what a call gives, where an example shows that alone, or all the items of it."""
    if isinstance(node, ast.Assign):
        is_unpacked = isinstance(node.targets[0], ast.Tuple | ast.List) and is_made(node.value)
        return "Iterable[Any]" if is_unpacked else ""
    if not isinstance(node, ast.Expr):
        return ""
    try:
        value = ast.literal_eval(want.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ""
    if is_made(node.value):
        return name_type([value])
    match node.value:
        case ast.Call(func=ast.Name(id=collector), args=[only]) if is_made(only) and collector in _COLLECTORS:
            is_collected = isinstance(value, list | tuple | set | frozenset)
            return f"Iterable[{name_type(value)}]" if is_collected and value else ""
        case ast.Call(func=ast.Name(id="next"), args=[only]) if is_made(only):
            return f"Iterator[{name_type([value])}]"
        case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join"), args=[only]) if is_made(only):
            return "Iterable[str]"
    return ""


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
    if kind is Code:
        return "Callable"
    if kind is _Items:
        return f"Iterable[{name_type(item for value in values for item in value)}]"
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
