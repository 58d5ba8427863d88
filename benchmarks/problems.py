"""HumanEval's problems, and what can be told from them by running them: the types that a signature lacks."""

from __future__ import annotations

import ast
import copy
import inspect
import io
import json
import re
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One line of the data set; `code` is its prompt and solution."""

    id: str
    name: str
    code: str
    test: str


def read_problems(path: Path, limit: int | None) -> list[Problem]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        Problem(row["task_id"], row["entry_point"], row["prompt"] + row["canonical_solution"], row["test"])
        for row in rows[:limit]
    ]


def load_reference(problem: Problem) -> tuple[Callable[..., Any], Callable[[Callable[..., Any]], None]]:
    """The solution and its check, from code that runs here."""
    scope: dict[str, Any] = {"__name__": "reference"}
    exec(f"{problem.code}\n{problem.test}", scope)
    return scope[problem.name], scope["check"]


def observe_calls(problem: Problem) -> tuple[list[dict[str, Any]], list[Any]]:
    """Arguments by name, and answers, of every call that the problem's tests make."""
    solve, check = load_reference(problem)
    arguments, answers = [], []

    def record(*given: Any) -> Any:
        arguments.append(copy.deepcopy(inspect.signature(solve).bind(*given).arguments))
        answers.append(solve(*given))
        return answers[-1]

    check(record)
    return arguments, answers


def name_type(values: Iterable[Any]) -> str:
    """The narrowest type, as source text, that all the values have."""
    kinds: dict[type, list[Any]] = {}
    for value in values:
        kinds.setdefault(type(value), []).append(value)
    names = []
    for kind, some in kinds.items():
        if kind in (bool, int, float, str):
            names.append(kind.__name__)
        elif kind in (list, set):
            names.append(f"{kind.__name__}[{name_type(item for value in some for item in value)}]")
        elif kind is dict:
            keys, items = (
                name_type(key for d in some for key in d),
                name_type(item for d in some for item in d.values()),
            )
            names.append(f"dict[{keys}, {items}]")
        elif kind is tuple and len({len(value) for value in some}) == 1 and some[0]:
            names.append(f"tuple[{', '.join(name_type(place) for place in zip(*some, strict=True))}]")
        elif kind is tuple:
            names.append(f"tuple[{name_type(item for value in some for item in value)}, ...]")
        elif kind is type(None):
            names.append("None")
        else:
            return "Any"
    return " | ".join(sorted(names, key=lambda name: (name == "None", name))) or "Any"


def find_function(code: str, name: str) -> ast.FunctionDef:
    return next(node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef) and node.name == name)


def add_types(problem: Problem) -> str:
    """Its code with the types that are missing in its signature; nothing else changes."""
    function = find_function(problem.code, problem.name)
    arguments, answers = observe_calls(problem)
    inserts: list[tuple[int, int, str]] = []
    for parameter in function.args.args:
        if parameter.annotation is None:
            name = name_type(call[parameter.arg] for call in arguments if parameter.arg in call)
            inserts.append((parameter.end_lineno or 0, parameter.end_col_offset or 0, f": {name}"))
    if function.returns is None:
        inserts.append((*find_colon(problem.code, function.lineno), f" -> {name_type(answers)}"))
    lines = problem.code.split("\n")
    for line, column, text in sorted(inserts, reverse=True):
        lines[line - 1] = lines[line - 1][:column] + text + lines[line - 1][column:]
    if any("Any" in text for *_, text in inserts):
        lines.insert(0, "from typing import Any")
    return "\n".join(lines)


def find_colon(code: str, line: int) -> tuple[int, int]:
    """Line and column of the colon that ends the signature beginning at that line."""
    depth = 0
    rest = "\n".join(code.split("\n")[line - 1 :])
    for token in tokenize.generate_tokens(io.StringIO(rest).readline):
        depth += (token.string in ("(", "[", "{")) - (token.string in (")", "]", "}"))
        if token.string == ":" and depth == 0:
            return line + token.start[0] - 1, token.start[1]
    raise ValueError(f"no signature at line {line}")


def rename(problem: Problem) -> Problem:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", problem.name).lower()
    return problem if snake == problem.name else _change_name(problem, snake)


def number(problem: Problem) -> Problem:
    """Under a name of its own: some names occur twice, and some say nothing."""
    return _change_name(problem, f"human_eval_{problem.id.rpartition('/')[2]}")


def _change_name(problem: Problem, name: str) -> Problem:
    old = re.compile(rf"\b{problem.name}\b")
    return replace(problem, name=name, code=old.sub(name, problem.code), test=old.sub(name, problem.test))


def put_docstring_first(problem: Problem) -> Problem:
    function = find_function(problem.code, problem.name)
    if ast.get_docstring(function) is not None:
        return problem
    for statement in function.body:
        if isinstance(statement, ast.Expr) and isinstance(getattr(statement.value, "value", None), str):
            lines = problem.code.split("\n")
            end = statement.end_lineno or statement.lineno
            text = lines[statement.lineno - 1 : end]
            del lines[statement.lineno - 1 : end]
            start = function.body[0].lineno - 1
            return replace(problem, code="\n".join([*lines[:start], *text, *lines[start:]]))
    return problem


def make_examples_plain(problem: Problem) -> Problem:
    return replace(problem, code=problem.code.replace(">>>", "  >"))


def write_source(problem: Problem, own_tests: bool) -> str:
    source = add_types(problem)
    if own_tests:
        check = re.sub(r"\bcheck\b", "_check", problem.test)
        source += f"\n{check}\n\ndef test_human_eval() -> None:\n    _check({problem.name})\n"
    return source
