"""A function, plus everything at module level it uses, as one self-contained file.

It comes from the steps of a session, or from a module and those beside it. A session is not a file: names are bound
again, and a constant may have been made from a value that has changed since. So each name is looked up as of the moment
it is needed: what a statement needs when it runs, among those before it; what a function needs when it is called, among
all. The statements found keep their order.

What another module gives is copied too, under its own name. Two of one name in two modules are a problem, as is each
use of a module that no text can follow.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Sequence

from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library.assembly import MODULE_PIECE, Piece, cut_examples, find_clashes, replace_imports, write_file
from dynasaur_mcp.library.modules import SESSION, Modules, Reference
from dynasaur_mcp.library.rules import Function
from dynasaur_mcp.library.script import find_script
from dynasaur_mcp.library.statements import Statement, read_import
from dynasaur_mcp.library.symbols import Definition, Import, Inside, find_annotated
from dynasaur_mcp.types import Problem

MAX_STATEMENTS = 150
"""What needs more is a whole package: nobody reads that in an action."""


def extract_function(steps: Sequence[str], name: str) -> str:
    """The source of function `name` as the steps of a session left it.

    Raises:
        ActionInvalid: no step defines it, or it depends on what no file can hold.
    """
    blocks = [block for step in steps if (block := find_script(step))]
    headline = f"{name[:60]!r} cannot be kept from this session:"
    return _extract(Modules.of_session(steps), Reference(SESSION, name), headline, "".join(blocks[-1:]))


def extract_from(modules: Modules, function: Reference) -> str:
    """The source of a function of a module, with what it uses of that and the other modules.

    Raises:
        ActionInvalid: there is none, or it depends on what cannot be copied.
    """
    headline = f"{function.name[:60]!r} cannot be copied:"
    return _extract(modules, function, headline, find_script(modules.text(function.module)))


def _extract(modules: Modules, function: Reference, headline: str, block: str) -> str:
    if problem := _find_missing(modules, function):
        raise ActionInvalid(headline, [problem])
    closure = _Closure(modules, function)
    closure.choose()
    pieces: list[tuple[str, Piece]] = []
    problems = closure.problems
    if not problems:
        statements = closure.ordered()
        pieces = [(module, piece) for module, statement in statements for piece in closure.write(module, statement)]
        problems = [*(problem for each in statements for problem in closure.check(*each)), *find_clashes(pieces)]
    if problems:
        raise ActionInvalid(headline, list(dict.fromkeys(problems)))
    return write_file(block, pieces)


def _find_missing(modules: Modules, function: Reference) -> Problem | None:
    statements = modules.statements(function.module)
    functions = {s.node.name: None for s in statements if isinstance(s.node, Function)}
    if function.name in functions:
        return None
    there = ", ".join(map(repr, functions)) or "none yet"
    bound = [statement.node for statement in statements if function.name in statement.binds]
    inside = [each for node in bound for each in ast.walk(node) if isinstance(each, Function)]
    if any(each.name == function.name for each in inside):
        return Problem(
            f"{function.name[:60]!r} is defined under an `if`, a `try` or the like. Define it at the top level."
        )
    what = "is no function made by `def`" if bound else "is not defined in it"
    return Problem(f"{function.name[:60]!r} {what}. Its functions: {there}.")


class _Closure:
    """The statements without which a function would not be what it is."""

    def __init__(self, modules: Modules, function: Reference) -> None:
        self.problems: list[Problem] = []
        self._modules = modules
        self._function = function
        self._chosen: dict[str, set[int]] = {}
        """Positions by module."""
        self._links: dict[Reference, Reference] = {}
        """What names that are imported from another module are there."""
        self._attributes: set[tuple[Reference, str]] = set()
        """`a.b` in what was found, for any name `a`."""
        self._used: dict[str, set[str]] = {}
        """For each module that is imported as a whole, what is used of it."""
        self._inner: dict[tuple[str, bool], set[Reference]] = {}
        """By module, what it imports from others within functions (False), and within statements that run at once."""
        self._waiting: list[tuple[str, str, int]] = []

    def choose(self) -> None:
        """Find them all, or why that cannot be."""
        asked: set[tuple[str, str, int]] = set()
        self._need(self._function)
        while not self.problems and (self._waiting or self._need_attributes()):
            need = self._waiting.pop()
            if need in asked:
                continue
            asked.add(need)
            self._choose(*need)
            if sum(map(len, self._chosen.values())) > MAX_STATEMENTS:
                self.problems.append(Problem(f"it needs more than {MAX_STATEMENTS} statements of other code."))

    def _choose(self, module: str, wanted: str, moment: int) -> None:
        for position in self._find(module, wanted, moment):
            statement = self._modules.statements(module)[position]
            if position not in self._chosen.setdefault(module, set()):
                self._chosen[module].add(position)
                self._note(module, wanted, statement)
            later = (
                statement.later | statement.examples.names if self._is_target(module, statement) else statement.later
            )
            # What runs now may leave something behind that is called at any time.
            end = len(self._modules.statements(module))
            # Sorted, so that the same function always gives the same file.
            self._waiting += [(module, other, position) for other in sorted(statement.now)]
            self._waiting += [(module, other, when) for other in sorted(later) for when in sorted({moment, end})]

    def _note(self, module: str, wanted: str, statement: Statement) -> None:
        target = self._modules.follow(module, statement.node)
        if target and not statement.is_star_import:
            self._link(Reference(module, wanted), target)
        for inside in self._looked_at(module, statement):
            self._attributes |= {(Reference(module, name), attribute) for name, attribute in inside.attributes}
            for target in (target for node in inside.imports for target in self._follow_inner(module, node)):
                self._inner.setdefault((module, not isinstance(statement.node, Definition)), set()).add(target)
                self._need(target)

    def _looked_at(self, module: str, statement: Statement) -> list[Inside]:
        return [statement.inside, *([statement.examples] if self._is_target(module, statement) else [])]

    def _find(self, module: str, wanted: str, moment: int) -> list[int]:
        found = self._modules.find_binding(module, wanted, moment)
        if found or hasattr(builtins, wanted) or wanted.startswith("__"):
            return found
        star = self._modules.find_star(module, wanted, moment)
        if star:
            self._link(Reference(module, wanted), star[1])
            return [star[0]]
        statements = self._modules.statements(module)[:moment]
        return [position for position, statement in enumerate(statements) if statement.binds_anything]

    def _link(self, name: Reference, target: Reference) -> None:
        self._links[name] = target
        if target.name:
            self._need(target)
        else:
            self._used.setdefault(target.module, set())

    def _need(self, target: Reference) -> None:
        if self._modules.binds(target):
            self._waiting.append((target.module, target.name, len(self._modules.statements(target.module))))
        else:
            self.problems.append(Problem(f"it uses {target.name!r} of {target.module!r}, where no statement makes it."))

    def _need_attributes(self) -> bool:
        """Ask for what is used of whole modules; whether there is anything new."""
        # Those of a module come before those of a module in it.
        for name, attribute in sorted(self._attributes):
            target = self._links.get(name)
            if not target or target.name:
                continue
            is_new = attribute not in self._used[target.module]
            self._used[target.module].add(attribute)
            if inner := self._find_inner(target.module, attribute):
                self._link(Reference(name.module, f"{name.name}.{attribute}"), Reference(inner))
            elif is_new:
                self._need(Reference(target.module, attribute))
        return bool(self._waiting)

    def _find_inner(self, module: str, attribute: str) -> str:
        """The module that `import a.b` makes an attribute of `a`; empty if it is none."""
        inner = f"{module}.{attribute}"
        return inner if inner in self._modules and not self._modules.binds(Reference(module, attribute)) else ""

    def _follow_inner(self, module: str, node: Import) -> list[Reference]:
        """What an import that is not at module level gives, if each name can stand at module level instead."""
        if not isinstance(node, ast.ImportFrom):
            return []
        targets = [self._modules.follow(module, read_import(node, alias).node) for alias in node.names]
        return [target for target in targets if target and target.name not in ("", "*")]

    def _is_target(self, module: str, statement: Statement) -> bool:
        return isinstance(statement.node, Function) and Reference(module, statement.node.name) == self._function

    def ordered(self) -> list[tuple[str, Statement]]:
        """Those found, each with its module, in an order in which they can run."""
        order: dict[str, None] = {}
        seen: set[str] = set()

        def visit(module: str) -> None:
            if module in seen:
                return
            seen.add(module)
            now = frozenset().union(*(each.now for each in self._chosen_of(module)))
            links = {name.name: target for name, target in self._links.items() if name.module == module}
            hard = [target for name, target in links.items() if name.partition(".")[0] in now]
            for target in [*hard, *sorted(self._inner.get((module, True), ()))]:
                visit(target.module)
            order[module] = None
            # What is needed when called only: modules may import each other for that.
            for target in [*links.values(), *sorted(self._inner.get((module, False), ()))]:
                visit(target.module)

        visit(self._function.module)
        return [(module, statement) for module in order for statement in self._chosen_of(module)]

    def _chosen_of(self, module: str) -> list[Statement]:
        chosen = self._chosen.get(module, ())
        statements = enumerate(self._modules.statements(module))
        return [each for position, each in statements if position in chosen or (chosen and each.is_future_import)]

    def check(self, module: str, statement: Statement) -> Iterator[Problem]:
        """What keeps it from being in a file of its own."""
        shown = statement.text.splitlines()[0][:80]
        if statement.awaits:
            yield Problem(f"it depends on `{shown}`, and a module cannot await. Await it in the function.")
        if statement.is_import:
            if self._modules.leads_inside(module, statement.node) and not self._modules.follow(module, statement.node):
                yield Problem(f"it depends on `{shown}`, which cannot be followed.")
            return
        for inside in self._looked_at(module, statement):
            for node in inside.imports:
                if self._modules.leads_inside(module, node) and not self._is_followed(module, node):
                    yield Problem(f"it has `{ast.unparse(node)}` inside, which cannot be followed.")
            for name in sorted(inside.bare):
                target = self._links.get(Reference(module, name))
                if target and not target.name:
                    yield Problem(f"it uses the module {name!r} as a whole.")

    def _is_followed(self, module: str, node: Import) -> bool:
        return isinstance(node, ast.ImportFrom) and len(self._follow_inner(module, node)) == len(node.names)

    def write(self, module: str, statement: Statement) -> Iterator[Piece]:
        """What stands for it in the file: itself, but for what it imports from another of the modules."""
        target = self._modules.follow(module, statement.node)
        if target is None:
            yield self._write_plain(module, statement)
            return
        is_last = not any(statement.binds & each.now for each in self._chosen_of(module))
        # Under its own name it is there already.
        for name in sorted(statement.binds - {target.name}):
            made = target.name
            if not made:
                yield MODULE_PIECE
                made = self._make_module(target.module)
            yield Piece(f"{name} = {made}", statement.binds, is_last=is_last)

    def _make_module(self, module: str) -> str:
        made = {name: self._find_inner(module, name) for name in sorted(self._used[module])}
        parts = (f"{name}={self._make_module(inner) if inner else name}" for name, inner in made.items())
        return f"_Module({', '.join(parts)})"

    def _write_plain(self, module: str, statement: Statement) -> Piece:
        text, is_target = statement.text, self._is_target(module, statement)
        if isinstance(statement.node, Definition) and not is_target:
            text = cut_examples(text)
        if any(inside.imports for inside in self._looked_at(module, statement)):
            text = replace_imports(text, lambda node: self._is_followed(module, node), in_examples=is_target)
        return Piece(
            text,
            statement.binds - {target.name for target in self._inner.get((module, True), ())},
            is_future_import=statement.is_future_import,
            is_import=statement.is_import,
            is_definition=isinstance(statement.node, Definition),
            may_not_bind=statement.may_not_bind,
            for_types=statement.for_types and not self._is_for_schemas(statement),
        )

    def _is_for_schemas(self, statement: Statement) -> bool:
        """What the function takes and gives must be known when it runs, too; but `_typeshed` is never there then."""
        is_stub = isinstance(statement.node, ast.ImportFrom) and (statement.node.module or "").startswith("_typeshed")
        return not is_stub and bool(statement.binds & self._named_in_signature())

    def _named_in_signature(self) -> frozenset[str]:
        module, name = self._function.module, self._function.name
        nodes = [each.node for each in self._modules.statements(module) if name in each.binds]
        return frozenset(found for node in nodes if isinstance(node, Function) for found in find_annotated(node))
