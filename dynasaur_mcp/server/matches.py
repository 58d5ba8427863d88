"""What a search found as `CallToolResult`."""

from __future__ import annotations

import itertools
import json

from mcp_types import CallToolResult

from dynasaur_mcp.server.content import result_of_text
from dynasaur_mcp.server.text import clean_line, count, join, section, shorten
from dynasaur_mcp.types import Found, Match, Status

WRITE_IT = "Write it: try it with run_python, keep it with define_action."
SIGNATURE_CHARACTERS = 400
NEAREST = 3
"""Actions that are named where none fits."""


def present_matches(found: Found, *, full: bool, limit: int) -> CallToolResult:
    """Search results, best first, as many as fit in about `limit` characters; the nearest in short where none fits."""
    if not found.fits:
        return result_of_text(_describe_nothing(found))
    texts = [_describe_match(match, full=full) for match in found.matches]
    texts = [shorten(text, limit, "; manage_action show gives its source") for text in texts]
    lengths = itertools.accumulate(map(len, texts))
    shown = texts[:1] + [text for text, length in zip(texts[1:], [*lengths][1:], strict=True) if length <= limit]
    head = (
        f"{len(shown)} of {found.total:,} that fit, best first "
        f"(searched {count(found.searched, 'action')} by {found.used})"
    )
    return result_of_text(join(head, *shown))


def _describe_nothing(found: Found) -> str:
    if not found.searched:
        return f"The library has no actions yet. {WRITE_IT}"
    head = f"Nothing in the library does this ({count(found.searched, 'action')} searched by {found.used}). {WRITE_IT}"
    nearest = [
        f"- {clean_line(match.entry.action.signature, SIGNATURE_CHARACTERS)}: {match.entry.action.summary}"
        for match in found.matches[:NEAREST]
    ]
    return join(head, section("The nearest, if one will do after all", "\n".join(nearest)))


def _describe_match(match: Match, *, full: bool) -> str:
    entry, action = match.entry, match.entry.action
    record = f"v{entry.version}, {entry.tests}"
    if entry.calls:
        record += f", {entry.successes / entry.calls:.0%} of {count(entry.calls, 'call')} succeeded"
    if entry.status is not Status.ACTIVE:
        record += f", {entry.status.value}"
    signature = action.signature if full else clean_line(action.signature, SIGNATURE_CHARACTERS)
    lines = [signature, f"  [{record}] fits: {', '.join(match.why) or 'nearest'}"]
    lines += [f"  {entry.warning}"] if entry.warning else []
    lines += [f"  {line}" for line in (action.docstring.strip().splitlines() if full else [action.summary])]
    calls = [example for example in action.examples if f"{entry.name}(" in example]
    if calls and not full:
        lines.append(f"  Example: {clean_line(calls[0], 200)}")
    if full and action.requirements:
        lines.append(f"  Needs: {', '.join(action.requirements)}")
    if action.network:
        lines.append(f"  Network: {', '.join(action.network)}")
    if full and action.uses:
        lines.append(f"  Uses: {', '.join(action.uses)}")
    if full and entry.schemas is not None:
        lines.append(f"  Arguments: {json.dumps(entry.input_schema, ensure_ascii=False)}")
    return "\n".join(lines)
