"""The request tools/call by name; the only place that turns errors into results.

The low-level server of the SDK is used as it starts and answers fastest. It checks no arguments and answers a stray
exception with an opaque -32603, so both are done here: a tool call always ends in a result that a model can read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import anyio
import anyio.to_thread
from mcp_types import CallToolRequestParams, CallToolResult, InputRequiredResult

from dynasaur_mcp.define import define_action
from dynasaur_mcp.errors import ActionBroken, ActionDeleted, ActionError, ActionNotFound, LibraryError, SandboxError
from dynasaur_mcp.library.asked import Asked
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.manage import MAY_ACTIVATE, headline, manage_action
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.search import search_actions
from dynasaur_mcp.server import content
from dynasaur_mcp.server.announce import Announcer, Context
from dynasaur_mcp.server.approvals import Approvals
from dynasaur_mcp.server.arguments import (
    CheckRun,
    DefineAction,
    ExecuteAction,
    ManageAction,
    RunPython,
    SearchActions,
    read_arguments,
)
from dynasaur_mcp.server.caller import Callers
from dynasaur_mcp.server.listing import Listing
from dynasaur_mcp.server.matches import present_matches
from dynasaur_mcp.server.progress import reporting_stages
from dynasaur_mcp.server.running import Running
from dynasaur_mcp.server.scopes import scope_of
from dynasaur_mcp.server.text import clean_line, first_line, shorten
from dynasaur_mcp.sessions import close_session, list_sessions
from dynasaur_mcp.types import JSON, META_TOOLS, Entry, LibraryChanged

logger = logging.getLogger(__name__)

NAME_CHARACTERS = 100
"""Of what a log says was called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What is done on each request. Holds its collaborators, no state."""

    callers: Callers
    store: Store
    index: Index
    asked: Asked
    pool: Pool
    running: Running
    listing: Listing
    announcer: Announcer
    approvals: Approvals
    output_characters: int
    require_approval: bool

    async def call_tool(self, ctx: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        began = time.monotonic()
        result = await self._answer(ctx, params)
        if logger.isEnabledFor(logging.INFO):
            about = {
                "request": str(ctx.request_id),
                "principal": self.callers.principal_of(ctx),
                "tool": clean_line(params.name, NAME_CHARACTERS),
                "outcome": _name_outcome(result),
                "seconds": round(time.monotonic() - began, 6),
            }
            text = "request %(request)s of %(principal)r, %(tool)s: %(outcome)s after %(seconds).3f s"
            logger.info(text, about, extra=about)
        return result

    async def _answer(self, ctx: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        arguments = params.arguments or {}
        try:
            self.callers.admit(ctx, params.name, scope_of(params.name, arguments))
            # A client that has been asked something makes its call again, with the answer.
            answered = await self.approvals.take_answer(ctx, params, partial(self._announce, ctx))
            return answered or await self._route(ctx, params.name, arguments)
        except ActionError as error:
            return content.result_of_error(shorten(str(error), self.output_characters, ""))
        except (SandboxError, LibraryError) as error:
            logger.error("%s: %s (%r)", params.name, error, error.__cause__)
            return content.result_of_error(first_line(error))
        except Exception:  # boundary: a bug of ours must not look like a protocol error
            logger.exception("Calling %r failed", params.name)
            return content.result_of_error("Internal error, logged by the server. Other calls still work.")

    async def _route(self, ctx: Context, name: str, arguments: dict[str, JSON]) -> CallToolResult | InputRequiredResult:
        match name:
            case "search_actions":
                return await self._search(ctx, read_arguments(SearchActions, name, arguments))
            case "run_python":
                return await self.running.run_python(ctx, read_arguments(RunPython, name, arguments))
            case "define_action":
                return await self._define(ctx, read_arguments(DefineAction, name, arguments))
            case "execute_action":
                given = read_arguments(ExecuteAction, name, arguments)
                if given.name in META_TOOLS:
                    raise ActionError(f"{given.name!r} is a tool, not an action: call it itself.")
                return await self.running.execute(ctx, given.name, given.arguments, given.session, promised=False)
            case "manage_action":
                return await self._manage(ctx, read_arguments(ManageAction, name, arguments))
            case "check_run":
                return await self.running.check_run(ctx, read_arguments(CheckRun, name, arguments))
        try:
            return await self.running.execute(ctx, name, arguments, None, promised=True)
        except (ActionBroken, ActionDeleted):
            raise
        except ActionNotFound:
            raise self._tool_not_found(name) from None

    async def _search(self, ctx: Context, given: SearchActions) -> CallToolResult:
        search = partial(search_actions, given.query, index=self.index, store=self.store, limit=given.limit)
        found = await anyio.to_thread.run_sync(search)
        self.asked.found(self.callers.principal_of(ctx), given.query, [match.entry.name for match in found.matches])
        return present_matches(found, full=given.detail == "full", limit=self.output_characters)

    async def _define(self, ctx: Context, given: DefineAction) -> CallToolResult | InputRequiredResult:
        began, principal = anyio.current_time(), self.callers.principal_of(ctx)
        async with self._watched(ctx):
            definition = await define_action(
                source=given.source,
                name=given.name,
                from_session=given.from_session,
                replaces=given.replaces,
                anyway=given.anyway,
                tags=given.tags,
                principal=principal,
                store=self.store,
                index=self.index,
                pool=self.pool,
                require_approval=self.require_approval,
                changed=partial(self._announce, ctx),
            )
        self.asked.defined(principal, definition.entry.name)

        def present(entry: Entry) -> CallToolResult:
            return content.present_definition(replace(definition, entry=entry), listed=self.listing.shows(entry.name))

        return await self.approvals.seek(ctx, definition.entry, present, partial(self._announce, ctx), began=began)

    async def _manage(self, ctx: Context, given: ManageAction) -> CallToolResult | InputRequiredResult:
        began, principal = anyio.current_time(), self.callers.principal_of(ctx)
        match given.op:
            case "list_sessions":
                return content.result_of_text(await list_sessions(principal, self.pool))
            case "close_session":
                return content.result_of_text(await close_session(given.name, principal, self.pool))
        async with self._watched(ctx) if given.op == "test" else nullcontext():
            text = await manage_action(
                given.name,
                given.op,
                version=given.version,
                principal=principal,
                store=self.store,
                index=self.index,
                pool=self.pool,
                require_approval=self.require_approval,
                changed=partial(self._announce, ctx),
            )

        def present(entry: Entry | None) -> CallToolResult:
            head, *rest = text.split("\n")
            shown = "\n".join([headline(entry, current=entry) if entry else head, *rest])
            more = f"; the source: resource dynasaur://actions/{given.name}"
            return content.result_of_text(shorten(shown, self.output_characters, more))

        if given.op in MAY_ACTIVATE:
            entry = self.store.get(given.name)
            return await self.approvals.seek(ctx, entry, present, partial(self._announce, ctx), began=began)
        return present(None)

    @asynccontextmanager
    async def _watched(self, ctx: Context) -> AsyncIterator[None]:
        """For what runs code in workers of nobody: it is charged, and tells what it is at."""
        with self.callers.charged(ctx):
            async with reporting_stages(ctx):
                yield

    async def _announce(self, ctx: Context, change: LibraryChanged) -> None:
        """Tell everyone, and hold what is under way until its own client has re-listed."""
        await self.announcer.publish(change, ctx)
        await self.announcer.hold(ctx)

    def _tool_not_found(self, name: str) -> ActionNotFound:
        return ActionNotFound(name, [*META_TOOLS, *self.store.near(name)])


def _name_outcome(result: CallToolResult | InputRequiredResult) -> str:
    if isinstance(result, InputRequiredResult):
        return "asked"
    return "error" if result.is_error else "returned"
