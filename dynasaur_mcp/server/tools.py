"""What tools look like: the six meta-tools, and an action as a tool.

Everything a model reads about a tool before it calls one is written here. The meta-tools' texts are paid for in every
conversation, so all six definitions together stay within 1,000 tokens (a test holds it); a token is taken as four
characters of JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcp_types import Tool, ToolAnnotations

from dynasaur_mcp.hosts import find_uncovered
from dynasaur_mcp.server.arguments import (
    Arguments,
    CheckRun,
    DefineAction,
    ExecuteAction,
    ManageAction,
    RunPython,
    SearchActions,
)
from dynasaur_mcp.server.text import clean_line
from dynasaur_mcp.types import JSON, Entry

DESCRIPTION_CHARACTERS = 1000
PARAMETER_CHARACTERS = 300
HOSTS_SHOWN = 3
HOSTS_CHARACTERS = 60
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ADDS = ToolAnnotations(destructive_hint=False, open_world_hint=False)
"""Code too: it can change nothing but its own session's workspace."""
REACHES = ToolAnnotations(destructive_hint=True, open_world_hint=True)
"""Code that may use the network: what it does there is up to the hosts."""
DELETES = ToolAnnotations(destructive_hint=True, open_world_hint=False)


def tidy_schema(schema: JSON) -> JSON:
    """A pydantic schema without what only costs tokens: titles, null alternatives, defaults of None."""
    if isinstance(schema, list):
        return [tidy_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        schema = {**options[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
    return {
        key: tidy_schema(value)
        for key, value in schema.items()
        if key not in ("exclusiveMinimum", "maximum", "maxLength", "minimum", "minLength")
        and not (key == "title" and isinstance(value, str))
        and not (key == "default" and value in (None, False, "", []))
        and not (key == "additionalProperties" and value is True)
    }


def describe_meta_tool(arguments: type[Arguments], description: str, hints: ToolAnnotations) -> Tool:
    name = "".join("_" + letter.lower() if letter.isupper() else letter for letter in arguments.__name__).lstrip("_")
    return Tool(
        name=name,
        title=title_of(name),
        description=description,
        input_schema=tidy_schema({k: v for k, v in arguments.model_json_schema().items() if k != "description"}),
        annotations=hints,
    )


def title_of(name: str) -> str:
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def describe_meta_tools(network: Sequence[str] = ()) -> list[Tool]:
    """
    Args:
        network: The hosts that code may reach.
    """
    runs_code = REACHES if network else ADDS
    return [
        describe_meta_tool(
            SearchActions,
            "Search the library of kept Python functions (actions) by what they do. Do this first; call "
            "what you find with execute_action, or import it in run_python.",
            READS,
        ),
        describe_meta_tool(
            RunPython,
            f"Run Python in a sandbox {describe_network(network)}. Variables, imports and /workspace files stay for "
            "the next call; the last expression's value is shown; top-level await works. A step that overruns or "
            "crashes is undone. "
            "`from actions import name` composes kept actions.",
            runs_code,
        ),
        describe_meta_tool(
            DefineAction,
            "Keep a function as an action: from then on it is found by search, called by name as a tool, and "
            "importable. Its >>> examples and tests run first and must pass; PEP 723 metadata declares packages.",
            ADDS,
        ),
        describe_meta_tool(
            ExecuteAction,
            "Call an action by name, also one just defined or not in the tool list. It sees the session's /workspace, "
            "not its variables.",
            runs_code,
        ),
        describe_meta_tool(
            ManageAction,
            "Look at an action, test or change it: show gives its source, rollback an earlier version (also after "
            "delete), pin keeps it a tool. Also list or close sessions.",
            DELETES,
        ),
        describe_meta_tool(
            CheckRun,
            "Output and result of a run still going or in background; wait for it or cancel it.",
            ADDS,
        ),
    ]


def describe_network(hosts: Sequence[str]) -> str:
    if not hosts:
        return "without network"
    shown = ", ".join(hosts[:HOSTS_SHOWN])
    more = len(hosts) - HOSTS_SHOWN
    return f"with HTTP(S) to {clean_line(shown, HOSTS_CHARACTERS)}{f' and {more} more' if more > 0 else ''} only"


def describe_action(entry: Entry, network: Sequence[str] = ()) -> Tool:
    """The tool an action is. Its description is text by a model for later models: capped, cleaned, with its author.

    Args:
        network: The hosts that code may reach.

    Raises:
        ValueError: the version has not been checked by a worker yet, so it has no schemas.
    """
    if entry.schemas is None:
        raise ValueError(f"{entry.name!r} has no schemas yet")
    author = clean_line(entry.author, 60)
    hosts = entry.action.network
    denied = ", not allowed here" if find_uncovered(hosts, network) else ""
    needs = f"; needs the network: {', '.join(hosts)}{denied}" if hosts else ""
    text = "\n".join(printable(line) for line in entry.action.docstring.strip().splitlines())
    if len(text) > DESCRIPTION_CHARACTERS:
        text = text[: DESCRIPTION_CHARACTERS - 1].rstrip() + "…"
    return Tool(
        name=entry.name,
        title=title_of(entry.name),
        description=f"{text}\n(Action v{entry.version}, {entry.tests}, by {author}{needs})",
        input_schema=clean_descriptions(entry.input_schema),
        output_schema=clean_descriptions(entry.schemas.output),
        annotations=REACHES if hosts else ADDS,
        _meta={
            "dynasaur/version": entry.version,
            "dynasaur/tested": str(entry.tests),
            "dynasaur/author": author,
        },
    )


def clean_descriptions(schema: JSON) -> JSON:
    """A schema whose descriptions are short and printable: they too are text by a model for later models."""
    if isinstance(schema, list):
        return [clean_descriptions(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: clean_line(value, PARAMETER_CHARACTERS)
        if key == "description" and isinstance(value, str)
        else clean_descriptions(value)
        for key, value in schema.items()
    }


def printable(line: str) -> str:
    line = line.expandtabs()
    if not line.isprintable():
        line = "".join(character for character in line if character.isprintable())
    return line.rstrip()


def count_tokens(written: bytes) -> int:
    """Of a tool as JSON."""
    return (len(written.decode()) + 3) // 4
