"""The statements of a session's steps: which names each one binds, changes, and needs now or later."""

from __future__ import annotations

import ast
import doctest
import re
import symtable
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dynasaur_mcp.library.reading import parsing
from dynasaur_mcp.library.rules import Function, walk_own

Definition = Function | ast.ClassDef
_Scope = Definition | ast.Lambda
_Compound = ast.If | ast.For | ast.AsyncFor | ast.While | ast.Try | ast.TryStar | ast.With | ast.AsyncWith | ast.Match
_Import = ast.Import | ast.ImportFrom

_COMPREHENSIONS = ("listcomp", "setcomp", "dictcomp", "genexpr")

_MUTATORS = frozenset(
    re.findall(
        r"\w+",
        """add append appendleft clear discard extend extendleft filterwarnings insert pop popitem register remove
        reverse seed set_int_max_str_digits setdefault setlocale setrecursionlimit simplefilter sort update""",
    )
)
"""Methods that are called for what they do to their object, or functions for what they do to their module."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement at module level of a step; imports of several names count as several."""

    text: str
    node: ast.stmt
    binds: frozenset[str]
    """Names it gives a value."""
    touches: frozenset[str]
    """Names whose value it changes in place."""
    now: frozenset[str]
    """Names it needs when it runs."""
    later: frozenset[str]
    """Names that are needed when what it defines is called, documented or tested."""
    may_not_bind: bool
    """It can leave an older value in place."""
    awaits: bool

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, _Import)

    @property
    def is_star_import(self) -> bool:
        return isinstance(self.node, ast.ImportFrom) and self.node.names[0].name == "*"

    @property
    def is_future_import(self) -> bool:
        return isinstance(self.node, ast.ImportFrom) and self.node.module == "__future__"


def read_steps(steps: Sequence[str]) -> list[Statement]:
    """Every statement of every step that parses, in the order they ran."""
    return [statement for step in steps for statement in _read_step(re.sub(r"\r\n?", "\n", step))]


def _read_step(step: str) -> Iterator[Statement]:
    try:
        with parsing():
            tree = ast.parse(step)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    lines = step.split("\n")
    for node in tree.body:
        if isinstance(node, _Import):
            for alias in node.names:
                yield _read_import(node, alias)
        else:
            yield _read_statement(_cut_text(node, lines), node)


def _read_import(node: _Import, alias: ast.alias) -> Statement:
    # An import of a.b binds a, and so does one of a.c: neither replaces the other.
    is_dotted = isinstance(node, ast.Import) and not alias.asname
    single: _Import
    if isinstance(node, ast.Import):
        single = ast.Import(names=[alias])
        name = alias.asname or alias.name.split(".")[0]
    else:
        single = ast.ImportFrom(module=node.module, names=[alias], level=node.level)
        name = alias.asname or alias.name
    nothing = frozenset[str]()
    binds = frozenset([name]) - {"*"}
    return Statement(ast.unparse(single), single, binds, nothing, nothing, nothing, is_dotted, awaits=False)


def _read_statement(text: str, node: ast.stmt) -> Statement:
    own = list(walk_own(node))
    awaits = any(isinstance(each, ast.Await | ast.AsyncFor | ast.AsyncWith) for each in own)
    touches = frozenset(_find_touched(node, own))
    # Python's own symbol table knows scopes best, but takes no `await` at module level.
    binds, now, later = _read_names(own) if awaits else _read_symbols(text)
    return Statement(
        text=text,
        node=node,
        binds=binds,
        touches=touches,
        now=now | touches,
        later=later | frozenset(_find_mentioned(node)),
        may_not_bind=isinstance(node, _Compound),
        awaits=awaits,
    )


