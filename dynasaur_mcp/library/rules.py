"""What an action must be. Each rule yields Problems; `reading` reports those of all rules together."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from dynasaur_mcp.hosts import read_host
from dynasaur_mcp.types import JSON, META_TOOLS, NAME_PATTERN, Problem

MAX_SOURCE_BYTES = 1_000_000
MAX_NAME_CHARACTERS = 40
MAX_TAGS = 20
MAX_TAG_CHARACTERS = 40
MAX_HOSTS = 20

Function = ast.FunctionDef | ast.AsyncFunctionDef

CODING_COOKIE = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")


def walk_own(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run with the statement: not what is inside of a function."""
    waiting: list[ast.AST] = [node]
    while waiting:
        each = waiting.pop()
        yield each
        if isinstance(each, Function):
            waiting += [*each.decorator_list, each.args]
        elif not isinstance(each, ast.Lambda):
            waiting += ast.iter_child_nodes(each)


def walk_statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements, at any depth: a small part of the nodes, which is what makes it fast."""
    waiting = deque([tree])
    while waiting:
        each = waiting.popleft()
        yield each
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            waiting += getattr(each, field, ())


def read_imports(tree: ast.Module) -> dict[str, str]:
    """Each name that an import binds, anywhere -> what it is, with its module: `sleep` -> `time.sleep`."""
    found: dict[str, str] = {}
    for node in walk_statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
            found |= {root: root for alias in node.names if not alias.asname for root in [alias.name.split(".")[0]]}
    return found


def find_dotted(node: ast.expr) -> str:
    """`a.b.c` as text; empty for anything else."""
    if isinstance(node, ast.Attribute):
        head = find_dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return node.id if isinstance(node, ast.Name) else ""


def check_size(characters: int) -> Iterator[Problem]:
    """A lower bound of the size in bytes, so that a huge text is refused before anything reads it."""
    if characters > MAX_SOURCE_BYTES:
        size = f"{characters / 1_000_000:.1f} MB"
        yield Problem(f"the source has {size}: 1 MB at most. Keep data in files and read them when called.")


def check_text(source: str) -> Iterator[Problem]:
    """It can be written to a file and read back by any Python."""
    if "\0" in source:
        line = source.count("\n", 0, source.index("\0")) + 1
        yield Problem("a NUL character. Remove it, or write it as `\\0`.", line)
    try:
        size = len(source.encode())
    except UnicodeEncodeError as error:
        line = source.count("\n", 0, error.start) + 1
        yield Problem("half of a surrogate pair, which no file can hold. Write it as an escape.", line)
    else:
        if size > MAX_SOURCE_BYTES:
            yield from check_size(size)
    for number, text in enumerate(source.split("\n", 2)[:2], 1):
        cookie = CODING_COOKIE.match(text)
        if cookie and cookie[1].lower().replace("_", "-") not in ("utf-8", "utf8"):
            yield Problem(f"it says that it is encoded as {cookie[1]}. Files are UTF-8: remove that line.", number)


def check_name(name: str, line: int | None = None) -> Iterator[Problem]:
    """It can be a tool's name in every client, a file's name, and no name that means something else."""
    shown = repr(name if len(name) <= 60 else name[:59] + "…")
    if not name:
        yield Problem("the name is empty. Give the function's name.", line)
    elif not name.isascii():
        yield Problem(f"the name {shown} is not ASCII. Use a-z, 0-9 and _ only.", line)
    elif len(name) > MAX_NAME_CHARACTERS:
        yield Problem(f"the name {shown} has {len(name)} characters: {MAX_NAME_CHARACTERS} at most. Shorten it.", line)
    elif not NAME_PATTERN.fullmatch(name):
        rule = "begins with a small letter and goes on with a-z, 0-9 and _"
        yield Problem(f"the name {shown} does not fit: a name {rule}. Rename the function{_propose_name(name)}.", line)
    elif name in META_TOOLS:
        yield Problem(f"{shown} is a tool of this server. Choose another name.", line)
    elif keyword.iskeyword(name):
        yield Problem(f"{shown} is a word of Python itself. Choose another name.", line)
    elif hasattr(builtins, name):
        yield Problem(f"{shown} is a builtin of Python and would hide it. Choose another name.", line)
    elif name.startswith("test_"):
        yield Problem(f"{shown} would be taken for a test. Choose a name that does not begin with test_.", line)
    elif name == "conftest":
        yield Problem(f"{shown} is a file of pytest. Choose another name.", line)


def _propose_name(name: str) -> str:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    proposal = re.sub(r"_+", "_", re.sub(r"[^a-z0-9]+", "_", snake)).strip("_")
    return f", for instance to {proposal!r}" if NAME_PATTERN.fullmatch(proposal) and proposal != name else ""


def check_signature(function: Function) -> Iterator[Problem]:
    """Every argument can be given by name, `*values` as a list, and has a type; so has what comes back."""
    arguments = function.args
    if named := arguments.kwarg:
        hint = "Name each parameter, or take one dict"
        yield Problem(f"**{named.arg} cannot be described to a caller. {hint}.", named.lineno)
    several = [arguments.vararg] if arguments.vararg else []
    for argument in (*arguments.posonlyargs, *arguments.args, *several, *arguments.kwonlyargs):
        if argument.annotation is None:
            what = f"parameter {argument.arg!r} of {function.name!r} has no type"
            yield Problem(f"{what}. Write one, such as `{argument.arg}: str`.", argument.lineno)
    if function.returns is None:
        what = f"{function.name!r} does not say what type it returns"
        yield Problem(f"{what}. Write one, such as `-> str`, or `-> None`.", function.lineno)


def check_docstring(function: Function) -> Iterator[Problem]:
    """Others can find it and know what it does."""
    docstring = ast.get_docstring(function)
    if not docstring or not docstring.strip():
        hint = "Say in a docstring what it does, what its parameters mean, and give an example with >>>"
        yield Problem(f"{function.name!r} has no docstring. {hint}.", function.lineno)
    elif docstring.lstrip().startswith(">>>"):
        line = function.body[0].lineno
        yield Problem(f"the docstring of {function.name!r} begins with an example. First say what it does.", line)


def check_imports(tree: ast.Module) -> Iterator[Problem]:
    """What it uses of the library can be told from its text, and means the same wherever it runs."""
    for node in walk_statements(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            yield Problem("a relative import. Write `from actions import …`.", node.lineno)
        elif node.module == "actions" and any(alias.name == "*" for alias in node.names):
            yield Problem("`from actions import *` hides what is used. Name the actions.", node.lineno)


def check_script(script: Mapping[str, JSON]) -> Iterator[tuple[str, str]]:
    """The PEP 723 block holds what we understand. Yields messages, each with the text that is to blame."""
    dependencies = script.get("dependencies", [])
    if not _is_texts(dependencies):
        yield '`dependencies` is no list of texts. Write it as `dependencies = ["pandas>=2"]`.', "dependencies"
    else:
        for text in dependencies:
            yield from ((message, text) for message in _check_requirement(text))
    python = script.get("requires-python", "")
    try:
        SpecifierSet(python if isinstance(python, str) else "?")
    except InvalidSpecifier:
        yield f'`requires-python` is {python!r}. Write it as `requires-python = ">=3.11"`.', "requires-python"
    tool = script.get("tool", {})
    extras = tool.get("dynasaur", {}) if isinstance(tool, dict) else None
    if not isinstance(extras, dict):
        yield "`tool.dynasaur` is no table. Write a line `# [tool.dynasaur]`.", "dynasaur"
    else:
        yield from ((message, "tags") for message in check_tags(extras.get("tags", [])))
        yield from _check_network(extras.get("network", []))


def _check_network(hosts: JSON) -> Iterator[tuple[str, str]]:
    if not _is_texts(hosts):
        yield '`network` is no list of texts. Write it as `network = ["api.example.org"]`.', "network"
        return
    if len(hosts) > MAX_HOSTS:
        yield f"{len(hosts)} hosts: {MAX_HOSTS} at most. Name a whole domain as *.example.org.", "network"
    for text in hosts:
        try:
            read_host(text)
        except ValueError as error:
            yield f"in `network`, {error}.", text or "network"


def _check_requirement(text: str) -> Iterator[str]:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        yield f"the dependency {text!r} cannot be read ({reason}). Write it like `pandas>=2,<3`."
    else:
        # A link could point into this machine or its network, and an installer runs outside of any sandbox.
        if requirement.url:
            yield f"the dependency {text!r} is a link. Name a package of the index and its version."


def check_tags(tags: JSON) -> Iterator[str]:
    if not _is_texts(tags):
        yield '`tags` is no list of texts. Write it as `tags = ["table"]`.'
        return
    if len(tags) > MAX_TAGS:
        yield f"{len(tags)} tags: {MAX_TAGS} at most. Keep those that help to find it."
    for tag in tags:
        if not tag.strip() or not tag.isprintable() or len(tag) > MAX_TAG_CHARACTERS:
            yield f"the tag {tag[:60]!r} does not fit: 1 to {MAX_TAG_CHARACTERS} printable characters."


def _is_texts(value: JSON) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(item, str) for item in value)
