"""Which actions are in the tool list, and the list as it goes on the wire.

A tool is described, checked and written as JSON once, and again when its action has changed; a page is put together
once, and again when the library has changed.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from mcp_types import ListToolsResult, Tool
from mcp_types.methods import serialize_server_result
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from dynasaur_mcp.errors import ActionNotFound, LibraryError
from dynasaur_mcp.server.ready import Ready
from dynasaur_mcp.server.scopes import ALL_SCOPES, RUN, is_of_use
from dynasaur_mcp.server.text import MESSAGE_BYTES
from dynasaur_mcp.server.tools import count_tokens, describe_action, describe_meta_tools
from dynasaur_mcp.types import Entry, Moment, Status

if TYPE_CHECKING:
    from dynasaur_mcp.library.store import Store

logger = logging.getLogger(__name__)

Exposure = Literal["auto", "all", "pinned", "none"]
PAGE_BYTES = MESSAGE_BYTES
"""Of the actions of one page. As large as an answer may be, as clients that do not page exist; the meta-tools are on
the first beside them."""
READ_AT_ONCE = 500
"""Actions."""
AUTO_CANDIDATES = 64
"""How many actions `auto` looks at, in the store's order, to fill its budget."""
KEPT_BYTES = 128 << 20
"""Of tools."""

Written = tuple[str, bytes]
"""A tool: its name, and all of it as JSON."""


def write_tool(tool: Tool) -> bytes | None:
    """As JSON, the same in every protocol version. None where one of these, or one of the SDK's ways to write it, would
    not pass it: it would fail the whole list."""
    try:
        dumped = ListToolsResult(tools=[tool]).model_dump(by_alias=True, mode="json", exclude_none=True)
        for version in (LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION):
            serialize_server_result("tools/list", version, dumped)
        to_json(dumped)
        (only,) = dumped["tools"]
        written = json.dumps(only, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:  # ValidationError and PydanticSerializationError are ValueErrors
        cause: object = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
    else:
        if count_bytes(written) <= PAGE_BYTES:
            return written
        cause = "no answer could carry it"
    logger.warning("Action %r is left out of the tool list: %s", tool.name, cause)
    return None


def count_bytes(written: bytes) -> int:
    """At most, of JSON that is written as ASCII, which makes three bytes of one."""
    return len(written) if written.isascii() else 3 * len(written)


def write_action(entry: Entry, network: Sequence[str]) -> bytes | None:
    """The entry's tool, or None where it has none, or one that would spoil the list."""
    if entry.schemas is None:
        return None
    try:
        tool = describe_action(entry, network)
    except RecursionError:
        logger.warning("Action %r is left out of the tool list: its schemas are nested too deep", entry.name)
        return None
    return write_tool(tool)


@dataclass(frozen=True, slots=True)
class Page:
    """Of the list."""

    tools: Ready
    next_cursor: str | None


class Listing:
    """The tools there are for who has given scopes, at one revision of the library.

    A function of these two alone: no connection, and nothing that happened on one, changes it.
    """

    def __init__(self, store: Store, exposure: Exposure, budget_tokens: int, network: Sequence[str] = ()) -> None:
        self._store = store
        self._exposure = exposure
        self._budget_tokens = budget_tokens
        self._network = network
        self._meta_tools = {tool.name: write_tool(tool) or b"" for tool in describe_meta_tools(network)}
        self._written: dict[str, tuple[int, bytes | None]] = {}
        """Actions as tools, by name, as they were at a revision; None is what has none."""
        self._written_bytes = 0
        self._chosen: list[Written] = []
        self._chosen_at: Moment | None = None
        self._identity = ""

    def moment(self) -> Moment | None:
        """What the list is of now; None where the library cannot be read."""
        try:
            moment = self._store.moment
        except LibraryError as error:
            logger.error("The library cannot be read: %s", error)
            return None
        if moment.identity != self._identity:
            self._identity = moment.identity
            self._forget()
        return moment

    def shows(self, name: str) -> bool:
        """Whether the action is in the list."""
        if self._exposure == "all":
            entry = self._store.get(name)
            return entry.status is Status.ACTIVE and self._write(entry) is not None
        return any(shown == name for shown, _ in self._actions_after(""))

    def input_schema(self, name: str) -> dict[str, Any] | None:
        """Of the tool of that name; None where there is none."""
        try:
            written = self._meta_tools.get(name) or self._write(self._store.get(name))
        except (ActionNotFound, LibraryError):
            return None
        return from_json(written)["inputSchema"] if written else None

    def page(self, cursor: str | None, scopes: Collection[str] = ALL_SCOPES) -> Page:
        """One page, of what the scopes are good for; the meta-tools alone where the library cannot be read. A cursor is
        the name of the last action before it, so a change of the library in between neither repeats nor skips an action
        that stayed.

        Raises:
            ValueError: no such cursor was given out.
        """
        if cursor is not None and not cursor.startswith("after:"):
            raise ValueError(cursor)
        tools = [] if cursor else [tool for name, tool in self._meta_tools.items() if is_of_use(name, scopes)]
        left, last = PAGE_BYTES, ""
        for name, tool in self._actions_after((cursor or "").removeprefix("after:")) if RUN in scopes else ():
            left -= count_bytes(tool) + len(b",")
            if left < 0 and last:
                return Page(Ready(tools), f"after:{last}")
            tools.append(tool)
            last = name
        return Page(Ready(tools), None)

    def _actions_after(self, name: str) -> Iterator[Written]:
        """By name."""
        try:
            if self._exposure == "all":
                yield from self._all_after(name)
            else:
                chosen = self._choose()
                yield from chosen[bisect_right(chosen, name, key=itemgetter(0)) :]
        except LibraryError as error:
            logger.error("The library cannot be read: %s", error)

    def _all_after(self, name: str) -> Iterator[Written]:
        while marks := self._store.marks(name, READ_AT_ONCE):
            known = {name: self._written.get(name, (-1, None)) for _, name in marks}
            tools = {name: known[name][1] for revision, name in marks if known[name][0] == revision}
            if changed := [name for _, name in marks if name not in tools]:
                tools |= {entry.name: self._write(entry) for entry in self._store.entries_of(changed)}
            yield from ((name, tool) for name, tool in sorted(tools.items()) if tool)
            name = marks[-1][1]

    def _choose(self) -> list[Written]:
        """Those exposed where not all are, by name."""
        moment = self.moment()
        if moment is None or moment != self._chosen_at:
            self._chosen, self._chosen_at = sorted(self._exposed()), moment
        return self._chosen

    def _exposed(self) -> Iterator[Written]:
        if self._exposure == "none":
            return
        left = self._budget_tokens
        for entry in self._store.exposed(AUTO_CANDIDATES if self._exposure == "auto" else 0):
            tool = self._write(entry)
            if tool is None:
                continue
            if self._exposure == "auto":
                cost = count_tokens(tool)
                if cost > left and not entry.pinned:
                    continue
                left -= cost
            yield entry.name, tool

    def _write(self, entry: Entry) -> bytes | None:
        revision, tool = self._written.get(entry.name, (-1, None))
        if revision != entry.revision:
            tool = write_action(entry, self._network)
            if self._written_bytes > KEPT_BYTES:
                self._forget()
            self._written[entry.name] = (entry.revision, tool)
            self._written_bytes += len(tool or b"")
        return tool

    def _forget(self) -> None:
        self._written.clear()
        self._written_bytes = 0
