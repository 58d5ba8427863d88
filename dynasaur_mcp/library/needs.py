"""Packages that a copied function needs, and a function that stays in its package and is called there."""

from __future__ import annotations

import ast
import sys
from collections import deque
from collections.abc import Callable, Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library.guarded import lift
from dynasaur_mcp.library.modules import Modules, Reference
from dynasaur_mcp.library.reading import parsing
from dynasaur_mcp.library.rules import Function, walk_own
from dynasaur_mcp.library.script import read_script, write_requirements
from dynasaur_mcp.library.statements import Statement
from dynasaur_mcp.library.symbols import find_annotated, read_examples
from dynasaur_mcp.types import Problem

FindRequirement = Callable[[str], str]
"""Name of a module -> what it is installed from, as `pandas>=2.2`; empty where nothing is known of it."""


def declare_needs(source: str, find_requirement: FindRequirement) -> str:
    """The file with a requirement for each package that it imports and does not name.

    Raises:
        ActionInvalid: what it imports is not known here, so that nobody can say what has it.
    """
    script = read_script(source)
    if script.problems:
        return source  # the rules say so
    declared = {canonicalize_name(Requirement(text).name) for text in script.requirements}
    needed: list[str] = []
    problems: list[Problem] = []
    for module in dict.fromkeys(_find_imported(source)):
        requirement = find_requirement(module)
        if canonicalize_name(module) in declared or (requirement and _name_of(requirement) in declared):
            continue
        if requirement:
            needed.append(requirement)
        elif not declared:  # else one of these may well have it
            hint = "Name its package in a `# /// script` block, or install it"
            problems.append(Problem(f"it imports {module!r}, which is not installed here. {hint}."))
    if problems:
        raise ActionInvalid("It lacks a package:", problems)
    return write_requirements(source, [*script.requirements, *needed]) if needed else source


def _name_of(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def _find_imported(source: str) -> Iterator[str]:
    """Top modules that it cannot do without: what a `try` or an `if` imports, it can."""
    with parsing():
        waiting: deque[ast.AST] = deque([ast.parse(source)])
    while waiting:
        node = waiting.popleft()
        if isinstance(node, ast.If | ast.Try):
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for top in (name.partition(".")[0] for name in names):
            if top not in sys.stdlib_module_names and top != "actions":
                yield top
        # Expressions have none.
        inner = (each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt | ast.match_case))
        waiting += [*inner, *(read_examples(node) if isinstance(node, Function) else ())]


def borrow_function(modules: Modules, function: Reference, requirement: str) -> str:
    """A function of the same signature that calls the one of an installed package.

    Args:
        requirement: Of the package; empty where there is nothing to install.

    Raises:
        ActionInvalid: there is none.
    """
    modules = lift(modules, function)
    statements = modules.statements(function.module)
    found = [each for each in statements if isinstance(each.node, Function) and each.node.name == function.name]
    if not found:
        raise ActionInvalid(
            f"{function.name!r} cannot be used:", [Problem("it is no function made by `def` at the top level.")]
        )
    text = "\n".join(
        [
            *dict.fromkeys(each.text for each in statements if each.is_future_import),
            f"from {function.module} import {function.name} as _{function.name}",
            *_import_names(modules, function, found[-1]),
            "\n\n" + ast.unparse(_write_call(found[-1].node)) + "\n",
        ]
    )
    return write_requirements(text, [requirement]) if requirement else text


def _import_names(modules: Modules, function: Reference, statement: Statement) -> list[str]:
    """What its signature and its examples name, from where it has that."""
    assert isinstance(statement.node, Function)
    header = {each.id for each in ast.walk(statement.node.args) if isinstance(each, ast.Name)}
    wanted = header | set(find_annotated(statement.node)) | statement.examples.names
    lines: dict[str, None] = {}
    for name in sorted(wanted - {function.name}):
        reference = Reference(function.module, name)
        if not modules.binds(reference):
            continue
        positions = modules.find_binding(function.module, name, len(modules.statements(function.module)))
        made = [modules.statements(function.module)[position] for position in positions]
        if made and all(each.for_types for each in made):
            lines[modules.spell_import(function.module, made[0].node)] = None
        else:
            lines[f"from {function.module} import {name}"] = None
    return list(lines)


def _write_call(node: ast.stmt) -> ast.stmt:
    assert isinstance(node, Function)
    places: list[ast.expr] = [ast.Name(each.arg) for each in (*node.args.posonlyargs, *node.args.args)]
    places += [ast.Starred(ast.Name(node.args.vararg.arg))] if node.args.vararg else []
    keywords = [ast.keyword(each.arg, ast.Name(each.arg)) for each in node.args.kwonlyargs]
    call: ast.expr = ast.Call(ast.Name(f"_{node.name}"), [*places], keywords)
    if isinstance(node, ast.AsyncFunctionDef):
        call = ast.Await(call)
    own = [inner for each in node.body for inner in walk_own(each)]
    is_generator = any(isinstance(each, ast.Yield | ast.YieldFrom) for each in own)
    calls = ast.Expr(ast.YieldFrom(call)) if is_generator else ast.Return(call)
    docstring = node.body[:1] if ast.get_docstring(node) is not None else []
    written = type(node)(
        name=node.name, args=node.args, body=[*docstring, calls], decorator_list=[], returns=node.returns
    )
    return ast.fix_missing_locations(written)
