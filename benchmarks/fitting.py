"""How the source of a recorded tool that is refused is made fit."""

from __future__ import annotations

import ast
import re

from recorded import Case, Function, find_function, pair_defaults, read_literals

MAX_NAME = 40
_RUNS = re.compile(r"`([\w.]+)\(…\)` runs when the file is imported")
_PROPOSED = re.compile(r"Rename the function, for instance to '(\w+)'")
_HEADER = re.compile(r"# /// script\n(?:#.*\n)*?# ///\n")
_KINDS = {bool: "bool", int: "int | float", float: "int | float", str: "str", list: "list", tuple: "list", dict: "dict"}
"""A recorded value's type, as wide as a caller would want it."""


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
    for argument, default in pair_defaults(function.args):
        value = default.value if isinstance(default, ast.Constant) else None
        shown = given.get(argument.arg, value)
        # A text that says something else, such as a number, may be that in the next call.
        kind = _KINDS.get(type(shown), "object") if shown == read_literals(shown) else "object"
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
