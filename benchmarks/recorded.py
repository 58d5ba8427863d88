"""Cases of tool use as `reuse.py` reads them."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef

_FENCE = re.compile(r"\A\s*```\w*\n(.*?)\n?```\s*\Z", re.DOTALL)
_MISSING = object()


@dataclass(frozen=True)
class Scenario:
    question: str
    arguments: Mapping[str, Any]
    """Of the recorded call, by name; none where it is `code`."""
    code: str
    """The recorded call as Python that is more than a call with plain values: its last value, or what it prints."""
    answer: Any


@dataclass
class Case:
    """A tool, its scenarios, and what became of it."""

    source: str
    recorded_name: str
    scenarios: Sequence[Scenario]
    gives_set: bool = False
    """Its answers were recorded in any order."""
    name: str = ""
    """Of the action, once there is one."""
    is_completed: bool = False
    is_like_another: bool = False
    refusal: str = ""
    first_right: bool = False
    failures: list[str] = field(default_factory=list)


def read_cases(path: Path, limit: int | None) -> list[Case]:
    """All that can be read; a line that cannot is named on stderr."""
    cases = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                cases.append(_read_case(json.loads(line)))
            except (ValueError, TypeError, AttributeError, SyntaxError) as error:
                print(f"line {number} is left out: {error}", file=sys.stderr)
    return cases[:limit]


def _read_case(row: Mapping[str, Any]) -> Case:
    if isinstance(tool := row.get("tool"), Mapping):
        row = {**tool, **{key: value for key, value in row.items() if key != "tool"}}
    source = _unfence(_pick(row, "source", "code", "tool", "tool_source"))
    rows = _pick(row, "scenarios", "cases")
    calls = [each[key] for each in rows for key in ("call", "arguments", "recorded_call") if key in each]
    source = wrap_class(source, [_unfence(call) for call in calls if isinstance(call, str)])
    function = find_function(source, row.get("name") or _find_called(source, calls))
    name = function.name if function else str(row.get("name") or "")
    scenarios = [_read_scenario(each, name, function) for each in rows]
    return Case(source, name, scenarios, gives_set=bool(function and _gives_set(function)))


def _unfence(text: str) -> str:
    """Without the marks of a block in Markdown, and what indents all of it."""
    found = _FENCE.match(text)
    return textwrap.dedent(found[1] if found else text)


def _find_called(source: str, calls: Sequence[Any]) -> str | None:
    """The function of the source that the first call names: of several, the one whose result is worked on."""
    try:
        own = {node.name for node in ast.parse(source).body if isinstance(node, Function)}
        tree = ast.parse(_unfence(calls[0])) if calls and isinstance(calls[0], str) else ast.Module([], [])
    except (SyntaxError, ValueError):
        return None
    if calls and isinstance(calls[0], Mapping) and calls[0].get("name") in own:
        return str(calls[0]["name"])
    names = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    found = [name for name in names if name in own]
    return found[-1] if found else None


def _gives_set(function: Function) -> bool:
    """By its type, or as it returns a list made of a set."""
    kind = ast.unparse(function.returns) if function.returns else ""
    returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
    made = [ast.unparse(node).replace(" ", "") for node in returned]
    is_list_of_set = bool(made) and all(re.match(r"(list|tuple)\((set\(|\{)", each) for each in made)
    return is_list_of_set or bool(re.match(r"(typing\.)?(frozen)?set\b", kind, re.IGNORECASE))


def wrap_class(source: str, calls: Sequence[str]) -> str:
    """The source of a class alone with a function besides: the method that is called, of an object made for it."""
    try:
        body = ast.parse(source).body
        method = next(iter(_find_methods(calls)), "")
    except (SyntaxError, ValueError):
        return source
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    if not classes or any(isinstance(node, Function) and not node.name.startswith("_") for node in body):
        return source
    for each in reversed(classes):
        methods = {node.name: node for node in each.body if isinstance(node, Function) and not node.decorator_list}
        public = [name for name in methods if not name.startswith("_")]
        if name := method if method in methods else public[0] if len(public) == 1 else "":
            return f"{source.rstrip()}\n\n\n{_write_function(each.name, methods[name], methods.get('__init__'))}\n"
    return source


def _find_methods(calls: Sequence[str]) -> Iterator[str]:
    for call in calls:
        for node in ast.walk(ast.parse(call)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield node.func.attr


def _write_function(kind: str, method: Function, maker: Function | None) -> str:
    """A function that takes what the maker and the method take, by name."""
    own, made = ([*each.args.args[1:], *each.args.kwonlyargs] if each else [] for each in (method, maker))
    defaults = {arg.arg: default for each in (method, maker) if each for arg, default in pair_defaults(each.args)}
    both = {arg.arg: arg for arg in [*made, *own]}
    ordered = sorted(both.values(), key=lambda arg: defaults[arg.arg] is not None)
    takes = ", ".join(
        ast.unparse(arg) + (f"={ast.unparse(default)}" if (default := defaults[arg.arg]) else "") for arg in ordered
    )
    given = [", ".join(f"{arg.arg}={arg.arg}" for arg in each) for each in (made, own)]
    text = ast.get_docstring(method)
    lines = [
        f"def {method.name}({takes}):",
        f"    {text!r}" if text else "",
        f"    return {kind}({given[0]}).{method.name}({given[1]})",
    ]
    return "\n".join(line for line in lines if line)


def _pick(row: Mapping[str, Any], *names: str) -> Any:
    value = next((row[name] for name in names if name in row), _MISSING)
    if value is _MISSING:
        raise ValueError(f"has no {names[0]!r}")
    return value


def _read_scenario(row: Mapping[str, Any], name: str, function: Function | None) -> Scenario:
    question = str(_pick(row, "question", "query", "task"))
    answer = _pick(row, "answer", "expected", "result", "known_answer")
    call = _pick(row, "call", "arguments", "recorded_call")
    call = _unfence(call) if isinstance(call, str) else call
    if isinstance(call, str) and isinstance(read := read_literals(call), dict | list):
        call = read
    if not isinstance(call, str):
        return Scenario(question, _read_arguments(call, function), "", answer)
    try:
        return Scenario(question, _read_arguments(_read_literal_call(call, name), function), "", answer)
    except ValueError:
        return Scenario(question, {}, _with_last_value(call), answer)


def _read_literal_call(text: str, name: str) -> Mapping[str, Any]:
    """`f(2, b=3)`, also when it is printed or given a name.

    Raises:
        ValueError: it is more than that.
    """
    match ast.parse(text.strip()).body:
        case [ast.Expr(ast.Call(ast.Name("print"), [ast.Call() as call], []))]:
            pass
        case [ast.Expr(ast.Call() as call)] | [ast.Assign(_, ast.Call() as call)]:
            pass
        case [ast.Assign([ast.Name(result)], ast.Call() as call), ast.Expr(shown)] if ast.unparse(shown) in (
            result,
            f"print({result})",
        ):
            pass
        case _:
            raise ValueError(f"{text!r} is more than a call")
    if ast.unparse(call.func) != name or not all(each.arg for each in call.keywords):
        raise ValueError(f"{text!r} is no plain call of {name!r}")
    by_name = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
    return {"args": [ast.literal_eval(each) for each in call.args], "kwargs": by_name}


def _read_arguments(call: Any, function: Function | None) -> dict[str, Any]:
    """By name, as the function names those that are given by place."""
    by_place: Sequence[Any] = ()
    by_name: dict[str, Any] = {}
    if isinstance(call, list):
        by_place = call
    elif "arguments" in call or (call.keys() <= {"name", "args", "kwargs"} and call.keys() & {"args", "kwargs"}):
        given = read_literals(call.get("arguments", call.get("args", [])))
        by_place, by_name = (given, dict(call.get("kwargs", {}))) if isinstance(given, list) else ([], dict(given))
    else:
        by_name = dict(call)
    if function is None:  # it will be refused, whatever it is called with
        return by_name
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    rest, others = function.args.vararg, function.args.kwarg
    given = {**dict(zip(names, by_place, strict=False)), **by_name}
    if len(by_place) > len(names) and not rest:
        raise ValueError(f"{call!r} has more arguments than its function")
    if rest and rest.arg not in by_name:
        given[rest.arg] = list(by_place[len(names) :])
    if others and others.arg not in by_name:
        own = {*names, *(each.arg for each in function.args.kwonlyargs), *([rest.arg] if rest else [])}
        strays = {name: given.pop(name) for name in [*given] if name not in own}
        given |= {others.arg: strays} if strays else {}
    return given


def read_literals(value: Any) -> Any:
    """A text that JSON or Python reads as something else is that, also in what holds others."""
    if isinstance(value, str):
        for read in (json.loads, ast.literal_eval):
            with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                return read(value.strip())
        return value
    if isinstance(value, Mapping):
        return {key: read_literals(each) for key, each in value.items()}
    return [read_literals(each) for each in value] if isinstance(value, list) else value


def _with_last_value(text: str) -> str:
    """Code whose last statement gives a name a value also shows it."""
    last = ast.parse(text).body[-1:]
    for node in last:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            return f"{text}\n{node.targets[0].id}"
    return text


def write_code(case: Case, action: str, code: str) -> str:
    """Code that uses what was recorded under its own names: the action, what else its source defines, and imports."""
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    body = ast.parse(case.source).body
    own = {node.name for node in body if isinstance(node, Function | ast.ClassDef)} - {case.recorded_name}
    lines = [
        ast.unparse(node)
        for node in body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any((each.asname or each.name.partition(".")[0]) in used for each in node.names)
    ]
    lines.append(f"from actions import {action} as {case.recorded_name}")
    lines += [f"from actions.{action} import {', '.join(sorted(own & used))}"] if own & used else []
    return "\n".join([*lines, code])


def find_function(source: str, name: str | None) -> Function | None:
    """The function of that name, else the last public one; None where the source cannot be parsed."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return None
    functions = [node for node in body if isinstance(node, Function)]
    public = [node for node in functions if not node.name.startswith(("_", "test_"))]
    return next((node for node in functions if node.name == name), public[-1] if public else None)


def pair_defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    places = [*arguments.posonlyargs, *arguments.args]
    yield from zip(places, [*[None] * (len(places) - len(arguments.defaults)), *arguments.defaults], strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
