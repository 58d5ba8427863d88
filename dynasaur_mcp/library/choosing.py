"""Which statements a function needs, of its own module and of others that these import from.

Each name is looked up as of the moment it is needed: what a statement needs when it runs, among those before it; what a
function needs when it is called, among all.
"""

from __future__ import annotations

import builtins

from dynasaur_mcp.library.modules import Modules, Reference, Runs
from dynasaur_mcp.library.rules import MAX_SOURCE_BYTES, Function
from dynasaur_mcp.library.statements import Statement, read_import
from dynasaur_mcp.library.symbols import Definition, Import, Inside, is_overload
from dynasaur_mcp.types import Problem


class Choice:
    """The statements without which a function would not be what it is, and what their names are in other modules."""

    def __init__(self, modules: Modules, function: Reference) -> None:
        self.modules = modules
        self.function = function
        self.problems: list[Problem] = []
        self._chosen: dict[str, set[int]] = {}
        """Positions by module."""
        self.links: dict[Reference, Reference] = {}
        """What names that are imported from another module are there."""
        self._attributes: set[tuple[Reference, str]] = set()
        """`a.b` in what was found, for any name `a`."""
        self.used: dict[str, set[str]] = {}
        """For each module that is imported as a whole, what is used of it."""
        self.inner: dict[tuple[str, bool], set[Reference]] = {}
        """By module, what it imports from others within functions (False), and within statements that run at once."""
        self._waiting: list[tuple[str, str, int]] = []
        self._found: dict[Reference, None] = {}
        """What was asked for and is there."""
        self._watched: set[Reference] = set()
        self._characters = 0
        self._asked: set[tuple[str, str, int]] = set()

    def choose(self) -> None:
        """Find them all, or why that cannot be."""
        self._need(self.function)
        while not self.problems and (self._waiting or self._need_attributes() or self._need_changes()):
            self._choose(*self._waiting.pop())
            # The examples that are cut yet are no half of it.
            if self._characters > 2 * MAX_SOURCE_BYTES:
                self.problems.append(
                    Problem("with all that it uses it has more than 2 MB: an action has 1 MB at most.")
                )

    def _choose(self, module: str, wanted: str, moment: int) -> None:
        positions = self._find(module, wanted, moment)
        if positions:
            self._found.setdefault(Reference(module, wanted))
        for position in positions:
            self._take(module, position, moment, wanted)

    def _take(self, module: str, position: int, moment: int, wanted: str = "") -> None:
        statement = self.modules.statements(module)[position]
        if position not in self._chosen.setdefault(module, set()):
            self._chosen[module].add(position)
            self._characters += len(statement.text)
            self._note(module, wanted, statement)
        later = statement.later | statement.examples.names if self.is_target(module, statement) else statement.later
        # What runs now may leave something behind that is called at any time.
        end = len(self.modules.statements(module))
        # Sorted, so that the same function always gives the same file.
        for other in sorted(statement.now):
            self._ask(module, other, position)
        for other in sorted(later):
            self._ask(module, other, moment)
            self._ask(module, other, end)

    def _note(self, module: str, wanted: str, statement: Statement) -> None:
        target = self.modules.follow(module, statement.node)
        if target and not statement.is_star_import:
            self._link(Reference(module, wanted), target)
        for inside in self.looked_at(module, statement):
            self._attributes |= {(Reference(module, name), attribute) for name, attribute in inside.attributes}
            for name, target in (each for node in inside.imports for each in self.follow_inner(module, node)):
                if target.name:
                    self.inner.setdefault((module, not isinstance(statement.node, Definition)), set()).add(target)
                    self._need(target)
                else:
                    self._link(Reference(module, name), target)

    def looked_at(self, module: str, statement: Statement) -> list[Inside]:
        """What is inside of a statement, and in its examples if these are tests of the file to be."""
        return [statement.inside, *([statement.examples] if self.is_target(module, statement) else [])]

    def _find(self, module: str, wanted: str, moment: int) -> list[int]:
        found = self.modules.find_binding(module, wanted, moment)
        if Reference(module, wanted) == self.function:
            found = [*found, *self._find_overloads()]
        star = self.modules.find_star(module, wanted, moment)
        if star and star[0] > max(found, default=-1):
            self._link(Reference(module, wanted), star[1])
            return [star[0]]
        if found or hasattr(builtins, wanted) or wanted.startswith("__"):
            return found
        statements = self.modules.statements(module)[:moment]
        return [position for position, statement in enumerate(statements) if statement.binds_anything]

    def _find_overloads(self) -> list[int]:
        statements = self.modules.statements(self.function.module)
        return [at for at, each in enumerate(statements) if self.function.name in each.binds and is_overload(each.node)]

    def _link(self, name: Reference, target: Reference) -> None:
        self.links[name] = target
        if target.name:
            self._need(target)
        else:
            self.used.setdefault(target.module, set())

    def _ask(self, module: str, name: str, moment: int) -> None:
        if (module, name, moment) not in self._asked:
            self._asked.add((module, name, moment))
            self._waiting.append((module, name, moment))

    def _need(self, target: Reference) -> None:
        if self.modules.binds(target):
            self._ask(target.module, target.name, len(self.modules.statements(target.module)))
        else:
            self.problems.append(Problem(f"it uses {target.name!r} of {target.module!r}, where no statement makes it."))

    def _need_attributes(self) -> bool:
        """Ask for what is used of whole modules; whether there is anything new."""
        # Those of a module come before those of a module in it.
        for name, attribute in sorted(self._attributes):
            target = self.links.get(name)
            if not target or target.name:
                continue
            is_new = attribute not in self.used[target.module]
            self.used[target.module].add(attribute)
            if inner := self.find_inner(target.module, attribute):
                self._link(Reference(name.module, f"{name.name}.{attribute}"), Reference(inner))
            elif is_new:
                self._need(Reference(target.module, attribute))
        return bool(self._waiting)

    def _need_changes(self) -> bool:
        """Ask for what other modules do to what was found, when they run; whether there is anything new."""
        found = [each for each in self._found if each not in self._watched]
        self._watched.update(found)
        runs = self._find_runs()
        for changed in found:
            for module, position in self.modules.find_changing(changed, runs):
                self._take(module, position, len(self.modules.statements(module)))
        return bool(self._waiting)

    def find_inner(self, module: str, attribute: str) -> str:
        """The module that `import a.b` makes an attribute of `a`; empty if it is none."""
        inner = f"{module}.{attribute}"
        if inner not in self.modules or self.modules.binds_other(Reference(module, attribute), inner):
            return ""
        return inner

    def follow_inner(self, module: str, node: Import) -> list[tuple[str, Reference]]:
        """What an import that is not at module level gives of these modules, by name; nothing if one cannot be told."""
        found = []
        for single in (read_import(node, alias) for alias in node.names):
            if not self.modules.leads_inside(module, single.node):
                continue
            target = self.modules.follow(module, single.node)
            name = "".join(single.binds)
            if not name or not target or not (target.name or self._is_only(Reference(module, name), target)):
                return []
            found.append((name, target))
        return found

    def _is_only(self, name: Reference, target: Reference) -> bool:
        """Whether a module has that name for nothing else: what is used of it is told from the name."""
        statements = self.modules.statements(name.module)
        made = self.modules.find_binding(name.module, name.name, len(statements))
        found = [self.modules.follow(name.module, statements[position].node) for position in made]
        return all(each == target for each in (*found, self.links.get(name, target)))

    def is_target(self, module: str, statement: Statement) -> bool:
        return isinstance(statement.node, Function) and Reference(module, statement.node.name) == self.function

    def ordered(self) -> list[tuple[str, Statement]]:
        """Those found, each with its module, in the order in which they run when the function's module is imported."""
        runs = self._find_runs()
        ordered = [(module, each) for module in self._chosen for each in self.chosen_of(module)]
        return sorted(ordered, key=lambda pair: _find_time(runs[pair[0]], pair[1]))

    def _find_runs(self) -> Runs:
        runs = self.modules.find_runs(self.function.module)
        for module in self._chosen:
            # What functions import when they are called.
            runs = self.modules.find_runs(module, runs)
        return runs

    def chosen_of(self, module: str) -> list[Statement]:
        chosen = self._chosen.get(module, ())
        statements = enumerate(self.modules.statements(module))
        return [each for position, each in statements if position in chosen or (chosen and each.is_future_import)]


def _find_time(parts: list[tuple[int, int]], statement: Statement) -> int:
    """When the part of its module runs that it is in."""
    return max(time for line, time in parts if line <= statement.node.lineno)
