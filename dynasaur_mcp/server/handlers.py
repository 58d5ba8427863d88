"""The server, and its requests tools/list and tools/call by name; the only place that turns errors into results.

The low-level server of the SDK is used as it starts and answers fastest. It checks no arguments and answers a stray
exception with an opaque -32603, so both are done here: a tool call always ends in a result that a model can read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from dynasaur_mcp import __version__
from dynasaur_mcp.define import define_action
from dynasaur_mcp.errors import (
    ActionBroken,
    ActionDeleted,
    ActionError,
    ActionNotFound,
    LibraryError,
    SandboxError,
    ScopeMissing,
)
from dynasaur_mcp.execute import execute_action
from dynasaur_mcp.library.asked import Asked
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.reading import find_used_actions
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.manage import manage_action
from dynasaur_mcp.runs import Run, Runs, Work
from dynasaur_mcp.sandbox.pool import DEFAULT_SESSION, Pool
from dynasaur_mcp.search import search_actions
from dynasaur_mcp.server import content
from dynasaur_mcp.server.announce import Announcer, Context
from dynasaur_mcp.server.arguments import (
    CheckRun,
    DefineAction,
    ExecuteAction,
    ManageAction,
    RunPython,
    SearchActions,
    read_arguments,
)
from dynasaur_mcp.server.listing import Exposure, ListCache, Listing
from dynasaur_mcp.server.offers import Offers
from dynasaur_mcp.server.scopes import ALL_SCOPES, scope_of
from dynasaur_mcp.server.text import clean_line, clean_text, first_line, shorten
from dynasaur_mcp.sessions import close_session, list_sessions
from dynasaur_mcp.step import run_step
from dynasaur_mcp.types import JSON, META_TOOLS, Entry, LibraryChanged, Outcome

logger = logging.getLogger(__name__)

INSTRUCTIONS = """\
A library of Python functions (actions) that you extend while you work.
1. search_actions first: what you need may exist. Call it by execute_action or as a tool.
2. Otherwise run_python: variables and /workspace files stay for the next call, `from actions import name` composes \
kept actions. Work in small steps.
3. What is worth using again, keep with define_action: general, typed, with a docstring and >>> examples. It can be \
called by every client at once, by execute_action even where the tool list was not re-read."""
FIRST_WITH_LINKS = "2025-06-18"
"""Version of the protocol; versions are dates, and compare as text."""
PROGRESS_CHARACTERS = 1000
NAME_CHARACTERS = 100
"""Of what a log says was called."""
"""Of one progress message, the newest."""
LOCAL_PRINCIPAL = "local"
"""Whom every client on stdio acts for."""


def build_server(
    *,
    store: Store,
    index: Index,
    pool: Pool,
    runs: Runs,
    expose: Exposure = "auto",
    expose_tokens: int = 2000,
    output_characters: int = 8000,
    require_approval: bool = False,
    principal_of: Callable[[Context], str] = lambda _: LOCAL_PRINCIPAL,
    scopes_of: Callable[[Context], frozenset[str]] = lambda _: ALL_SCOPES,
    on_first_list: Callable[[], None] = lambda: None,
) -> tuple[Server[Any], Announcer]:
    """The MCP server over these parts, and the announcer to tell of changes that no client made.

    `on_first_list` is called once, as the first `tools/list` is answered, and must return at once.
    """
    announcer = Announcer(principal_of)
    runs.on_news = announcer.hear
    listing = Listing(store, expose, expose_tokens, pool.workers.limits.network)
    handlers = Handlers(
        store=store,
        index=index,
        asked=Asked(store, index),
        pool=pool,
        runs=runs,
        listing=listing,
        announcer=announcer,
        output_characters=output_characters,
        require_approval=require_approval,
        principal_of=principal_of,
        scopes_of=scopes_of,
    )
    offers = Offers(store=store, pool=pool, runs=runs, principal_of=principal_of, scopes_of=scopes_of)
    server = AnnouncingServer(
        "dynasaur-mcp",
        title="DynaSaur",
        version=__version__,
        instructions=INSTRUCTIONS,
        # Else the SDK lists all tools before each call of the stateless era over HTTP.
        get_tool_input_schema=listing.input_schema,
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        on_list_resources=offers.list_resources,
        on_list_resource_templates=offers.list_resource_templates,
        on_read_resource=offers.read_resource,
        on_subscribe_resource=announcer.subscribe,
        on_unsubscribe_resource=announcer.unsubscribe,
        on_list_prompts=offers.list_prompts,
        on_get_prompt=offers.get_prompt,
        on_completion=offers.complete,
        on_subscriptions_listen=announcer.listen,
    )
    server.middleware += [announcer.watch, ListCache(listing, scopes_of, on_first_list)]
    return server, announcer


class AnnouncingServer(Server[Any]):
    """A server whose handshake says that the tool list changes: clients ignore the notification otherwise."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        options = notification_options or NotificationOptions(tools_changed=True)
        return super().create_initialization_options(options, experimental_capabilities, extensions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What is done on each request. Holds its collaborators, no state."""

    store: Store
    index: Index
    asked: Asked
    pool: Pool
    runs: Runs
    listing: Listing
    announcer: Announcer
    output_characters: int
    require_approval: bool
    principal_of: Callable[[Context], str]
    scopes_of: Callable[[Context], frozenset[str]]

    async def list_tools(self, ctx: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        try:
            return self.listing.page(params.cursor if params else None, self.scopes_of(ctx))
        except ValueError:
            raise MCPError(INVALID_PARAMS, "No such cursor") from None

    async def call_tool(self, ctx: Context, params: CallToolRequestParams) -> CallToolResult:
        began = time.monotonic()
        result = await self._answer(ctx, params)
        if logger.isEnabledFor(logging.INFO):
            about = {
                "request": str(ctx.request_id),
                "principal": self.principal_of(ctx),
                "tool": clean_line(params.name, NAME_CHARACTERS),
                "outcome": "error" if result.is_error else "returned",
                "seconds": round(time.monotonic() - began, 6),
            }
            text = "request %(request)s of %(principal)r, %(tool)s: %(outcome)s after %(seconds).3f s"
            logger.info(text, about, extra=about)
        return result

    async def _answer(self, ctx: Context, params: CallToolRequestParams) -> CallToolResult:
        try:
            return await self._route(ctx, params.name, self._admit(ctx, params))
        except ActionError as error:
            return content.result_of_error(shorten(str(error), self.output_characters, ""))
        except (SandboxError, LibraryError) as error:
            logger.error("%s: %s (%r)", params.name, error, error.__cause__)
            return content.result_of_error(first_line(error))
        except Exception:  # boundary: a bug of ours must not look like a protocol error
            logger.exception("Calling %r failed", params.name)
            return content.result_of_error("Internal error, logged by the server. Other calls still work.")

    def _admit(self, ctx: Context, params: CallToolRequestParams) -> dict[str, JSON]:
        """The arguments, if the caller may make the call.

        Raises:
            ScopeMissing, QuotaExceeded
        """
        arguments = params.arguments or {}
        if (scope := scope_of(params.name, arguments)) not in self.scopes_of(ctx):
            raise ScopeMissing(params.name, scope)
        self.pool.quotas.admit_call(self.principal_of(ctx))
        return arguments

    async def _route(self, ctx: Context, name: str, arguments: dict[str, JSON]) -> CallToolResult:
        match name:
            case "search_actions":
                return await self._search(ctx, read_arguments(SearchActions, name, arguments))
            case "run_python":
                return await self._run(ctx, read_arguments(RunPython, name, arguments))
            case "define_action":
                return await self._define(ctx, read_arguments(DefineAction, name, arguments))
            case "execute_action":
                given = read_arguments(ExecuteAction, name, arguments)
                return await self._execute(ctx, given.name, given.arguments, given.session, promised=False)
            case "manage_action":
                return await self._manage(ctx, read_arguments(ManageAction, name, arguments))
            case "check_run":
                return await self._check(ctx, read_arguments(CheckRun, name, arguments))
        try:
            return await self._execute(ctx, name, arguments, None, promised=True)
        except (ActionBroken, ActionDeleted):
            raise
        except ActionNotFound:
            raise self._tool_not_found(name) from None

    async def _search(self, ctx: Context, given: SearchActions) -> CallToolResult:
        search = partial(search_actions, given.query, index=self.index, store=self.store, limit=given.limit)
        found = await anyio.to_thread.run_sync(search)
        self.asked.found(self.principal_of(ctx), given.query, [match.entry.name for match in found.matches])
        return content.present_matches(found, full=given.detail == "full", limit=self.output_characters)

    def _learning(self, ctx: Context, names: Callable[[], Collection[str]], work: Work) -> Work:
        """The same work; what was searched for before is kept of the actions that it used with success."""
        principal = self.principal_of(ctx)

        async def work_and_learn(hear: Callable[[str, str], None]) -> Outcome:
            outcome = await work(hear)
            if outcome.succeeded and self.asked.has_searched(principal):
                await anyio.to_thread.run_sync(lambda: self.asked.used(principal, names()))
            return outcome

        return work_and_learn

    async def _run(self, ctx: Context, given: RunPython) -> CallToolResult:
        session = given.session
        if given.fork_as is not None:
            await self.pool.fork(self.principal_of(ctx), session or DEFAULT_SESSION, given.fork_as)
            session = given.fork_as
            if not given.code.strip():
                return content.result_of_text(
                    f"Session {session!r} is open, a copy of {given.session or DEFAULT_SESSION!r}."
                )
        work = partial(
            run_step,
            given.code,
            given.requirements,
            principal=self.principal_of(ctx),
            session=session or DEFAULT_SESSION,
            timeout_seconds=given.timeout_seconds,
            store=self.store,
            pool=self.pool,
        )
        learning = self._learning(ctx, lambda: find_used_actions(given.code), lambda hear: work(on_output=hear))
        run = self._start(ctx, learning, session or DEFAULT_SESSION)
        if given.background:
            self.runs.hand_over(run)
        else:
            await self._wait(ctx, run)
        return self._present(ctx, run)

    async def _check(self, ctx: Context, given: CheckRun) -> CallToolResult:
        run = self.runs.find(given.run, self.principal_of(ctx))
        if given.cancel:
            run.cancel()
        seconds = self.pool.workers.limits.grace_seconds * 2 + 3 if given.cancel else given.wait_seconds
        await self._report(ctx, run, seconds)
        return self._present(ctx, run)

    def _present(self, ctx: Context, run: Run, *, promised: bool = False) -> CallToolResult:
        knows_links = ctx.protocol_version >= FIRST_WITH_LINKS
        return content.present_run(run, promised=promised, limit=self.output_characters, knows_links=knows_links)

    def _start(self, ctx: Context, work: Work, session: str, entry: Entry | None = None) -> Run:
        self.pool.quotas.admit_run(self.principal_of(ctx))
        who = self.principal_of(ctx)
        return self.runs.start(work, principal=who, session=session, request=str(ctx.request_id), entry=entry)

    async def _wait(self, ctx: Context, run: Run) -> None:
        """For the end of a run, or for the moment to hand it over. A caller who goes away ends it."""
        try:
            await self._report(ctx, run, self.runs.wait_seconds)
        except anyio.get_cancelled_exc_class():
            await run.end()
            raise
        if run.outcome is None:
            self.runs.hand_over(run)

    async def _report(self, ctx: Context, run: Run, seconds: float) -> None:
        """Wait for a run, and tell its client what it prints, if that asked for progress."""
        if ctx.meta and "progress_token" in ctx.meta:
            async for characters, text in run.follow(seconds):
                await ctx.session.report_progress(characters, None, clean_text(text[-PROGRESS_CHARACTERS:]))
            seconds = 0
        await run.wait(seconds)

    def _charged(self, ctx: Context) -> AbstractContextManager[None]:
        """For what runs code in workers of nobody."""
        self.pool.quotas.admit_run(self.principal_of(ctx))
        return self.pool.quotas.charge(self.principal_of(ctx))

    async def _define(self, ctx: Context, given: DefineAction) -> CallToolResult:
        with self._charged(ctx):
            definition = await define_action(
                source=given.source,
                name=given.name,
                from_session=given.from_session,
                replaces=given.replaces,
                anyway=given.anyway,
                tags=given.tags,
                principal=self.principal_of(ctx),
                store=self.store,
                index=self.index,
                pool=self.pool,
                require_approval=self.require_approval,
                changed=partial(self._announce, ctx),
            )
        return content.present_definition(definition, listed=self.listing.shows(definition.entry.name))

    async def _manage(self, ctx: Context, given: ManageAction) -> CallToolResult:
        match given.op:
            case "list_sessions":
                return content.result_of_text(await list_sessions(self.principal_of(ctx), self.pool))
            case "close_session":
                return content.result_of_text(await close_session(given.name, self.principal_of(ctx), self.pool))
        with self._charged(ctx) if given.op == "test" else nullcontext():
            text = await manage_action(
                given.name,
                given.op,
                version=given.version,
                principal=self.principal_of(ctx),
                store=self.store,
                index=self.index,
                pool=self.pool,
                require_approval=self.require_approval,
                changed=partial(self._announce, ctx),
            )
        return content.result_of_text(
            shorten(text, self.output_characters, f"; the source: resource dynasaur://actions/{given.name}")
        )

    async def _execute(
        self, ctx: Context, name: str, arguments: dict[str, JSON], session: str | None, *, promised: bool
    ) -> CallToolResult:
        entry = self.store.get(name)
        work = partial(
            execute_action,
            entry,
            arguments,
            principal=self.principal_of(ctx),
            session=session,
            store=self.store,
            pool=self.pool,
        )
        learning = self._learning(ctx, lambda: [name], lambda hear: work(on_output=hear))
        run = self._start(ctx, learning, session or DEFAULT_SESSION, entry)
        await self._wait(ctx, run)
        return self._present(ctx, run, promised=promised)

    async def _announce(self, ctx: Context, change: LibraryChanged) -> None:
        """Tell everyone, and hold what is under way until its own client has re-listed."""
        await self.announcer.publish(change, ctx)
        await self.announcer.hold(ctx)

    def _tool_not_found(self, name: str) -> ActionNotFound:
        return ActionNotFound(name, [*META_TOOLS, *self.store.near(name)])
