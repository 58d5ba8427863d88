"""Which actions are in the tool list, and its answers kept as they go on the wire."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mcp.server.context import CallNext, HandlerResult
from mcp_types import ListToolsResult, Tool
from mcp_types.methods import serialize_server_result
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION
from pydantic import ValidationError

from dynasaur_mcp.errors import ActionNotFound, LibraryError
from dynasaur_mcp.server.announce import Context, connection_of
from dynasaur_mcp.server.scopes import ALL_SCOPES, RUN, is_of_use
from dynasaur_mcp.server.tools import count_tokens, describe_action, describe_meta_tools
from dynasaur_mcp.types import Entry, Status

if TYPE_CHECKING:
    from dynasaur_mcp.library.store import Store

logger = logging.getLogger(__name__)

Exposure = Literal["auto", "all", "pinned", "none"]
PAGE_TOOLS = 500
"""Of one page of `tools/list`. Clients that do not page exist, so it is large; the meta-tools are on the first."""
AUTO_CANDIDATES = 64
"""How many actions `auto` looks at, in the store's order, to fill its budget."""
MAX_ANSWERS = 256
"""Answers to tools/list that are kept at once."""
MAX_CHECKED = 1000
"""Tools that are kept at once."""


def is_publishable(tool: Tool) -> bool:
    """Whether it passes every protocol version's own check: one bad tool would fail the whole list."""
    try:
        dumped = ListToolsResult(tools=[tool]).model_dump(by_alias=True, mode="json", exclude_none=True)
        for version in (LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION):
            serialize_server_result("tools/list", version, dumped)
        json.dumps(dumped, allow_nan=False).encode()
        tool.model_dump_json()
    except (ValueError, RecursionError) as error:  # ValidationError and PydanticSerializationError are ValueErrors
        cause = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        logger.warning("Action %r is left out of the tool list: %s", tool.name, cause)
        return False
    return True


def publish(entry: Entry, network: Sequence[str]) -> Tool | None:
    """The entry's tool, or None where it would spoil the list."""
    try:
        tool = describe_action(entry, network)
    except RecursionError:
        logger.warning("Action %r is left out of the tool list: its schemas are nested too deep", entry.name)
        return None
    return tool if is_publishable(tool) else None


def looks_alike(one: Entry, other: Entry) -> bool:
    """Whether both make the same tool."""
    return (one.version, one.tests, one.schemas) == (other.version, other.tests, other.schemas)


