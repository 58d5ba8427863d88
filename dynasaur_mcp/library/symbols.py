"""What names some code gives values, changes, and mentions."""

from __future__ import annotations

import ast
import doctest
import re
import symtable
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dynasaur_mcp.library.reading import parsing
from dynasaur_mcp.library.rules import Function, find_dotted

Definition = Function | ast.ClassDef
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

_CHANGEABLE = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp | ast.GeneratorExp
_MAKE_CONSTANTS = frozenset({"ParamSpec", "TypeVar", "TypeVarTuple", "NewType", "compile", "getLogger"})
"""What they make is the same for whoever makes it; all else that is called may make what changes."""


@dataclass(frozen=True, slots=True)
class Inside:
    """What is inside of some code, at any depth."""

    attributes: frozenset[tuple[str, str]] = frozenset()
    """`a.b` as `a`, `b`; of `a.b.c` also `a.b`, `c`."""
    bare: frozenset[str] = frozenset()
    """Names, and `a.b`, of which no attribute is used, or one is set."""
    imports: tuple[Import, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name in (*self.bare, *(base for base, _ in self.attributes)) if "." not in name)


NOTHING = Inside()


def read_symbols(text: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
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


def read_names(own: Sequence[ast.AST]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    names = [each for each in own if isinstance(each, ast.Name)]
    binds = frozenset(name.id for name in names if isinstance(name.ctx, ast.Store))
    return binds, frozenset(name.id for name in names if isinstance(name.ctx, ast.Load)), frozenset()


def find_touched(own: Iterable[ast.AST], decorators: Sequence[ast.expr] = ()) -> Iterator[str]:
    changed: list[ast.expr] = []
    for each in own:
        if isinstance(each, ast.AugAssign):
            changed.append(each.target)
        elif isinstance(each, ast.Attribute | ast.Subscript) and not isinstance(each.ctx, ast.Load):
            changed.append(each.value)
        elif isinstance(each, ast.Expr) and isinstance(each.value, ast.Call) and _mutates(each.value):
            changed.append(each.value.func)
    # `@app.route(…)` and `@f.register` put what they decorate into something else.
    functions = (each.func if isinstance(each, ast.Call) else each for each in decorators)
    changed += [each for each in functions if isinstance(each, ast.Attribute)]
    for target in changed:
        if name := find_root(target):
            yield name


def _mutates(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return False
    return call.func.attr in _MUTATORS or any(
        keyword.arg == "inplace" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        for keyword in call.keywords
    )


def makes_changeable(node: ast.stmt) -> bool:
    """Whether it gives a name a value that two modules which write the like do not share."""
    if isinstance(node, ast.ClassDef):
        # One is no instance of the other.
        return True
    if isinstance(node, Import):
        return False
    if isinstance(node, Function):
        kept = [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        return any(isinstance(each, _CHANGEABLE | ast.Call) for each in kept)
    return any(
        isinstance(each, _CHANGEABLE)
        or (isinstance(each, ast.Call) and find_dotted(each.func).rpartition(".")[2] not in _MAKE_CONSTANTS)
        for each in ast.walk(node)
    )


def find_root(node: ast.expr) -> str:
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return ""
    return node.id


def is_overload(node: ast.stmt) -> bool:
    """Whether it says types of a function that is defined below."""
    return isinstance(node, Function) and any(
        find_dotted(each).rpartition(".")[2] == "overload" for each in node.decorator_list
    )


def find_annotated(node: ast.stmt) -> Iterator[str]:
    """Names in annotations, which may be text or never looked at when it runs."""
    for annotation in find_annotations(node):
        yield from _find_names_in_annotation(annotation)


def find_annotations(node: ast.AST) -> Iterator[ast.expr]:
    for each in ast.walk(node):
        annotation = getattr(each, "returns", None) or getattr(each, "annotation", None)
        if isinstance(annotation, ast.expr):
            yield annotation


def read_examples(function: Function) -> Iterator[ast.Module]:
    try:
        examples = doctest.DocTestParser().get_examples(ast.get_docstring(function, clean=False) or "")
    except ValueError:
        return
    for example in examples:
        if tree := parse(example.source):
            yield tree


def look_inside(trees: Iterable[ast.AST]) -> Inside:
    nodes = [each for tree in trees for each in ast.walk(tree)]
    whole = [(each, base) for each in nodes if isinstance(each, ast.Attribute) and (base := find_dotted(each.value))]
    bases = {id(each.value) for each, _ in whole}
    dotted = [each for each in nodes if isinstance(each, ast.Name | ast.Attribute) and id(each) not in bases]
    changed = [base for each, base in whole if not isinstance(each.ctx, ast.Load)]
    return Inside(
        frozenset((base, each.attr) for each, base in whole),
        frozenset(filter(None, [*map(find_dotted, dotted), *changed])),
        tuple(each for each in nodes if isinstance(each, Import)),
    )


def _find_names_in_annotation(annotation: ast.expr) -> Iterator[str]:
    for each in ast.walk(annotation):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield from find_names_in_text(each.value)


def find_names_in_text(text: str) -> Iterator[str]:
    if tree := parse(text.strip()):
        yield from (each.id for each in ast.walk(tree) if isinstance(each, ast.Name))


def parse(text: str) -> ast.Module | None:
    try:
        with parsing():
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
