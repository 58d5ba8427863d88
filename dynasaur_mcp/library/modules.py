"""Python modules that import each other, as texts; what is asked for is read, once, and never run."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dynasaur_mcp.library.outline import Outline, read_outline
from dynasaur_mcp.library.statements import Statement, find_changes, list_called, read_module, read_steps
from dynasaur_mcp.library.symbols import Definition, Import, look_inside

SESSION = ""
"""The module that the steps of a session are."""


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """Something in one of the modules; the module itself where `name` is empty."""

    module: str
    name: str = ""


Runs = dict[str, list[tuple[int, int]]]
"""By module the first line of each part of it that runs in one go, and when that is."""


class Modules:
    """The code that a function may come from. What is in none of these modules is imported from elsewhere."""

    def __init__(self, texts: Mapping[str, Callable[[], str]], packages: frozenset[str] = frozenset()) -> None:
        """
        Args:
            texts: Dotted name -> what reads it.
            packages: Those of them that are a package's `__init__`.
        """
        self._texts = texts
        self._packages = packages
        self._read: dict[str, list[Statement]] = {}
        self._bound: dict[Reference, bool] = {}
        self._bindings: dict[str, dict[str, list[int]]] = {}
        self._outlines: dict[str, Outline] = {}
        self._mentions: dict[str, set[str]] = {}
        self._runs: dict[str, Runs] = {}
        self._changes: dict[str, dict[Reference, list[int]]] = {}
        self._done: dict[str, Mapping[str, frozenset[str]]] = {}

    @classmethod
    def of_session(cls, steps: Sequence[str]) -> Modules:
        modules = cls({SESSION: lambda: "\n".join(steps)})
        modules._read[SESSION] = read_steps(steps)
        return modules

    def replacing(self, module: str, statements: list[Statement]) -> Modules:
        """The same modules, with other statements in one of them."""
        other = Modules(self._texts, self._packages)
        other._read = {**self._read, module: statements}
        other._outlines = self._outlines
        other._mentions = self._mentions
        other._runs = self._runs
        return other

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __contains__(self, module: str) -> bool:
        return module in self._texts

    def text(self, module: str) -> str:
        return self._texts[module]()

    def statements(self, module: str) -> list[Statement]:
        if module not in self._read:
            self._read[module] = read_module(self.text(module))
        return self._read[module]

    def outline(self, module: str) -> Outline:
        if module not in self._outlines:
            self._outlines[module] = read_outline(self.text(module))
            for word in self._outlines[module].words:
                self._mentions.setdefault(word, set()).add(module)
        return self._outlines[module]

    def find_runs(self, module: str, before: Runs | None = None) -> Runs:
        """What runs when a module is imported, after what has run before."""
        if before is None and module in self._runs:
            return self._runs[module]
        package = module.rpartition(".")[0]
        runs = before if before is not None else self.find_runs(package) if package and package in self else {}
        if module not in runs:
            runs = {**runs}
            self._run(module, runs, itertools.count(sum(map(len, runs.values()))))
        if before is None:
            self._runs[module] = runs
        return runs

    def _run(self, module: str, runs: Runs, clock: Iterator[int]) -> None:
        package = module.rpartition(".")[0]
        if package and package in self:
            self._run(package, runs, clock)
        if module in runs:
            return
        parts = runs[module] = [(0, next(clock))]
        for line, node in self.outline(module).imports:
            before = len(runs)
            for other in self._list_loaded(module, node):
                self._run(other, runs, clock)
            if len(runs) > before:
                parts.append((line, next(clock)))

    def _list_loaded(self, module: str, node: Import) -> Iterator[str]:
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            base = self._resolve(module, node)
            names = [base, *(f"{base}.{name}".strip(".") for name in names)]
        yield from filter(None, (self._find(module, name) for name in names))

    def find_changing(self, changed: Reference, runs: Runs) -> Iterator[tuple[str, int]]:
        """Statements of other modules that change something when they run, by module and position."""
        done = self._read_done(changed.module)
        words = {changed.name, *(name for name, changes in done.items() if changed.name in changes)}
        found = {module for word in words for module in self._mentions.get(word, ())}
        for module in sorted(found & runs.keys()):
            yield from ((module, position) for position in self._list_changes(module).get(changed, ()))

    def _list_changes(self, module: str) -> Mapping[Reference, Sequence[int]]:
        if module not in self._changes:
            changes = self._changes[module] = {}
            for position, statement in enumerate(self.statements(module)):
                for changed in self._find_changed(module, statement):
                    changes.setdefault(changed, []).append(position)
        return self._changes[module]

    def _find_changed(self, module: str, statement: Statement) -> frozenset[Reference]:
        if statement.is_import:
            return frozenset()
        node, found = statement.node, set[Reference]()
        inside = look_inside(node.decorator_list) if isinstance(node, Definition) else statement.inside
        for name in statement.touches:
            target = self.trace(Reference(module, name))
            dotted = [f"{base}.{attribute}" for base, attribute in inside.attributes if base.split(".")[0] == name]
            found |= {target} if target.name else {self._trace_dotted(module, each) for each in dotted}
        for called in list_called(node):
            found |= self._find_done(self._trace_dotted(module, called))
        return frozenset(each for each in found if each.name and each.module != module)

    def _find_done(self, called: Reference) -> frozenset[Reference]:
        """What a function changes, or a class that another one is derived from."""
        done = self._read_done(called.module)
        return frozenset(Reference(called.module, name) for name in done.get(called.name, ()))

    def _read_done(self, module: str) -> Mapping[str, frozenset[str]]:
        if module not in self._done:
            changes = find_changes(self.statements(module))
            self._done[module] = {name: sets | touches for name, (sets, touches) in changes.items()}
        return self._done[module]

    def find_binding(self, module: str, name: str, moment: int) -> list[int]:
        """Positions of the statements that made `name` what it was at that moment, last first."""
        statements = self.statements(module)
        found = []
        for position in reversed(self._positions(module).get(name, ())):
            statement = statements[position]
            if position >= moment:
                continue
            found.append(position)
            if name in statement.binds and name not in statement.touches and not statement.may_not_bind:
                break
        is_bound = any(name in statements[position].binds for position in found)
        return found if is_bound else []

    def _positions(self, module: str) -> dict[str, list[int]]:
        if module not in self._bindings:
            positions = self._bindings[module] = {}
            for position, statement in enumerate(self.statements(module)):
                for name in {"*"} if statement.is_star_import else statement.binds | statement.touches:
                    positions.setdefault(name, []).append(position)
        return self._bindings[module]

    def find_star(self, module: str, name: str, moment: int) -> tuple[int, Reference] | None:
        """The `from … import *` before that moment that gives the name, and from which of the modules."""
        here = Reference(module, name)
        is_asked = here in self._bound
        self._bound.setdefault(here, False)  # two that import all of each other
        try:
            for position in reversed(self._positions(module).get("*", ())):
                star = self.follow(module, self.statements(module)[position].node) if position < moment else None
                if star and self._offers(star.module, name) and self.binds(Reference(star.module, name)):
                    return position, Reference(star.module, name)
            return None
        finally:
            if not is_asked:
                del self._bound[here]

    def _offers(self, module: str, name: str) -> bool:
        """Whether `import *` gives the name, if the module has it: by its `__all__`, as far as that is a plain list."""
        positions = self._positions(module).get("__all__", ())
        nodes = [each for position in positions for each in ast.walk(self.statements(module)[position].node)]
        if any(isinstance(each, ast.Name) and each.id != "__all__" for each in nodes):
            return True
        offered = {each.value for each in nodes if isinstance(each, ast.Constant)}
        return name in offered if nodes else not name.startswith("_")

    def binds(self, target: Reference) -> bool:
        """Whether the module has something of that name in the end."""
        if target not in self._bound:
            end = len(self.statements(target.module))
            found = self.find_binding(target.module, target.name, end)
            self._bound[target] = bool(found) or bool(self.find_star(target.module, target.name, end))
        return self._bound[target]

    def follow(self, module: str, node: ast.AST) -> Reference | None:
        """What an import of one name leads to in these modules; None where it leads out of them."""
        if isinstance(node, ast.Import):
            alias = node.names[0]
            target = self._find(module, alias.name if alias.asname else alias.name.partition(".")[0])
            return Reference(target) if target else None
        if not isinstance(node, ast.ImportFrom):
            return None
        base, name = self._resolve(module, node), node.names[0].name
        if name == "*":
            found = self._find(module, base)
            return Reference(found, name) if found else None
        inner = self._find(module, f"{base}.{name}".strip("."))
        found = self._find(module, base)
        if inner and (found == module or not (found and self.binds_other(Reference(found, name), inner))):
            return Reference(inner)
        return Reference(found, name) if found else None

    def binds_other(self, target: Reference, inner: str) -> bool:
        """Whether a package has something else under the name of a module in it."""
        statements = self.statements(target.module)
        found = self.find_binding(target.module, target.name, len(statements))
        made = [statements[position] for position in found if target.name in statements[position].binds]
        if made and all(self.follow(target.module, each.node) == Reference(inner) for each in made):
            return False
        return self.binds(target)

    def trace(self, name: Reference) -> Reference:
        """What the name leads to, through all the imports of these modules."""
        seen: set[Reference] = set()
        while name.name and name not in seen:
            seen.add(name)
            statements = self.statements(name.module)
            made = self.find_binding(name.module, name.name, len(statements))
            nodes = [statements[position].node for position in made if name.name in statements[position].binds]
            found = [target for node in nodes if (target := self.follow(name.module, node))]
            star = None if made else self.find_star(name.module, name.name, len(statements))
            name = found[0] if found else star[1] if star else name
        return name

    def _trace_dotted(self, module: str, dotted: str) -> Reference:
        """What `a.b.c` leads to, as far as these are modules."""
        first, *rest = dotted.split(".")
        target = self.trace(Reference(module, first))
        for attribute in rest:
            if target.name:
                break
            inner = f"{target.module}.{attribute}"
            is_module = inner in self and not self.binds_other(Reference(target.module, attribute), inner)
            target = Reference(inner) if is_module else self.trace(Reference(target.module, attribute))
        return target

    def spell_import(self, module: str, node: ast.AST) -> str:
        """An import as it can stand anywhere."""
        if isinstance(node, ast.ImportFrom) and node.level:
            return ast.unparse(ast.ImportFrom(module=self._resolve(module, node), names=node.names, level=0))
        return ast.unparse(node)

    def leads_inside(self, module: str, node: ast.AST) -> bool:
        """Whether it is an import, of any form, of one of these modules, or relative to one."""
        if isinstance(node, ast.ImportFrom):
            return bool(node.level) or bool(self._find(module, self._resolve(module, node).partition(".")[0]))
        names = node.names if isinstance(node, ast.Import) else []
        return any(self._find(module, alias.name.partition(".")[0]) for alias in names)

    def _resolve(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = module.split(".")
        parts = parts[: len(parts) - node.level + (module in self._packages)]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def _find(self, module: str, name: str) -> str:
        """The full name of a module as another one imports it; a script's neighbours need no package."""
        parent = module.rpartition(".")[0]
        beside = f"{parent}.{name}"
        if name and name not in self._texts and parent not in self._packages and beside in self._texts:
            return beside
        return name if name and name in self._texts else ""
