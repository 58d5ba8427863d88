"""Statements at module level: which names each one binds, changes, and needs now or later."""

from __future__ import annotations

import ast
import doctest
import re
import symtable
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dynasaur_mcp.library.reading import parsing
from dynasaur_mcp.library.rules import Function, walk_own

Definition = Function | ast.ClassDef
_Scope = Definition | ast.Lambda
_Compound = ast.If | ast.For | ast.AsyncFor | ast.While | ast.Try | ast.TryStar | ast.With | ast.AsyncWith | ast.Match
Import = ast.Import | ast.ImportFrom

_COMPREHENSIONS = ("listcomp", "setcomp", "dictcomp", "genexpr")

_MUTATORS = frozenset(
    re.findall(
        r"\w+",
        """add append appendleft clear discard extend extendleft filterwarnings insert pop popitem register remove
        reverse seed set_int_max_str_digits setdefault setlocale setrecursionlimit simplefilter sort update""",
    )
)
"""Methods that are called for what they do to their object, or functions for what they do to their module."""

_BINDERS = frozenset({"exec", "globals", "locals", "vars"})


@dataclass(frozen=True, slots=True)
class Inside:
    """What is inside of some code, at any depth."""

    attributes: frozenset[tuple[str, str]] = frozenset()
    """`a.b`"""
    bare: frozenset[str] = frozenset()
    """Names that are used otherwise."""
    imports: tuple[Import, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        return self.bare | {name for name, _ in self.attributes}


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement at module level; imports of several names count as several, as do those that are for types only."""

    text: str
    node: ast.stmt
    binds: frozenset[str]
    """Names it gives a value."""
    touches: frozenset[str]
    """Names whose value it changes in place."""
    now: frozenset[str]
    """Names it needs when it runs."""
    later: frozenset[str]
    """Names that are needed when what it defines is called, or looked at for its types."""
    inside: Inside = Inside()
    examples: Inside = Inside()
    """Of a function's docstring."""
    may_not_bind: bool = False
    """It can leave an older value in place."""
    awaits: bool = False
    for_types: bool = False
    """It runs for type checkers only, under `if TYPE_CHECKING`."""

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, Import)

    @property
    def is_star_import(self) -> bool:
        return isinstance(self.node, ast.ImportFrom) and self.node.names[0].name == "*"

    @property
    def binds_anything(self) -> bool:
        """Which names it gives a value cannot be told from its text."""
        return self.is_star_import or (not isinstance(self.node, Definition) and bool(self.now & _BINDERS))

    @property
    def is_future_import(self) -> bool:
        return isinstance(self.node, ast.ImportFrom) and self.node.module == "__future__"


def read_steps(steps: Sequence[str]) -> list[Statement]:
    """Every statement of every step of a session that parses, in the order they ran."""
    return [statement for step in steps for statement in _read_text(step)]


def read_module(text: str) -> list[Statement]:
    """Every statement of a file, in order.

    Unlike a step, which may call a function just to see what it does, a file calls one at module level for what that
    changes: its arguments, and the globals it sets.
    """
    statements = [statement for statement in _read_text(text) if not _is_main_guard(statement.node)]
    functions = [statement for statement in statements if isinstance(statement.node, Function)]
    changes = {name: _find_changes(function) for function in functions for name in function.binds}
    return [_note_calls(statement, changes) for statement in statements]


def _read_text(text: str) -> Iterator[Statement]:
    text = re.sub(r"\r\n?", "\n", text)
    lines = text.split("\n")
    tree = _parse(text)
    for node in tree.body if tree else ():
        if isinstance(node, ast.If) and _names_type_checking(node.test):
            for inner in node.body:
                yield from (replace(each, for_types=True) for each in _read_node(inner, ast.unparse(inner)))
            for inner in node.orelse:
                yield from _read_node(inner, ast.unparse(inner))
        else:
            yield from _read_node(node, _cut_text(node, lines))


def _read_node(node: ast.stmt, text: str) -> Iterator[Statement]:
    if isinstance(node, Import):
        yield from (read_import(node, alias) for alias in node.names)
    else:
        yield _read_statement(text, node)


