"""Statements at module level: which names each one binds, changes, and needs now or later."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dynasaur_mcp.library.rules import Function, find_dotted, walk_own
from dynasaur_mcp.library.symbols import (
    NOTHING,
    Definition,
    Import,
    Inside,
    find_annotated,
    find_root,
    find_touched,
    look_inside,
    parse,
    read_examples,
    read_names,
    read_symbols,
)

_Compound = ast.If | ast.For | ast.AsyncFor | ast.While | ast.Try | ast.TryStar | ast.With | ast.AsyncWith | ast.Match

_BINDERS = frozenset({"exec", "globals", "locals", "vars"})


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
    inside: Inside = NOTHING
    examples: Inside = NOTHING
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
    return _spare_modules([statement for step in steps for statement in _read_text(step)])


def read_module(text: str) -> list[Statement]:
    """Every statement of a file, in order.

    Unlike a step, which may call a function just to see what it does, a file calls one at module level for what that
    changes: its arguments, and the globals it sets.
    """
    statements = _spare_modules([each for each in _read_text(text) if not is_main_guard(each.node)])
    changes = find_changes(statements)
    aliases = {
        target.id: each.node.value.id
        for each in statements
        if isinstance(each.node, ast.Assign) and isinstance(each.node.value, ast.Name)
        for target in each.node.targets
        if isinstance(target, ast.Name)
    }
    return [_note_alias(_note_calls(statement, changes), aliases) for statement in statements]


def _note_alias(statement: Statement, aliases: Mapping[str, str]) -> Statement:
    """What `a` of `a = b` is changed in is `b` too."""
    others = frozenset(aliases[name] for name in statement.touches if name in aliases) - statement.binds
    return replace(statement, touches=statement.touches | others) if others else statement


def _spare_modules(statements: list[Statement]) -> list[Statement]:
    """`@app.route` changes `app`, but `@typing.overload` no module: none would need all functions that have it."""
    modules = frozenset(name for each in statements if isinstance(each.node, ast.Import) for name in each.binds)
    return [
        replace(each, touches=each.touches - modules)
        if isinstance(each.node, Function) and each.touches & modules
        else each
        for each in statements
    ]


def _read_text(text: str) -> Iterator[Statement]:
    text = re.sub(r"\r\n?", "\n", text)
    lines = text.split("\n")
    tree = parse(text)
    for node in tree.body if tree else ():
        if isinstance(node, ast.If) and names_type_checking(node.test):
            for inner in node.body:
                yield from (replace(each, for_types=True) for each in read_node(inner, ast.unparse(inner)))
            for inner in node.orelse:
                yield from read_node(inner, ast.unparse(inner))
        else:
            yield from read_node(node, _cut_text(node, lines))


def read_node(node: ast.stmt, text: str) -> Iterator[Statement]:
    if isinstance(node, Import):
        yield from (read_import(node, alias) for alias in node.names)
    else:
        yield _read_statement(text, node)


def names_type_checking(test: ast.expr) -> bool:
    return (test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")) == "TYPE_CHECKING"


def is_main_guard(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Compare)
        and any(isinstance(each, ast.Name) and each.id == "__name__" for each in ast.walk(node.test))
    )


def find_changes(statements: Sequence[Statement]) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """The globals that each function, or one that it calls, sets when it is called, and those whose value it changes.

    So for classes that are told of each class derived from them.
    """
    functions = [statement for statement in statements if isinstance(statement.node, Function)]
    changes = {name: _find_changes(function) for function in functions for name in function.binds}
    direct = dict(changes)
    for function in functions:
        nodes = (each.func for each in ast.walk(function.node) if isinstance(each, ast.Call))
        names = {each.id for each in nodes if isinstance(each, ast.Name)} & direct.keys()
        for own in function.binds:
            all_sets, all_touches = zip(changes[own], *(direct[name] for name in sorted(names)), strict=True)
            changes[own] = frozenset().union(*all_sets), frozenset().union(*all_touches)
    for each in statements:
        if isinstance(each.node, ast.ClassDef):
            told = [inner for inner in each.node.body if getattr(inner, "name", "") == "__init_subclass__"]
            touches = frozenset(name for inner in told for name in find_touched(ast.walk(inner))) & each.later
            if told:
                changes[each.node.name] = frozenset(), touches | {each.node.name}
            elif base := next((base for base in list_called(each.node) if base in changes), ""):
                changes.setdefault(each.node.name, changes[base])
    return changes


def _find_changes(function: Statement) -> tuple[frozenset[str], frozenset[str]]:
    inside = list(ast.walk(function.node))
    sets = frozenset(name for each in inside if isinstance(each, ast.Global) for name in each.names)
    return sets, frozenset(find_touched(inside)) & function.later


def list_called(node: ast.stmt) -> Iterator[str]:
    """What is called for what it does, not for what it returns; of a class also what it is derived from."""
    if isinstance(node, Definition):
        called = [*node.decorator_list, *getattr(node, "bases", ())]
        yield from filter(None, (find_dotted(each.func if isinstance(each, ast.Call) else each) for each in called))
        return
    for each in walk_own(node):
        if isinstance(each, ast.Expr) and isinstance(each.value, ast.Call) and (name := find_dotted(each.value.func)):
            yield name


def _note_calls(statement: Statement, changes: Mapping[str, tuple[frozenset[str], frozenset[str]]]) -> Statement:
    names = list_called(statement.node) if isinstance(statement.node, ast.ClassDef) else statement.now
    called = [changes[name] for name in names if name in changes]
    sets = frozenset(name for each, _ in called for name in each)
    touches = statement.touches.union(*(each for _, each in called))
    if not isinstance(statement.node, Definition):
        touches |= set(_find_given(statement.node))
    may_not_bind = statement.may_not_bind or bool(sets - statement.binds)
    return replace(statement, binds=statement.binds | sets, touches=touches, may_not_bind=may_not_bind)


def _find_given(node: ast.stmt) -> Iterator[str]:
    """What is given to calls that are statements of their own, and what has the methods so called."""
    for each in walk_own(node):
        if isinstance(each, ast.Expr) and isinstance(each.value, ast.Call):
            call = each.value
            method = [call.func] if isinstance(call.func, ast.Attribute) else []
            # `globals().update(a)` changes nothing of `a`.
            if find_root(call.func) not in ("print", "globals", "locals"):
                yield from filter(None, map(find_root, [*method, *call.args, *(each.value for each in call.keywords)]))


def read_import(node: Import, alias: ast.alias) -> Statement:
    # An import of a.b binds a, and so does one of a.c: neither replaces the other.
    is_dotted = isinstance(node, ast.Import) and not alias.asname
    single: Import
    if isinstance(node, ast.Import):
        single = ast.copy_location(ast.Import(names=[alias]), node)
        name = alias.asname or alias.name.split(".")[0]
    else:
        single = ast.copy_location(ast.ImportFrom(module=node.module, names=[alias], level=node.level), node)
        name = alias.asname or alias.name
    nothing = frozenset[str]()
    binds = frozenset([name]) - {"*"}
    return Statement(ast.unparse(single), single, binds, nothing, nothing, nothing, may_not_bind=is_dotted)


def _read_statement(text: str, node: ast.stmt) -> Statement:
    own = list(walk_own(node))
    awaits = any(isinstance(each, ast.Await | ast.AsyncFor | ast.AsyncWith) for each in own)
    touches = frozenset(find_touched(own, node.decorator_list if isinstance(node, Definition) else ()))
    # Python's own symbol table knows scopes best, but takes no `await` at module level.
    binds, now, later = read_names(own) if awaits else read_symbols(text)
    return Statement(
        text=text,
        node=node,
        binds=binds,
        touches=touches,
        now=now | touches,
        later=later | frozenset(find_annotated(node)),
        inside=look_inside([node]),
        examples=look_inside(read_examples(node)) if isinstance(node, Function) else NOTHING,
        may_not_bind=isinstance(node, _Compound),
        awaits=awaits,
    )


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
