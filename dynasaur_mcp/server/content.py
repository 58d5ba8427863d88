"""Outcomes, definitions, runs and errors as `CallToolResult`; what a search found is in `matches`.

Three rules, from what clients do with results. Many forward only `structuredContent` where there is some, so the text
carries everything too; errors are text only, since a strict client would hold them against the output schema; and
images are never paired with structured content, or nobody would see them. Where a tool has promised an output schema
the structured content wins and the text says how to see the images; one that no message carries makes it an error.
"""

from __future__ import annotations

import json
import mimetypes
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent

from dynasaur_mcp.errors import DynasaurError, NetworkDenied
from dynasaur_mcp.server.text import (
    MAX_DEPTH,
    MESSAGE_BYTES,
    TooDeepError,
    clean_line,
    clean_text,
    clean_value,
    count,
    join,
    measure,
    section,
    shorten,
    shorten_to_tail,
    show_name,
)
from dynasaur_mcp.types import JSON, Ending, Entry, Image, Outcome, Status

if TYPE_CHECKING:
    from dynasaur_mcp.define import Definition
    from dynasaur_mcp.runs import Run

MAX_FILES = 20
MAX_FUNCTIONS, NAME_CHARACTERS = 20, 60
"""Of those that a step defined, and of the name of one."""


def result_of_text(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=clean_text(text))])


def result_of_error(error: DynasaurError | str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=clean_text(str(error)))], is_error=True)


def present_call(
    entry: Entry,
    outcome: Outcome,
    where: str,
    session: str,
    links: Sequence[ContentBlock],
    *,
    promised: bool,
    limit: int,
) -> CallToolResult:
    """What calling an action gave; `promised` says that its own tool was called, whose output schema must be kept."""
    if not outcome.succeeded:
        rest = describe_rest(outcome, limit, where=where)
        return result_of_error(join(describe_failure(outcome, limit, where), *rest))
    try:
        value = clean_value(outcome.value)
    except TooDeepError:
        return result_of_error(f"{entry.name!r} returned a value nested deeper than {MAX_DEPTH} levels: flatten it.")
    structured = structure(entry, value) if promised or not outcome.images else None
    hidden = len(outcome.images) if structured is not None else 0
    notes = [f"It showed {count(hidden, 'image')}: execute_action gives those too."] if hidden else []
    text = shorten(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), limit, where)
    sections = [*describe_links(outcome, session), *describe_rest(outcome, limit, where=where, notes=notes)]
    if structured is not None and (size := measure([structured, text, *sections])) > MESSAGE_BYTES:
        if promised:
            return result_of_error(join(describe_excess(entry, size), section("Value", text), *sections))
        structured = None
    content = blocks(join(section("Value", text), *sections) if sections else text, () if hidden else outcome.images)
    return CallToolResult(content=[*content, *links], structured_content=structured)


def describe_excess(entry: Entry, size: int) -> str:
    return (
        f"{entry.name!r} returned, but its value does not fit: {size:,} bytes, where clients take {MESSAGE_BYTES:,} in "
        "one message. It can be read as a resource, in parts. Or have it return less, or write a file to /workspace."
    )


def structure(entry: Entry, value: JSON) -> dict[str, JSON] | None:
    """The structured content of a returned value, where its action has an output schema."""
    if entry.schemas is None:
        return None
    if entry.schemas.wraps_result:
        return {"result": value}
    return value if isinstance(value, dict) else None


def present_run(
    run: Run, ahead: Run | None = None, *, promised: bool = False, limit: int, knows_links: bool = False
) -> CallToolResult:
    """What code or a call of an action gave, or how far it is. `promised` as in `present_call`.

    `ahead` is the run that it waits for in its session; `knows_links` says that the client's protocol version has
    links to resources.

    A tool that has promised an output schema has no way to say "not yet" but an error: strict clients refuse any other
    answer without structured content.
    """
    where = where_to_read(run)
    outcome = run.outcome
    if outcome is None:
        seconds = time.monotonic() - run.started_at
        head = (
            f"Still running for {seconds:.0f} s: run {run.id!r} in session {run.session!r}. "
            "check_run waits for it or cancels it."
        )
        if ahead:
            head += f" It waits for run {ahead.id!r} there to end: cancel that, or use another session."
        text = join(head, section("Printed so far", shorten_to_tail(run.output, limit, where)))
        return result_of_error(text) if promised else result_of_text(text)
    outcome = fit_images(outcome)
    links = link_files(outcome, run.session) if knows_links else []
    if run.entry is not None:
        return present_call(run.entry, outcome, where, run.session, links, promised=promised, limit=limit)
    tail = f"(session {run.session!r}, {outcome.seconds:.2f} s)"
    rest = describe_rest(outcome, limit, where=where)
    if not outcome.succeeded:
        return result_of_error(join(describe_failure(outcome, limit, where), *rest, tail))
    value = section("Value", shorten(outcome.shown, limit, where))
    saved, defined = describe_links(outcome, run.session), describe_defined(outcome, run.session)
    silent = "" if value or rest or outcome.images else "Done; it printed nothing and its last line has no value."
    content = blocks(join(silent, value, *saved, *rest, defined, tail), outcome.images)
    return CallToolResult(content=[*content, *links])


def fit_images(outcome: Outcome) -> Outcome:
    """With as many of its images, from the first, as one result may have."""
    room = MESSAGE_BYTES
    for shown, image in enumerate(outcome.images):
        room -= len(image.base64)
        if room < 0:
            left = count(len(outcome.images) - shown, "image")
            note = f"{left} left out: those of one result are too large together. Show them one by one, or save them."
            return replace(outcome, images=outcome.images[:shown], notes=(*outcome.notes, note))
    return outcome