def _read_symbols(text: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    with parsing():
        top = symtable.symtable(text, "<step>", "exec")
    symbols = top.get_symbols()
    binds = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    now = {symbol.get_name() for symbol in symbols if symbol.is_referenced()}
    later: set[str] = set()
    waiting = [(child, True) for child in top.get_children()]
    while waiting:
        table, runs_now = waiting.pop()
        runs_now = runs_now and (table.get_type() == "class" or table.get_name() in _COMPREHENSIONS)
        names = {each.get_name() for each in table.get_symbols() if each.is_global() or each.is_declared_global()}
        if runs_now:
            now |= names
        else:
            later |= names
        waiting += [(child, runs_now) for child in table.get_children()]
    return frozenset(binds), frozenset(now), frozenset(later)


def _read_names(own: Sequence[ast.AST]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    names = [each for each in own if isinstance(each, ast.Name)]
    binds = frozenset(name.id for name in names if isinstance(name.ctx, ast.Store))
    return binds, frozenset(name.id for name in names if isinstance(name.ctx, ast.Load)), frozenset()


def _find_touched(node: ast.stmt, own: Sequence[ast.AST]) -> Iterator[str]:
    changed: list[ast.expr] = []
    for each in own:
        if isinstance(each, ast.AugAssign):
            changed.append(each.target)
        elif isinstance(each, ast.Attribute | ast.Subscript) and not isinstance(each.ctx, ast.Load):
            changed.append(each.value)
        elif isinstance(each, ast.Expr) and isinstance(each.value, ast.Call) and _mutates(each.value):
            changed.append(each.value.func)
    if isinstance(node, Definition):
        # `@app.route(…)` and `@f.register` put what they decorate into something else.
        functions = (each.func if isinstance(each, ast.Call) else each for each in node.decorator_list)
        changed += [each for each in functions if isinstance(each, ast.Attribute)]
    for target in changed:
        if name := _find_root(target):
            yield name


def _mutates(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return False
    return call.func.attr in _MUTATORS or any(
        keyword.arg == "inplace" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        for keyword in call.keywords
    )


def _find_root(node: ast.expr) -> str:
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return ""
    return node.id


def _find_mentioned(node: ast.stmt) -> Iterator[str]:
    """Names in its doctests, and in annotations, which may be text or never looked at when it runs."""
    for each in ast.walk(node):
        if isinstance(each, Definition) and (docstring := ast.get_docstring(each, clean=False)):
            yield from _find_names_in_examples(docstring)
        annotation = getattr(each, "returns", None) or getattr(each, "annotation", None)
        if isinstance(annotation, ast.expr):
            yield from _find_names_in_annotation(annotation)


def _find_names_in_examples(docstring: str) -> Iterator[str]:
    try:
        examples = doctest.DocTestParser().get_examples(docstring)
    except ValueError:
        return
    for example in examples:
        yield from _find_names_in_text(example.source)


def _find_names_in_annotation(annotation: ast.expr) -> Iterator[str]:
    for each in ast.walk(annotation):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield from _find_names_in_text(each.value)


def _find_names_in_text(text: str) -> Iterator[str]:
    try:
        with parsing():
            tree = ast.parse(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    yield from (each.id for each in ast.walk(tree) if isinstance(each, ast.Name))


def _cut_text(node: ast.stmt, lines: Sequence[str]) -> str:
    """A statement as written, with its decorators, the comments right above it and the one behind it."""
    decorators = node.decorator_list if isinstance(node, Definition) else []
    first = min([node.lineno, *(each.lineno for each in decorators)]) - 1
    last = (node.end_lineno or node.lineno) - 1
    body = [line.encode() for line in lines[first : last + 1]]
    behind = body[-1][node.end_col_offset :]
    if not behind.lstrip().startswith(b"#"):
        body[-1] = body[-1][: node.end_col_offset]
    if not decorators:
        body[0] = body[0][node.col_offset :]
    above = first
    while node.col_offset == 0 and above > 0 and re.match(r"#(?!!| ///)", lines[above - 1]):
        above -= 1
    return "\n".join([*lines[above:first], *(line.decode() for line in body)])
