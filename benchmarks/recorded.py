"""Cases of tool use as `reuse.py` reads them, and how a source that is refused is made fit."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef

MAX_NAME = 40
_RUNS = re.compile(r"`([\w.]+)\(…\)` runs when the file is imported")
_PROPOSED = re.compile(r"Rename the function, for instance to '(\w+)'")
_HEADER = re.compile(r"# /// script\n(?:#.*\n)*?# ///\n")
_MISSING = object()
_KINDS = {bool: "bool", int: "int | float", float: "int | float", str: "str", list: "list", tuple: "list", dict: "dict"}
"""A recorded value's type, as wide as a caller would want it."""


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
    source = _pick(row, "source", "code", "tool", "tool_source")
    function = find_function(source, row.get("name"))
    name = str(row.get("name") or getattr(function, "name", ""))
    scenarios = [_read_scenario(each, name, function) for each in _pick(row, "scenarios", "cases")]
    returns = ast.unparse(function.returns) if function and function.returns else ""
    gives_set = bool(re.match(r"(typing\.)?(frozen)?set\b", returns, re.IGNORECASE))
    return Case(source, name, scenarios, gives_set=gives_set)


def _pick(row: Mapping[str, Any], *names: str) -> Any:
    value = next((row[name] for name in names if name in row), _MISSING)
    if value is _MISSING:
        raise ValueError(f"has no {names[0]!r}")
    return value


def _read_scenario(row: Mapping[str, Any], name: str, function: Function | None) -> Scenario:
    question = str(_pick(row, "question", "query", "task"))
    answer = _pick(row, "answer", "expected", "result", "known_answer")
    call = _pick(row, "call", "arguments", "recorded_call")
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
        given = call.get("arguments", call.get("args", []))
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


def _with_last_value(text: str) -> str:
    """Code whose last statement gives a name a value also shows it."""
    last = ast.parse(text).body[-1:]
    for node in last:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            return f"{text}\n{node.targets[0].id}"
    return text


def find_function(source: str, name: str | None) -> Function | None:
    """The function of that name, else the last public one; None where the source cannot be parsed."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return None
    functions = [node for node in body if isinstance(node, Function)]
    public = [node for node in functions if not node.name.startswith(("_", "test_"))]
    return next((node for node in functions if node.name == name), public[-1] if public else None)


def complete(case: Case, refusal: str) -> tuple[str, str]:
    """The source with what it lacks, as far as the refusal says so, and the name of its function.

    Types are those of the first scenario's call and of defaults, also where one has no JSON form; the docstring is the
    first scenario's question, a name is the one that the refusal proposes, or cut, or made longer by the docstring,
    packages are declared as the refusal names them, `*values` is made a list and `**options` a dict, and what is done
    outside of any function is left out.
    """
    function = find_function(case.source, case.recorded_name)
    if function is None:
        return case.source, case.recorded_name
    tree, name = ast.parse(case.source), function.name
    if "runs when the file is imported" in refusal:
        _leave_out_runs(tree, set(_RUNS.findall(refusal)))
    function = next(node for node in tree.body if isinstance(node, Function) and node.name == name)
    question = " ".join(case.scenarios[0].question.split()) if case.scenarios else ""
    given = case.scenarios[0].arguments if case.scenarios else {}
    _take_as_values(function.args)
    for argument, default in _pair_defaults(function.args):
        value = default.value if isinstance(default, ast.Constant) else None
        kind = _KINDS.get(type(given.get(argument.arg, value)), "object")
        unfit = re.search(rf"parameter '{argument.arg}' has no JSON form", refusal)
        argument.annotation = argument.annotation if argument.annotation and not unfit else ast.Name(kind)
    if function.returns is None or "the return value has no JSON form" in refusal:
        function.returns = ast.Name("object")
    if ast.get_docstring(function) is None and question:
        function.body.insert(0, ast.Expr(ast.Constant(question)))
    if f"the name {name!r}" in refusal or "choose another name" in refusal:
        proposed = _PROPOSED.search(refusal)
        name = _rename(
            tree, name, proposed[1] if proposed else _make_name(name, f"{ast.get_docstring(function)} {question}")
        )
    header = _HEADER.match(case.source)
    packages = dict.fromkeys(re.findall(r'dependencies = \["([^"]+)"\]', refusal))
    declared = ", ".join(f'"{package}"' for package in packages)
    script = header[0] if header else f"# /// script\n# dependencies = [{declared}]\n# ///\n" if packages else ""
    return f"{script}{ast.unparse(tree)}\n", name


def _pair_defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    places = [*arguments.posonlyargs, *arguments.args]
    yield from zip(places, [*[None] * (len(places) - len(arguments.defaults)), *arguments.defaults], strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


def _take_as_values(arguments: ast.arguments) -> None:
    """`*values` as a list and `**options` as a dict, which a caller can be told of."""
    if arguments.vararg:
        arguments.vararg.annotation = ast.Name("list")
        arguments.args.append(arguments.vararg)
        arguments.defaults += [ast.List([])] if arguments.defaults else []
    if arguments.kwarg:
        arguments.kwarg.annotation = ast.Name("dict")
        arguments.kwonlyargs.append(arguments.kwarg)
        arguments.kw_defaults.append(ast.Dict([], []))
    arguments.vararg = arguments.kwarg = None


def _leave_out_runs(tree: ast.Module, calls: set[str]) -> None:
    """Calls outside of any function, what is made by one of `calls`, and what in turn is made of that."""
    kept, gone = [], set[str]()
    for node in tree.body:
        names = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
        used = {each.id for each in names if isinstance(each.ctx, ast.Load)}
        runs = any(isinstance(each, ast.Call) and ast.unparse(each.func) in calls for each in ast.walk(node))
        is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if isinstance(node, Function | ast.ClassDef) or not (is_call or runs or used & gone):
            kept.append(node)
        else:
            gone |= {each.id for each in names if isinstance(each.ctx, ast.Store)}
    tree.body = kept


def _make_name(name: str, text: str) -> str:
    """As many words as fit: its own, and where these are few, the text's."""
    words = [word.lower() for word in re.findall(r"[A-Za-z][a-z0-9]*", name)]
    if len(name) <= MAX_NAME:
        words += re.findall(r"[a-z]+", text.lower())
    found = ""
    for word in dict.fromkeys(words):
        if len(found) + len(word) < MAX_NAME:
            found = f"{found}_{word}".strip("_")
    return found


def _rename(tree: ast.Module, name: str, new: str) -> str:
    for node in ast.walk(tree):
        if isinstance(node, Function) and node.name == name:
            node.name = new
        elif isinstance(node, ast.Name) and node.id == name:
            node.id = new
    return new