class Listing:
    """The tools there are for who has given scopes, at one revision of the library.

    A function of these two alone: no connection, and nothing that happened on one, changes it. It is made anew only
    when the revision has changed, and then only the tools of actions that changed are checked again. Where all actions
    are exposed, a page is made when it is asked for.
    """

    def __init__(self, store: Store, exposure: Exposure, budget_tokens: int, network: Sequence[str] = ()) -> None:
        self._store = store
        self._exposure = exposure
        self._budget_tokens = budget_tokens
        self._network = network
        self._meta_tools = describe_meta_tools(network)
        self._revision: int | None = None
        self._tools: tuple[Tool, ...] = ()
        self._checked: dict[str, tuple[Entry, Tool | None]] = {}

    def revision(self) -> int | None:
        """The library's; None where it cannot be read at the moment."""
        try:
            return self._store.revision
        except LibraryError as error:
            logger.error("The library cannot be read: %s", error)
            return None

    def tools(self) -> tuple[Tool, ...]:
        """The meta-tools, then the exposed actions by name; the meta-tools alone where the library cannot be read."""
        revision = self.revision()
        if revision is None:
            return tuple(self._meta_tools)
        if revision != self._revision:
            try:
                exposed = sorted(self._exposed(), key=lambda tool: tool.name)
            except LibraryError as error:
                logger.error("The library cannot be read: %s", error)
                return tuple(self._meta_tools)
            self._tools = (*self._meta_tools, *exposed)
            self._revision = revision
        return self._tools

    def shows(self, name: str) -> bool:
        """Whether the action is in the list."""
        if self._exposure == "all":
            entry = self._store.get(name)
            return entry.status is Status.ACTIVE and self._publish(entry) is not None
        return any(tool.name == name for tool in self.tools()[len(self._meta_tools) :])

    def page(self, cursor: str | None, scopes: Collection[str] = ALL_SCOPES) -> ListToolsResult:
        """One page, of what the scopes are good for. A cursor is the name of the last tool before it, so a change of
        the library in between neither repeats nor skips an action that stayed.

        Raises:
            ValueError: no such cursor was given out.
        """
        if cursor is not None and not cursor.startswith("after:"):
            raise ValueError(cursor)
        tools = [] if cursor else [tool for tool in self._meta_tools if is_of_use(tool.name, scopes)]
        last = ""
        for tool in self._tools_after((cursor or "").removeprefix("after:")) if RUN in scopes else ():
            if len(tools) == PAGE_TOOLS:
                return ListToolsResult(tools=tools, next_cursor=f"after:{last}")
            tools.append(tool)
            last = tool.name
        return ListToolsResult(tools=tools)

    def input_schema(self, name: str) -> dict[str, Any] | None:
        """Of the tool of that name; None where there is none."""
        for tool in self._meta_tools:
            if tool.name == name:
                return tool.input_schema
        try:
            found = self._publish(self._store.get(name))
        except (ActionNotFound, LibraryError):
            return None
        return found.input_schema if found else None

    def _tools_after(self, name: str) -> Iterator[Tool]:
        """Those of actions, by name."""
        if self._exposure != "all":
            yield from (tool for tool in self.tools()[len(self._meta_tools) :] if tool.name > name)
            return
        try:
            while entries := self._store.entries(name, PAGE_TOOLS, Status.ACTIVE):
                yield from filter(None, map(self._publish, entries))
                name = entries[-1].name
        except LibraryError as error:
            logger.error("The library cannot be read: %s", error)

    def _publish(self, entry: Entry) -> Tool | None:
        """Its tool, unless it has none or one that would spoil the list."""
        known = self._checked.get(entry.name)
        if known is None or not looks_alike(known[0], entry):
            if len(self._checked) >= MAX_CHECKED:
                self._checked.pop(next(iter(self._checked)))
            known = self._checked[entry.name] = (entry, publish(entry, self._network) if entry.schemas else None)
        return known[1]

    def _exposed(self) -> list[Tool]:
        if self._exposure == "none":
            return []
        tools: list[Tool] = []
        left = self._budget_tokens
        for entry in self._store.exposed(AUTO_CANDIDATES if self._exposure == "auto" else 0):
            tool = self._publish(entry)
            if tool is None:
                continue
            if self._exposure == "auto":
                cost = count_tokens(tool)
                if cost > left and not entry.pinned:
                    continue
                left -= cost
            tools.append(tool)
        return tools


class ListCache:
    """Middleware that keeps answers to tools/list as they went on the wire: making one costs 40 µs a tool each time.

    They are what the SDK made of the handler's answer, envelope included, and stay until the library changes.
    """

    def __init__(
        self,
        listing: Listing,
        scopes_of: Callable[[Context], frozenset[str]],
        on_first_list: Callable[[], None],
    ) -> None:
        self._listing = listing
        self._scopes_of = scopes_of
        self._on_first_list: Callable[[], None] | None = on_first_list
        self._revision: int | None = None
        self._answers: dict[tuple[str, str | None, frozenset[str]], dict[str, Any]] = {}

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/list":
            return await call_next(ctx)
        cursor = (ctx.params or {}).get("cursor")
        if not isinstance(cursor, str | None) or not connection_of(ctx).initialize_accepted:
            return await call_next(ctx)
        revision = self._listing.revision()
        if revision is None or revision != self._revision or len(self._answers) >= MAX_ANSWERS:
            self._answers.clear()
            self._revision = revision
        key = (ctx.protocol_version, cursor, self._scopes_of(ctx))
        answer = self._answers.get(key)
        if answer is None:
            result = await call_next(ctx)
            if not isinstance(result, dict):
                return result
            answer = result
            if revision is not None and revision == self._listing.revision():
                self._answers[key] = result
        if (first := self._on_first_list) is not None:
            self._on_first_list = None
            first()
        return dict(answer)