def _names_type_checking(test: ast.expr) -> bool:
    return (test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")) == "TYPE_CHECKING"


def _is_main_guard(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Compare)
        and any(isinstance(each, ast.Name) and each.id == "__name__" for each in ast.walk(node.test))
    )


def _find_changes(function: Statement) -> tuple[frozenset[str], frozenset[str]]:
    """The globals that a function sets when it is called, and those whose value it changes."""
    inside = list(ast.walk(function.node))
    sets = frozenset(name for each in inside if isinstance(each, ast.Global) for name in each.names)
    return sets, frozenset(_find_touched(function.node, inside)) & function.later


def _note_calls(statement: Statement, changes: Mapping[str, tuple[frozenset[str], frozenset[str]]]) -> Statement:
    called = [changes[name] for name in statement.now if name in changes]
    sets = frozenset(name for each, _ in called for name in each)
    touches = statement.touches.union(*(each for _, each in called))
    if not isinstance(statement.node, Definition):
        touches |= set(_find_given(statement.node))
    may_not_bind = statement.may_not_bind or bool(sets - statement.binds)
    return replace(statement, binds=statement.binds | sets, touches=touches, may_not_bind=may_not_bind)


def _find_given(node: ast.stmt) -> Iterator[str]:
    """What is given to calls that are statements of their own, and what has the methods so called."""
    for each in _walk_own(node):
        if isinstance(each, ast.Expr) and isinstance(each.value, ast.Call):
            call = each.value
            method = [call.func] if isinstance(call.func, ast.Attribute) else []
            if getattr(call.func, "id", "") != "print":
                yield from filter(None, map(_find_root, [*method, *call.args, *(each.value for each in call.keywords)]))


def read_import(node: Import, alias: ast.alias) -> Statement:
    # An import of a.b binds a, and so does one of a.c: neither replaces the other.
    is_dotted = isinstance(node, ast.Import) and not alias.asname
    single: Import
    if isinstance(node, ast.Import):
        single = ast.Import(names=[alias])
        name = alias.asname or alias.name.split(".")[0]
    else:
        single = ast.ImportFrom(module=node.module, names=[alias], level=node.level)
        name = alias.asname or alias.name
    nothing = frozenset[str]()
    binds = frozenset([name]) - {"*"}
    return Statement(ast.unparse(single), single, binds, nothing, nothing, nothing, may_not_bind=is_dotted)


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
        later=later | frozenset(find_annotated(node)),
        inside=_look_inside([node]),
        examples=_look_inside(_read_examples(node)) if isinstance(node, Function) else Inside(),
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


def find_annotated(node: ast.stmt) -> Iterator[str]:
    """Names in annotations, which may be text or never looked at when it runs."""
    for each in ast.walk(node):
        annotation = getattr(each, "returns", None) or getattr(each, "annotation", None)
        if isinstance(annotation, ast.expr):
            yield from _find_names_in_annotation(annotation)


def _read_examples(function: Function) -> Iterator[ast.Module]:
    try:
        examples = doctest.DocTestParser().get_examples(ast.get_docstring(function, clean=False) or "")
    except ValueError:
        return
    for example in examples:
        if tree := _parse(example.source):
            yield tree


def _look_inside(trees: Iterable[ast.AST]) -> Inside:
    nodes = [each for tree in trees for each in ast.walk(tree)]
    whole = [each for each in nodes if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name)]
    bases = {id(each.value) for each in whole}
    return Inside(
        frozenset((each.value.id, each.attr) for each in whole if isinstance(each.value, ast.Name)),
        frozenset(each.id for each in nodes if isinstance(each, ast.Name) and id(each) not in bases),
        tuple(each for each in nodes if isinstance(each, Import)),
    )


def _find_names_in_annotation(annotation: ast.expr) -> Iterator[str]:
    for each in ast.walk(annotation):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield from _find_names_in_text(each.value)


def _find_names_in_text(text: str) -> Iterator[str]:
    if tree := _parse(text.strip()):
        yield from (each.id for each in ast.walk(tree) if isinstance(each, ast.Name))


def _parse(text: str) -> ast.Module | None:
    try:
        with parsing():
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


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
