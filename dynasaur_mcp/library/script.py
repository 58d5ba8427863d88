"""The PEP 723 block of an action file: what it says, and writing tags into it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.hosts import read_host
from dynasaur_mcp.library import rules
from dynasaur_mcp.types import JSON, Problem

MAX_BLOCK_CHARACTERS = 10_000
"""What its reader takes grows with the square of a key's parts: for 200 KB of `a.a.a…` it took all memory there was."""
_SCRIPT_BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(?:^#(?:| .*)$\s)+?)^# ///$")
_SCRIPT_START = re.compile(r"(?m)^# /// script[ \t]*$")


@dataclass(frozen=True, slots=True)
class Script:
    """A file's PEP 723 block."""

    requirements: tuple[str, ...] = ()
    tags: tuple[str, ...] | None = None
    """None where it says nothing of tags; an empty list says that there are none."""
    network: tuple[str, ...] = ()
    """Hosts, in the normal form of `hosts`."""
    problems: tuple[Problem, ...] = ()


def read_script(source: str) -> Script:
    """What a file's PEP 723 block says, or which problems it has."""
    text = source.replace("\r\n", "\n")
    starts = [text.count("\n", 0, start.start()) + 1 for start in islice(_SCRIPT_START.finditer(text), 2)]
    if not starts:
        return Script()
    if len(starts) > 1:
        return Script(problems=(Problem("a second `# /// script` block. Keep one.", starts[1]),))
    block = _find_block(text)
    if block is None:
        hint = "Begin each of its lines with `# ` and end it with a line `# ///`"
        return Script(problems=(Problem(f"the `# /// script` block is broken. {hint}.", starts[0]),))
    if (size := len(block["content"])) > MAX_BLOCK_CHARACTERS:
        long = f"the `# /// script` block has {size:,} characters: {MAX_BLOCK_CHARACTERS:,} at most. Shorten it."
        return Script(problems=(Problem(long, starts[0]),))
    lines = [line.removeprefix("#").removeprefix(" ") for line in block["content"].splitlines()]
    try:
        script = tomllib.loads("\n".join(lines) + "\n")
    except (ValueError, RecursionError) as error:  # also numbers too long, and lists nested too deep, for Python
        found = re.search(r"\(at line (\d+)", str(error))
        line = starts[0] + (int(found[1]) if found else 0)
        return Script(problems=(Problem(f"the `# /// script` block is no TOML: {error}. Correct it.", line),))
    problems = tuple(
        Problem(message, next((starts[0] + n for n, line in enumerate(lines, 1) if blamed in line), starts[0]))
        for message, blamed in rules.check_script(script)
    )
    if problems:
        return Script(problems=problems)
    extras = script.get("tool", {}).get("dynasaur", {})
    requirements = tuple(dict.fromkeys(text.strip() for text in script.get("dependencies", [])))
    tags = tuple(dict.fromkeys(tag.strip() for tag in extras["tags"])) if "tags" in extras else None
    network = tuple(dict.fromkeys(str(read_host(host)) for host in extras.get("network", [])))
    return Script(requirements, tags, network)


def read_step(code: str) -> tuple[str, ...]:
    """The requirements of the PEP 723 block that code begins with; none without one.

    Raises:
        ActionInvalid: the block is broken.
    """
    text = code.replace("\r\n", "\n").lstrip()
    if not _SCRIPT_START.match(text):
        return ()
    # The block alone: further on there may be others, in the source of an action that the code has as a text.
    block = _SCRIPT_BLOCK.match(text)
    script = read_script(f"{block[0]}\n" if block else text)
    if script.problems:
        raise ActionInvalid("The code was not run:", script.problems)
    return script.requirements


def find_script(source: str) -> str:
    """The text of a file's PEP 723 block; empty without one."""
    block = _find_block(source.replace("\r\n", "\n"))
    return block[0] if block else ""


def _find_block(text: str) -> re.Match[str] | None:
    """From the first start alone: each start that no end follows is read to the end of the text."""
    start = _SCRIPT_START.search(text)
    return _SCRIPT_BLOCK.match(text, start.start()) if start else None


def write_tags(source: str, tags: Sequence[str]) -> str:
    """The file with these tags in its block, which is made if there is none. TOML has many forms: look if it worked."""
    return _write(source, "[tool.dynasaur]", "tags", tags)


def write_requirements(source: str, requirements: Sequence[str]) -> str:
    """Likewise, with these dependencies."""
    return _write(source, "", "dependencies", requirements)


def _write(source: str, table: str, key: str, values: Sequence[str]) -> str:
    newline = "\r\n" if "\r\n" in source else "\n"
    text = source.replace("\r\n", "\n")
    assignment = f"# {key} = {json.dumps(list(values), ensure_ascii=False)}"
    made = [*([f"# {table}"] if table else []), assignment]
    block = _find_block(text)
    if block is None:
        head = re.match(r"(?:#!.*\n)?(?:[ \t\f]*#.*?coding[:=].*\n)?", text)
        start = head.end() if head else 0
        text = "\n".join([text[:start] + "# /// script", *made, "# ///", text[start:]])
    else:
        lines = block["content"].splitlines()
        header = next((n for n, line in enumerate(lines) if line.strip() == f"# {table}"), None) if table else -1
        if header is None:
            lines += made
        else:
            start, end = _find_assignment(lines, header + 1, key)
            lines[start:end] = [assignment]
        text = text[: block.start("content")] + "\n".join(lines) + "\n" + text[block.end("content") :]
    return text.replace("\n", newline)


def _find_assignment(lines: Sequence[str], first: int, key: str) -> tuple[int, int]:
    """First and past-last line of the assignment to `key` in the table that begins there; empty, there, if none."""
    for start in range(first, len(lines)):
        if lines[start].startswith("# ["):
            break
        if re.match(rf"# *{key} *=", lines[start]):
            for end in range(start + 1, len(lines) + 1):
                if _is_toml("\n".join(line.removeprefix("#") for line in lines[start:end])):
                    return start, end
    return first, first


def _is_toml(text: str) -> JSON:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None
