"""What a docstring says of parameters and of what comes back: in Google, NumPy or Sphinx style."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import griffe

RETURNS = "return"
"""Stands for what comes back, as in `__annotations__`."""

_WORDS = {
    "array": "list",
    "boolean": "bool",
    "callable": "Callable",
    "dictionary": "dict",
    "function": "Callable",
    "integer": "int",
    "iterable": "Iterable",
    "iterator": "Iterator",
    "mapping": "Mapping",
    "sequence": "Sequence",
    "string": "str",
    "List": "list",
    "Dict": "dict",
    "Set": "set",
    "FrozenSet": "frozenset",
    "Tuple": "tuple",
}
_BUILTINS = frozenset(
    {"bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "None", "set", "str", "tuple"}
)
IMPORTS = {
    "Any": "typing",
    "Optional": "typing",
    "Union": "typing",
    "Callable": "collections.abc",
    "Iterable": "collections.abc",
    "Iterator": "collections.abc",
    "Mapping": "collections.abc",
    "Sequence": "collections.abc",
}
"""Names in types that are proposed, each with the module that has it."""


def describe_parameters(docstring: str) -> dict[str, str]:
    """What each parameter means, in one line."""
    return {each.name.lstrip("*"): " ".join(each.description.split()) for each in _find_parameters(_parse(docstring))}


def read_types(docstring: str) -> dict[str, str]:
    """The types of parameters, and of RETURNS, as source text: those that any Python can evaluate."""
    import griffe

    sections = _parse(docstring)
    said = [(each.name.lstrip("*"), each.annotation) for each in _find_parameters(sections)]
    for section in sections:
        if isinstance(section, griffe.DocstringSectionReturns) and len(section.value) == 1:
            said.append((RETURNS, section.value[0].annotation))
    return {name: kind for name, text in said if text and (kind := read_type(str(text)))}


def read_type(text: str) -> str:
    """A type as people write it, as Python does; empty where it cannot be told.

    >>> read_type("list of string or integer, optional")
    'list[str] | int'
    """
    text = re.sub(r",?\s*\(?\boptional\b\)?|,?\s*\bdefaults?\b.*", "", text).strip(" ,.`").replace("`", "")
    if match := re.fullmatch(r"(?i)(list|set|sequence|iterable|iterator|tuple)s? of (\w+)", text):
        return _compose(match[1].lower(), match[2])
    if re.search(r"\s(or|\|)\s", text) and "[" not in text:
        kinds = [read_type(part) for part in re.split(r",\s*(?:or\s+)?|\s+(?:or|\|)\s+", text)]
        return " | ".join(dict.fromkeys(kinds)) if all(kinds) else ""
    text = re.sub(r"\w+", lambda word: _WORDS.get(word[0], word[0]), text)
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    if isinstance(tree.body, ast.Tuple):
        return ""  # behind a parameter it would be one more
    nodes = list(ast.walk(tree))
    names = {each.id for each in nodes if isinstance(each, ast.Name)}
    plain = ast.Expression | ast.Name | ast.Load | ast.Subscript | ast.Tuple | ast.List | ast.BinOp | ast.BitOr
    is_constant = (isinstance(each, ast.Constant) and each.value in (None, ...) for each in nodes)
    if not all(isinstance(each, plain) or constant for each, constant in zip(nodes, is_constant, strict=True)):
        return ""
    return text if names <= _BUILTINS | IMPORTS.keys() else ""


def _compose(outer: str, inner: str) -> str:
    kind = read_type(inner) or read_type(inner.removesuffix("s"))
    return f"{_WORDS.get(outer, outer)}[{kind}{', ...' if outer == 'tuple' else ''}]" if kind else ""


def _find_parameters(sections: list[griffe.DocstringSection]) -> list[griffe.DocstringParameter]:
    import griffe

    wanted = (griffe.DocstringSectionParameters, griffe.DocstringSectionOtherParameters)
    return [each for section in sections if isinstance(section, wanted) for each in section.value]


def _parse(docstring: str) -> list[griffe.DocstringSection]:
    # Imported here: it takes 130 ms, and only a definition needs it.
    import griffe

    quiet: griffe.PerStyleOptions = {
        "google": {"warnings": False, "returns_named_value": False},
        "numpy": {"warnings": False},
        "sphinx": {"warnings": False},
    }
    try:
        return griffe.parse_auto(griffe.Docstring(docstring), method="max_sections", per_style_options=quiet)
    except (RecursionError, MemoryError):  # of types nested without end
        return []
