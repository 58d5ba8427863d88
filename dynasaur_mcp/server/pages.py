"""The request tools/list, answered with pages that are kept until the library changes."""

from __future__ import annotations

from collections.abc import Callable

from mcp.server.context import CallNext, HandlerResult
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, ListToolsResult, PaginatedRequestParams

from dynasaur_mcp.server.announce import Context
from dynasaur_mcp.server.listing import Listing, Page
from dynasaur_mcp.server.questions import Answer, Question, question_of
from dynasaur_mcp.server.ready import carry
from dynasaur_mcp.server.scopes import RUN
from dynasaur_mcp.types import Moment

KEPT_PAGES = 32
KEPT_ANSWERS = 256
"""They share the pages."""


class Pages:
    """Middleware, and what HTTP requests are answered with that were asked before.

    The SDK checks each request and makes the envelope of its answer, for a list without tools; these are put in.
    """

    def __init__(
        self,
        listing: Listing,
        note_listing: Callable[[object], bool],
        scopes_of: Callable[[Context], frozenset[str]],
        on_first_list: Callable[[], None],
    ) -> None:
        self.note_listing = note_listing
        self._listing = listing
        self._scopes_of = scopes_of
        self._on_first_list: Callable[[], None] | None = on_first_list
        self._moment: Moment | None = None
        self._pages: dict[tuple[str | None, frozenset[str]], Page] = {}
        self._answers: dict[tuple[str, frozenset[str]], Answer] = {}

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        result = await call_next(ctx)
        if ctx.method != "tools/list" or not isinstance(result, dict):
            return result
        scopes = self._scopes_of(ctx)
        try:
            page, is_kept = self._find((ctx.params or {}).get("cursor"), scopes)
        except ValueError:
            raise MCPError(INVALID_PARAMS, "No such cursor") from None
        if page.next_cursor:
            result["nextCursor"] = page.next_cursor
        del result["tools"]  # as the last one, it is followed by the same in all answers
        result["tools"] = carry(page.tools, ctx.request)
        if is_kept and (asked := question_of(ctx.request)):
            if len(self._answers) >= KEPT_ANSWERS:
                self._answers.clear()
            self._answers[asked, scopes] = Answer(result, page.tools)
        if (first := self._on_first_list) is not None:
            self._on_first_list = None
            first()
        return result

    def find_answer(self, question: Question, scopes: frozenset[str]) -> Answer | None:
        """What was answered to the same question, if that is still so."""
        self._forget_what_was()
        return self._answers.get((question.rest, scopes))

    def _find(self, cursor: str | None, scopes: frozenset[str]) -> tuple[Page, bool]:
        """A page, and whether it is kept."""
        self._forget_what_was()
        key = (cursor, scopes & {RUN} if cursor else scopes)
        page = self._pages.get(key)
        if page:
            return page, True
        page = self._listing.page(*key)
        is_current = self._moment is not None and self._moment == self._listing.moment()
        if is_current:
            self._pages[key] = page
        return page, is_current

    def _forget_what_was(self) -> None:
        moment = self._listing.moment()
        if moment is None or moment != self._moment or len(self._pages) >= KEPT_PAGES:
            self._pages.clear()
            self._answers.clear()
            self._moment = moment


async def list_no_tools(_ctx: Context, _params: PaginatedRequestParams | None) -> ListToolsResult:
    """The handler behind `Pages`."""
    return ListToolsResult(tools=[])
