"""Change one member in JSON text, with comments or without, and leave every other character as it is.

Editors' settings have comments and trailing commas, and an order that their owner chose. Parsing and writing anew would
lose all that, so a change is an edit of the text: the parser only finds out where things stand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_BLANK = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRINGS = json.JSONDecoder()
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]{0,3999})(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands."""

    start: int
    end: int
    value: Any
    members: tuple[Member, ...] = ()

    def find(self, name: str) -> Member | None:
        return next((member for member in reversed(self.members) if member.name == name), None)


@dataclass(frozen=True, slots=True)
class Member:
    """A name with its value; the comma behind it, if it has one."""

    name: str
    start: int
    node: Node
    comma: int | None


class JsonError(ValueError):
    """The text is no JSON, or not what is to be changed."""


def read(text: str) -> Any:
    """The value.

    Raises:
        JsonError: with the line of what is wrong.
    """
    return _parse(text).value


def find_member(text: str, path: Sequence[str]) -> Any:
    """The value at `path`; None where there is none.

    Raises:
        JsonError: no JSON.
    """
    found = read(text)
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def set_member(text: str, path: Sequence[str], value: Any) -> str:
    """The text with `value` at `path`, objects on the way made where there are none. Nothing else changes.

    Raises:
        JsonError: no JSON, or something on the way is no object.
    """
    node = _find_object(text, _parse(text), ())
    for depth, name in enumerate(path):
        member = node.find(name)
        if member is None:
            for inner in reversed(path[depth + 1 :]):
                value = {inner: value}
            return _insert(text, node, name, value)
        if depth == len(path) - 1:
            if member.node.value == value:
                return text
            rendered = _dump(value, _indent(text, member.start), text)
            return text[: member.node.start] + rendered + text[member.node.end :]
        node = _find_object(text, member.node, path[: depth + 1])
    raise ValueError("an empty path")


def remove_member(text: str, path: Sequence[str]) -> str:
    """The text without what is at `path`, and without the object that held it when that is left empty.

    Raises:
        JsonError: no JSON, or something on the way is no object.
    """
    root = node = _find_object(text, _parse(text), ())
    for depth, name in enumerate(path):
        member = node.find(name)
        if member is None:
            return text
        if depth == len(path) - 1:
            left = _delete(text, node, member)
            is_emptied = node is not root and left[node.start + 1 :].lstrip().startswith("}")
            return remove_member(left, path[:-1]) if is_emptied else left
        node = _find_object(text, member.node, path[: depth + 1])
    return text


def _find_object(text: str, node: Node, path: Sequence[str]) -> Node:
    if not isinstance(node.value, dict):
        where = f"{'.'.join(path)!r} in line {_line(text, node.start)}" if path else "it"
        raise JsonError(f"{where} is no object")
    return node


def _insert(text: str, node: Node, name: str, value: Any) -> str:
    """As the last member, on a line of its own, behind the comments that follow the one before."""
    newline = "\r\n" if "\r\n" in text else "\n"
    body = text[: node.end - 1].rstrip()
    last = node.members[-1] if node.members else None
    if last and text[: last.start].rstrip(" \t").endswith("\n"):
        indent = _indent(text, last.start)
    else:
        indent = _indent(text, node.start) + _unit(text)
    rendered = f"{newline}{indent}{json.dumps(name)}: {_dump(value, indent, text)}"
    if last and last.comma is not None:
        rendered += ","
    between = text[len(body) : node.end - 1]
    behind = between if "\n" in between else newline + _indent(text, node.start)
    if last and last.comma is None:
        body = body[: last.node.end] + "," + body[last.node.end :]
    return body + rendered + behind + text[node.end - 1 :]


def _delete(text: str, node: Node, member: Member) -> str:
    before = text[: member.start].rstrip()
    if member.comma is not None:
        return before + text[member.comma + 1 :]
    if number := node.members.index(member):
        comma = node.members[number - 1].comma
        before = before[:comma] + before[comma + 1 :] if comma is not None else before
    return before + text[member.node.end :]


def _dump(value: Any, indent: str, text: str) -> str:
    lines = json.dumps(value, indent=_unit(text), ensure_ascii=False).split("\n")
    return ("\r\n" if "\r\n" in text else "\n").join([lines[0], *(indent + line for line in lines[1:])])


def _indent(text: str, position: int) -> str:
    """Of the line that `position` is in."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str) -> str:
    """What one level is indented by: as the first indented line is."""
    found = re.search(r"^([ \t]+)[^\s*]", text, re.MULTILINE)
    return found[1] if found else "  "


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _parse(text: str) -> Node:
    try:
        start = _skip(text, 1 if text.startswith("\ufeff") else 0)
        node = _value(text, start)
        if (end := _skip(text, node.end)) != len(text):
            raise JsonError(f"line {_line(text, end)}: something follows the end")
    except RecursionError:
        raise JsonError("it is nested too deeply") from None
    return node


def _skip(text: str, position: int) -> int:
    found = _BLANK.match(text, position)
    return found.end() if found else position


def _value(text: str, start: int) -> Node:
    match text[start : start + 1]:
        case '"':
            value, end = _string(text, start)
            return Node(start, end, value)
        case "{":
            return _object(text, start)
        case "[":
            return _array(text, start)
    found = _SCALAR.match(text, start)
    if not found:
        raise JsonError(f"line {_line(text, start)}: expected a value")
    return Node(start, found.end(), json.loads(found[0]))


def _object(text: str, start: int) -> Node:
    members: list[Member] = []
    at = _skip(text, start + 1)
    while text[at : at + 1] != "}":
        name, end = _string(text, at)
        colon = _skip(text, end)
        if text[colon : colon + 1] != ":":
            raise JsonError(f"line {_line(text, colon)}: expected a colon after {name!r}")
        node = _value(text, _skip(text, colon + 1))
        comma, behind = _end_item(text, node.end, "}")
        members.append(Member(name, at, node, comma))
        at = behind
    return Node(start, at + 1, {member.name: member.node.value for member in members}, tuple(members))


def _array(text: str, start: int) -> Node:
    items = []
    at = _skip(text, start + 1)
    while text[at : at + 1] != "]":
        node = _value(text, at)
        items.append(node.value)
        _, at = _end_item(text, node.end, "]")
    return Node(start, at + 1, items)


def _end_item(text: str, end: int, closing: str) -> tuple[int | None, int]:
    """The comma behind an item, if there is one, and where to go on."""
    at = _skip(text, end)
    if text[at : at + 1] == ",":
        return at, _skip(text, at + 1)
    if text[at : at + 1] != closing:
        raise JsonError(f"line {_line(text, at)}: expected a comma or {closing}")
    return None, at


def _string(text: str, start: int) -> tuple[str, int]:
    if text[start : start + 1] != '"':
        raise JsonError(f"line {_line(text, start)}: expected a name in double quotes")
    try:
        value, end = _STRINGS.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise JsonError(f"line {error.lineno}: {error.msg}") from None
    return str(value), end
