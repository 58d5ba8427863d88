"""The MCP server, put together from what answers each of its requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.models import InitializationOptions

from dynasaur_mcp import __version__
from dynasaur_mcp.library.asked import Asked
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.runs import Runs
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.server.announce import Announcer, Context
from dynasaur_mcp.server.approvals import Approvals
from dynasaur_mcp.server.caller import Callers
from dynasaur_mcp.server.handlers import Handlers
from dynasaur_mcp.server.icon import show_icon
from dynasaur_mcp.server.listing import Exposure, Listing
from dynasaur_mcp.server.offers import Offers
from dynasaur_mcp.server.pages import Pages, list_no_tools
from dynasaur_mcp.server.running import Running
from dynasaur_mcp.server.scopes import ALL_SCOPES
from dynasaur_mcp.types import LOCAL

INSTRUCTIONS = """\
A library of Python functions (actions) that you extend while you work.
1. search_actions first: what you need may exist. Call it by execute_action or as a tool.
2. Otherwise run_python: variables and /workspace files stay for the next call, `from actions import name` composes \
kept actions. Work in small steps.
3. What is worth using again, keep with define_action: general, typed, with a docstring and >>> examples. It can be \
called by every client at once, by execute_action even where the tool list was not re-read."""


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
    principal_of: Callable[[Context], str] = lambda _: LOCAL,
    scopes_of: Callable[[Context], frozenset[str]] = lambda _: ALL_SCOPES,
    on_first_list: Callable[[], None] = lambda: None,
) -> tuple[AnnouncingServer, Announcer]:
    """The MCP server over these parts, and the announcer to tell of changes that no client made.

    `on_first_list` is called once, as the first `tools/list` is answered, and must return at once.
    """
    callers = Callers(pool.quotas, principal_of, scopes_of)
    announcer = Announcer(principal_of, pool)
    runs.on_news = announcer.hear
    listing = Listing(store, expose, expose_tokens, pool.workers.limits.network)
    asked = Asked(store, index)
    running = Running(
        callers=callers, store=store, asked=asked, pool=pool, runs=runs, output_characters=output_characters
    )
    handlers = Handlers(
        callers=callers,
        store=store,
        index=index,
        asked=asked,
        pool=pool,
        running=running,
        listing=listing,
        announcer=announcer,
        approvals=Approvals(callers=callers, store=store, index=index, wait_seconds=runs.wait_seconds),
        output_characters=output_characters,
        require_approval=require_approval,
    )
    offers = Offers(callers=callers, store=store, pool=pool, runs=runs)
    server = AnnouncingServer(
        "dynasaur-mcp",
        title="DynaSaur",
        version=__version__,
        instructions=INSTRUCTIONS,
        # Else the SDK lists all tools before each call of the stateless era over HTTP.
        get_tool_input_schema=listing.input_schema,
        on_list_tools=list_no_tools,
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
    server.pages = Pages(listing, announcer.note_listing, scopes_of, on_first_list)
    server.middleware += [announcer.watch, show_icon, server.pages]
    return server, announcer


class AnnouncingServer(Server[Any]):
    """A server whose handshake says that the tool list changes: clients ignore the notification otherwise."""

    pages: Pages

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        options = notification_options or NotificationOptions(tools_changed=True)
        return super().create_initialization_options(options, experimental_capabilities, extensions)
