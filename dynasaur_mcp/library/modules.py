"""Python modules that import each other, as texts; what is asked for is read, once, and never run."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dynasaur_mcp.library.statements import Statement, read_module, read_steps

SESSION = ""
"""The module that the steps of a session are."""


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """Something in one of the modules; the module itself where `name` is empty."""

    module: str
    name: str = ""


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

    @classmethod
    def of_session(cls, steps: Sequence[str]) -> Modules:
        modules = cls({SESSION: lambda: "\n".join(steps)})
        modules._read[SESSION] = read_steps(steps)
        return modules

    def replacing(self, module: str, statements: list[Statement]) -> Modules:
        """The same modules, with other statements in one of them."""
        other = Modules(self._texts, self._packages)
        other._read = {**self._read, module: statements}
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
        for position in reversed(self._positions(module).get("*", ())):
            star = self.follow(module, self.statements(module)[position].node) if position < moment else None
            if star and self._offers(star.module, name):
                target = Reference(star.module, name)
                self._bound.setdefault(Reference(module, name), False)  # two that import all of each other
                if self.binds(target):
                    return position, target
        return None

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
