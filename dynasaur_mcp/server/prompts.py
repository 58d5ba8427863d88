"""Prompts: what a person starts from a client's menu."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    EmbeddedResource,
    GetPromptResult,
    ListPromptsResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    TextContent,
    TextResourceContents,
)

from dynasaur_mcp.errors import ActionError
from dynasaur_mcp.server.text import clean_line, clean_text, first_line

if TYPE_CHECKING:
    from dynasaur_mcp.library.store import Store

PROMPTS = (
    Prompt(
        name="dynasaur",
        title="Work as a DynaSaur agent",
        description="Work on a task in small steps of Python with the library's actions, and keep what is worth it.",
        arguments=[PromptArgument(name="task", description="What is to be done.", required=True)],
    ),
    Prompt(
        name="review_library",
        title="Review the library",
        description="Look through the kept actions for what is broken, doubled, unused or badly described.",
        arguments=[PromptArgument(name="about", description="Only actions on this subject.")],
    ),
    Prompt(
        name="generalise_action",
        title="Generalise an action",
        description="Turn an action that solves one case into one that solves all of its kind.",
        arguments=[PromptArgument(name="name", description="The action.", required=True)],
    ),
)
_DYNASAUR = """\
Work on this task by writing Python, one small step at a time:

{task}

Before each new step, look with search_actions whether an action does it already; call it, or import it in \
run_python by `from actions import name`. Look at what a step gave before you write the next. What you had to write \
and would need for another task of this kind, keep with define_action: general, typed, with a docstring and \
>>> examples. At the end say what came out, and which actions you used and kept."""
_REVIEW = """\
Review the library's actions{about}. Find them with search_actions, and read each with manage_action: show, history \
and test. Look for actions that fail or that nobody could tell the use of, for two that do the same, and for one that \
is only good for the case it was written for. Write a table: action, what is wrong with it, what to do. Change \
and delete nothing before I have agreed."""
_GENERALISE = """\
Generalise the action {name!r}. Name what its code takes for granted and another case would not share: literals, file \
names, columns, formats, sizes. Make parameters of those that a caller would want to set, with the present values as \
defaults, so that all present calls and examples still hold. Try it in run_python on two cases that differ, then \
define it with replaces={name!r}, with an example of each case. If it is general enough as it is, say so and leave \
it."""


def list_prompts() -> ListPromptsResult:
    return ListPromptsResult(prompts=list(PROMPTS))


def get_prompt(name: str, arguments: dict[str, str], store: Store) -> GetPromptResult:
    """
    Raises:
        MCPError: there is no such prompt, an argument is missing, or it names no action.
    """
    prompt = next((prompt for prompt in PROMPTS if prompt.name == name), None)
    if prompt is None:
        known = ", ".join(prompt.name for prompt in PROMPTS)
        raise MCPError(INVALID_PARAMS, f"No prompt named {clean_line(name, 80)!r}. There are {known}.")
    for argument in prompt.arguments or []:
        if argument.required and not arguments.get(argument.name, "").strip():
            raise MCPError(INVALID_PARAMS, f"The prompt {name!r} needs {argument.name!r}.")
    return GetPromptResult(description=prompt.description, messages=_write(name, arguments, store))


def _write(name: str, arguments: dict[str, str], store: Store) -> list[PromptMessage]:
    match name:
        case "dynasaur":
            return [_say(_DYNASAUR.format(task=arguments["task"]))]
        case "review_library":
            about = arguments.get("about", "").strip()
            return [_say(_REVIEW.format(about=f" on {about}" if about else ""))]
    try:
        action = store.get(arguments["name"]).action
    except ActionError as error:
        raise MCPError(INVALID_PARAMS, first_line(error)) from None
    source = TextResourceContents(
        uri=f"dynasaur://actions/{action.name}", mime_type="text/x-python", text=clean_text(action.source)
    )
    return [
        _say(_GENERALISE.format(name=action.name)),
        PromptMessage(role="user", content=EmbeddedResource(resource=source)),
    ]


def _say(text: str) -> PromptMessage:
    return PromptMessage(role="user", content=TextContent(text=text))