def where_to_read(run: Run) -> str:
    return f"; all of it: resource dynasaur://runs/{run.id}/output (?offset=N reads on at a character)"


def describe_links(outcome: Outcome, session: str) -> list[str]:
    """Where the whole value is."""
    lines = [f"- {show_name(f'/workspace/{path}')}, resource {uri_of_file(session, path)}" for path in outcome.links]
    return [section("Saved as", "\n".join(lines))] if lines else []


def link_files(outcome: Outcome, session: str) -> list[ContentBlock]:
    sizes = {file.path: file.size_bytes for file in outcome.files}
    return [
        ResourceLink(
            name=clean_line(path, 200),
            uri=uri_of_file(session, path),
            mime_type=mime_type_of(path),
            size=sizes.get(path),
        )
        for path in outcome.links
    ]


def uri_of_file(session: str, path: str) -> str:
    return f"dynasaur://sessions/{session}/files/{quote(path)}"


def mime_type_of(path: str) -> str:
    return mimetypes.guess_type(path)[0] or "application/octet-stream"


def describe_failure(outcome: Outcome, limit: int, where: str = "") -> str:
    error = shorten(outcome.error.strip("\n"), limit, where) or f"It did not return: {outcome.ending.value}."
    return section("Error", error) if outcome.ending is Ending.RAISED else error


def describe_rest(outcome: Outcome, limit: int, *, where: str = "", notes: Sequence[str] = ()) -> list[str]:
    """Everything an outcome holds beside its value and its error, one text per section."""
    notes = [*outcome.notes, *notes]
    if outcome.dropped_bytes:
        notes.append(f"{outcome.dropped_bytes:,} bytes printed beyond the limit were dropped.")
    if outcome.images and not outcome.succeeded:
        notes.append(f"{count(len(outcome.images), 'image')} left out, since the call failed.")
    files = [f"{show_name(file.path)} ({file.size_bytes:,} bytes)" for file in outcome.files[:MAX_FILES]]
    if len(outcome.files) > MAX_FILES:
        files.append(f"and {len(outcome.files) - MAX_FILES:,} more")
    sections = [
        section("Printed", shorten(outcome.stdout, limit, where)),
        section("Printed to stderr", shorten(outcome.stderr, limit, where)),
        section("Files in /workspace", "\n".join(f"- {file}" for file in files)),
        section("Notes", "\n".join(f"- {note}" for note in notes)),
    ]
    return [text for text in sections if text]


def describe_defined(outcome: Outcome, session: str) -> str:
    if not outcome.defined:
        return ""
    names = [clean_line(name, NAME_CHARACTERS) for name in outcome.defined]
    keep = f"define_action(from_session={session!r}, name={names[-1]!r})"
    if len(names) > MAX_FUNCTIONS:
        names[MAX_FUNCTIONS:] = [f"and {len(names) - MAX_FUNCTIONS:,} more"]
    return f"Functions defined: {', '.join(names)}. Worth keeping? {keep}"


def present_definition(definition: Definition, *, listed: bool) -> CallToolResult:
    """How a definition ended; `listed` says that the action is in the tool list now."""
    entry = definition.entry
    before = definition.before
    verb = "Kept" if before is None else "Replaced" if before.version != entry.version else "Unchanged"
    lines = [f"{verb} {entry.name!r}: v{entry.version}, {entry.tests}, {describe_standing(entry, listed=listed)}."]
    example = ", ".join(f"{json.dumps(p.name)}: …" for p in entry.action.parameters if p.default is None)
    by_name = f"execute_action(name={entry.name!r}, arguments={{{example}}})"
    if definition.denied:
        lines.append(f"It cannot be called here yet. {NetworkDenied(entry.name, definition.denied)}")
    elif entry.status is not Status.DISABLED:
        lines.append(f"Call it: {'tool ' + repr(entry.name) + ', or ' if listed else ''}{by_name}")
        lines.append(f"In run_python: from actions import {entry.name}")
    if listed and before and before.schemas and entry.schemas and before.schemas.output != entry.schemas.output:
        lines.append("It returns another type now: until the tool list is read again, call it by execute_action.")
    if replay := [*definition.replay.regressions, *definition.replay.findings]:
        lines.append(f"Against v{before.version if before else 0}:")
        lines += [f"- {text}" for text in replay]
    if entry.schemas is not None:
        lines.append(f"Arguments: {json.dumps(entry.input_schema, ensure_ascii=False)}")
        lines.append(f"Returns: {json.dumps(entry.schemas.output, ensure_ascii=False)}")
    if entry.action.advice:
        lines.append(f"Advice (replaces={entry.name!r} takes a better version):")
        lines += [f"- {clean_line(advice, 300)}" for advice in entry.action.advice]
    if definition.near:
        lines.append("Similar actions (if one already does this, delete the other):")
        lines += [f"- {alike}" for alike in definition.near]
    return result_of_text("\n".join(lines))


def describe_standing(entry: Entry, *, listed: bool) -> str:
    if listed:
        return "now a tool"
    if entry.status is Status.ACTIVE:
        return "active, not in the tool list (its budget or policy leaves it out)"
    if entry.status is Status.DISABLED:
        return "disabled. manage_action(op='enable') makes it callable again"
    if entry.tests.total:
        return "a draft until a person approves it: callable, not a tool"
    return "a draft: callable, not a tool. A >>> example in its docstring makes it one"


def blocks(text: str, images: Sequence[Image]) -> list[ContentBlock]:
    """One text, then the images."""
    shown = [ImageContent(data=image.base64, mime_type=image.mime_type) for image in images]
    return [TextContent(text=clean_text(text)), *shown]
