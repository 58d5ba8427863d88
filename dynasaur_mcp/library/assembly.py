"""Statements put together to a file, and what is changed in them on the way."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from dynasaur_mcp.library.reading import parsing
from dynasaur_mcp.library.rules import Function
from dynasaur_mcp.library.symbols import Definition, Import

Edit = tuple[ast.stmt | ast.expr | ast.alias, Callable[[str], str]]
"""A node, and what makes its new source of the old."""

_EXAMPLE_IMPORT = re.compile(r"(?m)^([ \t]*>>> )((?:from [\w.]+ )?import [\w., ]+)\n")
_QUOTE = re.compile(r"[rRuUbB]*(\"\"\"|'''|[\"'])")
_HEADING = re.compile(r"(?i)\n[ \t]*(?:doctests?|(?:for )?examples?)[ \t]*:*[ \t]*(?:\n[ \t]*[-=~]+)?$")


@dataclass(frozen=True, slots=True)
class Piece:
    """A statement of the file to be."""

    text: str
    binds: frozenset[str]
    is_future_import: bool = False
    is_import: bool = False
    is_definition: bool = False
    may_not_bind: bool = False
    is_own: bool = False
    """Its module alone has what it makes, though another makes the like: it may change."""
    for_types: bool = False
    is_last: bool = False


ANY_PIECE = Piece("from typing import Any as _Any", frozenset({"_Any"}), is_import=True)
MODULE_PIECE = Piece("from types import SimpleNamespace as _Module", frozenset({"_Module"}), is_import=True)


Pieces = Sequence[tuple[str, Piece]]
"""Each with the module that it is from."""


def find_clashes(pieces: Pieces) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Names that several modules use for different things, each with what makes it in these modules."""
    made: dict[str, dict[str, list[str]]] = {}
    for module, piece in pieces:
        for name in piece.binds:
            is_dotted = piece.is_import and piece.may_not_bind
            text = f"import {name}" if is_dotted else f"{piece.text} # {module}" if piece.is_own else piece.text
            texts = made.setdefault(name, {}).setdefault(module, [])
            texts += [] if text in texts else [text]
    for name, by_module in made.items():
        if len(set(map(tuple, by_module.values()))) > 1:
            yield name, by_module


def write_file(block: str, pieces: Pieces) -> str:
    """The block, then imports that mean the same everywhere, then the rest in its order."""
    texts: dict[str, set[str]] = {}
    for _, piece in pieces:
        for bound in piece.binds:
            texts.setdefault(bound, set()).add("" if piece.may_not_bind else piece.text)
    top = dict.fromkeys(piece.text for _, piece in pieces if piece.is_future_import)
    types: dict[str, None] = {}
    rest: list[Piece] = []
    last: dict[str, Piece] = {}
    first_in: dict[str, str] = {}
    for module, piece in pieces:
        if piece.for_types:
            types[piece.text] = None
        elif piece.is_import and all(len(texts[bound]) == 1 for bound in piece.binds):
            top[piece.text] = None
        elif piece.is_last:
            last[piece.text] = piece
        # What two modules say alike of their own names is said once; one may say it twice, and mean it.
        elif not piece.is_future_import and (not piece.binds or first_in.setdefault(piece.text, module) == module):
            rest.append(piece)
    if types:
        top["from typing import TYPE_CHECKING"] = None
        guarded = "\n".join(["if TYPE_CHECKING:", *(textwrap.indent(text, "    ") for text in types)])
        rest.insert(0, Piece(guarded, frozenset()))
    text = "\n".join([*([block] if block else []), *(["\n".join(top)] if top else [])])
    rest += last.values()
    for before, piece in zip([None, *rest], rest, strict=False):
        is_wide = piece.is_definition or (before and before.is_definition)
        text += ("\n\n\n" if is_wide else "\n\n" if before is None else "\n") if text else ""
        text += piece.text
    return text.strip("\n") + "\n"


@lru_cache(maxsize=4096)
def cut_examples(text: str) -> str:
    """A definition without the examples in its docstrings: they are no tests of the function that it supports."""
    return edit(text, _find_examples)


def replace_imports(text: str, write: Callable[[Import], str | None], *, in_examples: bool = False) -> str:
    """A statement with other code for imports inside of it.

    Args:
        write: What stands for an import, which may be nothing; None to leave it.
        in_examples: Those in the examples of its docstring too.
    """

    def find(tree: ast.Module) -> Iterator[Edit]:
        for node in ast.walk(tree):
            if isinstance(node, Import) and (new := write(node)) is not None:
                yield node, partial(_replace, new or "pass")
        function = tree.body[0]
        if in_examples and isinstance(function, Function) and (docstring := _docstring_of(function)):
            yield docstring, lambda literal: _EXAMPLE_IMPORT.sub(change_example, literal)

    def change_example(line: re.Match[str]) -> str:
        try:
            node = ast.parse(line[2]).body[0]
        except SyntaxError:
            return line[0]
        new = write(node) if isinstance(node, Import) else None
        return line[0] if new is None else f"{line[1]}{new}\n" if new else ""

    return edit(text, find)


def _replace(new: str, _old: str) -> str:
    return new


def _find_examples(tree: ast.Module) -> Iterator[Edit]:
    for node in ast.walk(tree):
        if isinstance(node, Definition) and (docstring := _docstring_of(node)):
            yield docstring, _cut_at_example


def _cut_at_example(literal: str) -> str:
    quote = _QUOTE.match(literal)
    before, found, _ = literal.partition(">>>")
    if not quote or not found:
        return literal
    kept = _HEADING.sub("", before.rstrip()).rstrip()
    return kept + ("\n" if "\n" in kept or kept[-1] == "\\" else "") + quote[1]


def _docstring_of(node: Definition) -> ast.Constant | None:
    for first in node.body[:1]:
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            return first.value
    return None


def edit(text: str, find: Callable[[ast.Module], Iterator[Edit]]) -> str:
    """The text with the source of some nodes changed; as it was if it would be no Python then."""
    with parsing():
        tree = ast.parse(text)
    starts = [0]
    for line in text.encode().split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    data = text.encode()
    edits = [
        (
            starts[node.lineno - 1] + node.col_offset,
            starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0),
            change,
        )
        for node, change in find(tree)
    ]
    for start, end, change in sorted(edits, key=lambda edit: edit[0], reverse=True):
        data = data[:start] + change(data[start:end].decode()).encode() + data[end:]
    edited = data.decode()
    try:
        with parsing():
            ast.parse(edited)
    except SyntaxError:
        return text
    return edited
