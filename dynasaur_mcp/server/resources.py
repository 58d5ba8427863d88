"""Resources: the source of every action, the full output of runs, the files of sessions."""

from __future__ import annotations

import base64
import codecs
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    BlobResourceContents,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from dynasaur_mcp.errors import ActionError, FileRefused, SandboxError
from dynasaur_mcp.manage import find_version
from dynasaur_mcp.server.content import mime_type_of
from dynasaur_mcp.server.text import MESSAGE_BYTES, clean_line, clean_text, first_line, fit_message, join, section
from dynasaur_mcp.types import JSON, Status

if TYPE_CHECKING:
    from dynasaur_mcp.library.store import Store
    from dynasaur_mcp.runs import Run, Runs
    from dynasaur_mcp.sandbox.files import Files
    from dynasaur_mcp.sandbox.pool import Pool

PAGE_RESOURCES = 500
MAX_BYTES = 736 << 10
"""Of a file in one answer: as base64 it fits a message."""
_URI = re.compile(
    r"dynasaur://(?:actions/(?P<action>[a-z0-9_]{1,40})"
    r"|runs/(?P<run>[A-Za-z0-9_-]{1,64})/output"
    r"|sessions/(?P<session>[a-z][a-z0-9_]{0,39})/files/?(?P<path>[^?#]*))"
    r"(?:\?(?P<query>[a-z0-9=&]*))?"
)


def file_of(uri: str) -> tuple[str, str] | None:
    """The session and the path of a file; None for any other URI."""
    match = _URI.fullmatch(uri)
    return (match["session"], unquote(match["path"]).strip("/")) if match and match["session"] else None


def list_templates() -> ListResourceTemplatesResult:
    return ListResourceTemplatesResult(
        resource_templates=[
            ResourceTemplate(
                name="action",
                title="Source of an action",
                uri_template="dynasaur://actions/{name}{?version}",
                description="version is the number of an earlier one.",
                mime_type="text/x-python",
            ),
            ResourceTemplate(
                name="run_output",
                title="Everything a run gave",
                uri_template="dynasaur://runs/{id}/output{?offset,limit}",
                description="offset and limit count characters.",
                mime_type="text/plain",
            ),
            ResourceTemplate(
                name="file",
                title="A file or folder of a session's workspace",
                uri_template="dynasaur://sessions/{session}/files/{+path}{?offset}",
                description="offset counts bytes.",
            ),
        ]
    )


def list_actions(store: Store, cursor: str | None) -> ListResourcesResult:
    """The sources of active actions by name; a cursor is the name before the page."""
    entries = store.entries(cursor or "", PAGE_RESOURCES + 1, Status.ACTIVE)
    page, rest = entries[:PAGE_RESOURCES], entries[PAGE_RESOURCES:]
    resources = [
        Resource(
            name=entry.name,
            uri=f"dynasaur://actions/{entry.name}",
            description=clean_line(entry.action.summary, 200),
            mime_type="text/x-python",
        )
        for entry in page
    ]
    return ListResourcesResult(resources=resources, next_cursor=page[-1].name if rest else None)


async def read_resource(uri: str, *, store: Store, runs: Runs, pool: Pool, principal: str) -> ReadResourceResult:
    """What is behind a URI. Of more than one answer holds, the metadata say the whole size and where to read on.

    Raises:
        MCPError: there is nothing behind it.
    """
    match = _URI.fullmatch(uri)
    try:
        if match is None:
            raise MCPError(INVALID_PARAMS, "No such resource", {"uri": clean_line(uri, 200)})
        asked = read_query(match["query"] or "")
        version = asked.pop("version", None)
        if match["action"] is not None:
            entry = find_version(store, match["action"], version)
            result = part_of(uri, "text/x-python", entry.action.source, **asked)
            result.contents[0].meta = {**(result.contents[0].meta or {}), "dynasaur/version": entry.version}
            return result
        if match["run"] is not None:
            return part_of(uri, "text/plain", full_output(runs.find(match["run"], principal)), **asked)
        async with pool.session(principal, match["session"], create=False) as session:
            return await read_file(uri, unquote(match["path"]), asked.get("offset", 0), session.files)
    except (ActionError, SandboxError) as error:
        raise MCPError(INVALID_PARAMS, first_line(error), {"uri": uri}) from None


def read_query(query: str) -> dict[str, int]:
    found = dict(re.findall(r"(offset|limit|version)=([0-9]{1,15})", query))
    return {name: int(number) for name, number in found.items()}


def part_of(uri: str, mime_type: str, text: str, offset: int = 0, limit: int = MESSAGE_BYTES) -> ReadResourceResult:
    part = fit_message(text[offset : offset + min(limit, MESSAGE_BYTES)])
    end = offset + len(part)
    return contents(uri, mime_type, part, total=len(text), next_offset=end if end < len(text) else None)


async def read_file(uri: str, path: str, offset: int, files: Files) -> ReadResourceResult:
    """A file's bytes from `offset`, as text where they are; or what is in a folder.

    Raises:
        FileRefused, WorkerLost
    """
    try:
        piece = await files.read(path, offset, MAX_BYTES)
    except FileRefused as refused:
        try:
            listing = await files.list(path)
        except FileRefused:
            raise refused from None
        lines = [f"{item.name}\t{item.kind}\t{item.size_bytes}" for item in listing.items]
        return contents(uri, "text/plain", fit_message(clean_text("\n".join(lines))), total=listing.total)
    data, mime_type = piece.data, mime_type_of(path)
    is_last = offset + len(data) >= piece.size_bytes
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(data, final=is_last)
        taken = len(data) - len(decoder.getstate()[0])
    except UnicodeDecodeError:
        text, taken = "", len(data)
    if (text or not data) and "\0" not in text:
        if (part := fit_message(text)) != text:
            text, taken, is_last = part, len(part.encode()), False
        mime_type = "text/plain" if mime_type == "application/octet-stream" else mime_type
        return contents(uri, mime_type, text, total=piece.size_bytes, next_offset=None if is_last else offset + taken)
    blob = BlobResourceContents(uri=uri, mime_type=mime_type, blob=base64.b64encode(data).decode())
    blob.meta = describe_part(piece.size_bytes, None if is_last else offset + len(data))
    return ReadResourceResult(contents=[blob])


def describe_part(total: int, next_offset: int | None) -> dict[str, int]:
    return {"dynasaur/total": total} | ({} if next_offset is None else {"dynasaur/next_offset": next_offset})


def contents(
    uri: str, mime_type: str, text: str, *, total: int | None = None, next_offset: int | None = None
) -> ReadResourceResult:
    content = TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    if total is not None:
        content.meta = describe_part(total, next_offset)
    return ReadResourceResult(contents=[content])


def show_value(value: JSON) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, indent=1)


def full_output(run: Run) -> str:
    """All a run printed and gave, as far as it was kept."""
    outcome = run.outcome
    if outcome is None:
        return clean_text(run.output) if run.error is None else "It could not be run. check_run says why."
    return clean_text(
        join(
            section("Value", outcome.shown if run.entry is None else show_value(outcome.value)),
            section("Printed", outcome.stdout),
            section("Printed to stderr", outcome.stderr),
            section("Error", outcome.error),
        )
    )
