"""Resources: the source of every action, and the full output of every run."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from dynasaur_mcp.errors import ActionError
from dynasaur_mcp.server.content import clean_line, clean_text, join, section
from dynasaur_mcp.types import JSON, Status

if TYPE_CHECKING:
    from dynasaur_mcp.library.store import Store
    from dynasaur_mcp.runs import Run, Runs

PAGE_RESOURCES = 500
_URI = re.compile(r"dynasaur://(?:actions/(?P<action>[a-z0-9_]{1,40})|runs/(?P<run>[A-Za-z0-9_-]{1,64})/output)")


def list_templates() -> ListResourceTemplatesResult:
    return ListResourceTemplatesResult(
        resource_templates=[
            ResourceTemplate(
                name="action",
                title="Source of an action",
                uri_template="dynasaur://actions/{name}",
                mime_type="text/x-python",
            ),
            ResourceTemplate(
                name="run_output",
                title="Everything a run gave",
                uri_template="dynasaur://runs/{id}/output",
                mime_type="text/plain",
            ),
        ]
    )


def list_actions(store: Store, cursor: str | None) -> ListResourcesResult:
    """The sources of active actions by name; a cursor is the name before the page."""
    entries = [entry for entry in store.entries() if entry.status is Status.ACTIVE and entry.name > (cursor or "")]
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


def read_resource(uri: str, *, store: Store, runs: Runs, principal: str) -> ReadResourceResult:
    """The text behind a URI.

    Raises:
        MCPError: there is nothing behind it.
    """
    match = _URI.fullmatch(uri)
    try:
        if match is None:
            raise MCPError(INVALID_PARAMS, "No such resource", {"uri": clean_line(uri, 200)})
        if match["action"] is not None:
            return contents(uri, "text/x-python", store.get(match["action"]).action.source)
        return contents(uri, "text/plain", full_output(runs.find(match["run"], principal)))
    except ActionError as error:
        raise MCPError(INVALID_PARAMS, str(error), {"uri": uri}) from None


def contents(uri: str, mime_type: str, text: str) -> ReadResourceResult:
    return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type=mime_type, text=text)])


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
