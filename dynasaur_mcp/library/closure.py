"""A function, plus everything at module level it uses, as one self-contained file.

It comes from the steps of a session, or from a module and those beside it. A session is not a file: names are bound
again, and a constant may have been made from a value that has changed since, so that what is needed is chosen by the
moment at which it is. The statements found keep their order.

What another module gives is copied too, under its own name; where two modules have one name for different things, one
of these is renamed. What no text can follow is a problem, such as a module that is used as a whole.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping, Sequence

from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library.assembly import (
    ANY_PIECE,
    MODULE_PIECE,
    Piece,
    cut_examples,
    find_clashes,
    replace_imports,
    write_file,
)
from dynasaur_mcp.library.choosing import Choice
from dynasaur_mcp.library.guarded import lift
from dynasaur_mcp.library.modules import SESSION, Modules, Reference
from dynasaur_mcp.library.reading import require_readable
from dynasaur_mcp.library.renaming import UnsafeError, rename
from dynasaur_mcp.library.rules import MAX_SOURCE_BYTES, Function
from dynasaur_mcp.library.script import find_script
from dynasaur_mcp.library.statements import Statement, read_import
from dynasaur_mcp.library.symbols import Definition, Import, find_annotated, makes_changeable
from dynasaur_mcp.types import Problem


def extract_function(steps: Sequence[str], name: str) -> str:
    """The source of function `name` as the steps of a session left it.

    Raises:
        ActionInvalid: no step defines it, it depends on what no file can hold, or a step takes too long to read.
    """
    for step in steps:
        require_readable(step, "a step of it")
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
    modules = lift(modules, function)
    if problem := _find_missing(modules, function):
        raise ActionInvalid(headline, [problem])
    choice = Choice(modules, function)
    choice.choose()
    problems = choice.problems
    pieces: list[tuple[str, Piece]] = []
    if not problems:
        copy = _Copy(choice)
        problems = [problem for each in copy.statements for problem in copy.check(*each)]
        pieces = [] if problems else copy.write_all(problems)
    if problems:
        raise ActionInvalid(headline, list(dict.fromkeys(problems)))
    source = write_file(block, pieces)
    if (size := len(source.encode(errors="replace"))) > MAX_SOURCE_BYTES:
        what = f"with all that it uses it has {size / 1_000_000:.1f} MB, of {len(pieces):,} statements"
        raise ActionInvalid(headline, [Problem(f"{what}: an action has 1 MB at most.")])
    return source


def _find_missing(modules: Modules, function: Reference) -> Problem | None:
    statements = modules.statements(function.module)
    functions = {s.node.name: None for s in statements if isinstance(s.node, Function)}
    if function.name in functions:
        return None
    there = ", ".join(map(repr, functions)) or "none yet"
    bound = [statement.node for statement in statements if function.name in statement.binds]
    inside = [each for node in bound for each in ast.walk(node) if isinstance(each, Function)]
    if any(each.name == function.name for each in inside):
        return Problem(f"{function.name[:60]!r} is defined in a loop or the like. Define it at the top level.")
    what = "is no function made by `def`" if bound else "is not defined in it"
    return Problem(f"{function.name[:60]!r} {what}. Its functions: {there}.")


class _Copy:
    """The statements chosen, as they can stand in one file."""

    def __init__(self, choice: Choice) -> None:
        self.statements = choice.ordered()
        self._choice = choice
        self._modules = choice.modules
        self._names: dict[Reference, str] = {}
        """New names of what is called like something else in another module."""
        setting = [(module, each.node) for module, each in self.statements if "global" in each.text]
        nodes = [(module, inner) for module, node in setting for inner in ast.walk(node)]
        self._set = {
            Reference(module, name) for module, node in nodes if isinstance(node, ast.Global) for name in node.names
        }
        """What functions give another value."""

    def write_all(self, problems: list[Problem]) -> list[tuple[str, Piece]]:
        """What the file is to be made of, each with its module. Adds to `problems` what cannot be told apart."""
        pieces = self._write_all()
        words = {word for _, piece in pieces for word in re.findall(r"\w+", piece.text)}
        told: dict[str, Mapping[str, object]] = {}
        try:
            if taken := {**self._find_taken(), **self._find_hiding()}:
                told |= {name.name: {name.module: (), other.module: ()} for name, other in taken.items()}
                for name in taken:
                    self._give_name(name, words)
                pieces = self._write_all()
            # Once a name is another, what two modules said alike may not be the same any more.
            while clashes := dict(find_clashes(pieces)):
                told |= clashes
                self._tell_apart(clashes, words)
                pieces = self._write_all()
        except UnsafeError as error:
            modules = ", another in ".join(
                map(repr, sorted(told[error.name], key=lambda module: module != self._choice.function.module))
            )
            problems.append(Problem(f"{error.name!r} is one thing in {modules}, and cannot be renamed: {error}."))
        return pieces

    def _find_taken(self) -> dict[Reference, Reference]:
        """Names that keep the value which an import took, while functions give another where it is from, or here."""
        links = sorted(self._choice.links.items())
        return {name: made for name, made in links if name.name == made.name and {name, made} & self._set}

    def _find_hiding(self) -> dict[Reference, Reference]:
        """Names that are a builtin's, each with another module where the builtin is meant."""
        bound = {
            Reference(module, name) for module, each in self.statements for name in each.binds if _is_builtin(name)
        }
        used = {
            Reference(m, name) for m, each in self.statements for name in each.now | each.later if _is_builtin(name)
        }
        meant = sorted(used - bound - self._choice.links.keys())
        pairs = ((made, name) for made in sorted(bound) for name in meant if name.name == made.name)
        return {made: name for made, name in pairs if made not in self._choice.links}

    def _tell_apart(self, clashes: Mapping[str, Mapping[str, list[str]]], words: set[str]) -> None:
        """Give new names, none of which is among the `words`, where they are added."""
        own = self._choice.function.module
        for name, texts in clashes.items():
            kept = texts[own] if own in texts else next(iter(texts.values()))
            for module in (module for module in texts if texts[module] != kept):
                if name in self._names.values() or Reference(module, name) in self._names:
                    raise UnsafeError(name, "it is changed in several modules")
                self._give_name(Reference(module, name), words)

    def _give_name(self, name: Reference, words: set[str]) -> None:
        self._names[name] = _find_free(name.module, name.name, words)
        words.add(self._names[name])

    def _write_all(self) -> list[tuple[str, Piece]]:
        return [(module, piece) for module, statement in self.statements for piece in self._write(module, statement)]

    def check(self, module: str, statement: Statement) -> Iterator[Problem]:
        """What keeps it from being in a file of its own."""
        shown = statement.text.splitlines()[0][:80]
        if statement.awaits:
            yield Problem(f"it depends on `{shown}`, and a module cannot await. Await it in the function.")
        if statement.is_import:
            if self._modules.leads_inside(module, statement.node) and not self._modules.follow(module, statement.node):
                yield Problem(f"it depends on `{shown}`, which cannot be followed.")
            return
        for inside in self._choice.looked_at(module, statement):
            for node in inside.imports:
                if self._modules.leads_inside(module, node):
                    found = self._choice.follow_inner(module, node)
                    if not found or any(target in self._set and target.name == name for name, target in found):
                        yield Problem(f"it has `{ast.unparse(node)}` inside, which cannot be followed.")
            for name in sorted(inside.bare):
                target = self._choice.links.get(Reference(module, name))
                if target and not target.name:
                    yield Problem(f"it uses the module {name!r} as a whole.")
            for name, attribute in sorted(inside.attributes):
                target = self._choice.links.get(Reference(module, name))
                if target and not target.name and Reference(target.module, attribute) in self._set:
                    yield Problem(f"it uses {attribute!r} of the module {name!r}, which functions there change.")

    def _write(self, module: str, statement: Statement) -> Iterator[Piece]:
        """What stands for it in the file: itself, but for what it imports from another of the modules."""
        target = self._modules.follow(module, statement.node)
        if target is None:
            yield from self._write_plain(module, statement)
            return
        pairs = [(name, target) for name in sorted(statement.binds)]
        if statement.is_star_import:
            found = [Reference(target.module, name.name) for name in self._names if name.module == module]
            pairs = [
                (made.name, made) for made in found if self._choice.links.get(Reference(module, made.name)) == made
            ]
        is_last = not any(name in each.now for name, _ in pairs for each in self._choice.chosen_of(module))
        for name, made in pairs:
            if not made.name:
                yield MODULE_PIECE
            here, there = self._spell(Reference(module, name)), self._make(made)
            # Under its own name it is there already.
            if here != there:
                yield Piece(f"{here} = {there}", frozenset([here]), is_last=is_last and made not in self._set)

    def _make(self, target: Reference) -> str:
        """What another module gives, or the module itself with what is used of it."""
        if target.name:
            return self._spell(target)
        inner = {
            name: self._choice.find_inner(target.module, name) for name in sorted(self._choice.used[target.module])
        }
        made = (Reference(module) if module else Reference(target.module, name) for name, module in inner.items())
        return f"_Module({', '.join(f'{name}={self._make(each)}' for name, each in zip(inner, made, strict=True))})"

    def _spell(self, name: Reference) -> str:
        """What a name of a module is called in the file."""
        seen: set[Reference] = set()
        while name not in self._names and name not in seen:
            seen.add(name)
            target = self._choice.links.get(name)
            # Under another name it is a statement of its own.
            if not target or target.name != name.name:
                return name.name
            name = target
        return self._names.get(name, name.name)

    def _write_plain(self, module: str, statement: Statement) -> Iterator[Piece]:
        is_for_schemas = statement.for_types and bool(statement.binds & self._named_in_signature())
        if is_for_schemas and _is_stub(statement.node):
            yield ANY_PIECE
            yield Piece("".join(f"{name} = _Any" for name in statement.binds), statement.binds)
            return
        text, is_target = statement.text, self._choice.is_target(module, statement)
        if isinstance(statement.node, Definition) and not is_target:
            text = cut_examples(text)
        renamed = {name.name: self._spell(Reference(module, name.name)) for name in self._names}
        renamed = {old: new for old, new in renamed.items() if old != new}
        # Before its imports: what these give is local there.
        text = rename(text, renamed)
        inside = [each for inside in self._choice.looked_at(module, statement) for each in inside.imports]
        if inside:
            if any(not target.name for node in inside for _, target in self._choice.follow_inner(module, node)):
                yield MODULE_PIECE
            text = replace_imports(text, lambda node: self._write_inner(module, node), in_examples=is_target)
        if isinstance(statement.node, ast.ClassDef) and (new := renamed.get(statement.node.name)):
            # As what is shown of it, and of what it makes, says.
            text += f"\n\n\n{new}.__name__ = {new}.__qualname__ = {statement.node.name!r}"
        there = {target.name for target in self._choice.inner.get((module, True), ())}
        yield Piece(
            text,
            frozenset(renamed.get(name, name) for name in statement.binds - there),
            is_future_import=statement.is_future_import,
            is_import=statement.is_import,
            is_definition=isinstance(statement.node, Definition),
            may_not_bind=statement.may_not_bind,
            is_own=makes_changeable(statement.node)
            or any(Reference(module, name) in self._set for name in statement.binds),
            # What the function takes and gives must be known when it runs, too.
            for_types=statement.for_types and not is_for_schemas,
        )

    def _write_inner(self, module: str, node: Import) -> str | None:
        found = self._choice.follow_inner(module, node)
        if not found:
            return None
        others = (read_import(node, alias) for alias in node.names)
        kept = [each.text for each in others if not self._modules.leads_inside(module, each.node)]
        pairs = [(name, self._make(target)) for name, target in found]
        return "; ".join([*kept, *(f"{name} = {made}" for name, made in pairs if name != made)])

    def _named_in_signature(self) -> frozenset[str]:
        module, name = self._choice.function.module, self._choice.function.name
        nodes = [each.node for each in self._modules.statements(module) if name in each.binds]
        return frozenset(found for node in nodes if isinstance(node, Function) for found in find_annotated(node))


def _is_builtin(name: str) -> bool:
    return hasattr(builtins, name) and not name.startswith("__")


def _is_stub(node: ast.stmt) -> bool:
    """An import of what type checkers have, and nothing that runs."""
    return isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "_typeshed"


def _find_free(module: str, name: str, words: set[str]) -> str:
    new = f"_{module.rpartition('.')[2].strip('_')}_{name}"
    while new in words:
        new += "_"
    return new
