"""Ask the person at a client to approve an action: by elicitation, in both protocol eras.

What waits for approval is kept already, as a draft, so nothing is held up or lost while a person reads. A client of the
handshake era is sent a request on the connection of its call, and has until the call would be handed over. One of
2026-07-28 is given the question in place of the result, and makes the same call again with the answer.

Nothing that a model can write counts as an answer. An answer is a field beside the call that its client fills in, and
is of use once, for a question that was put to that principal and is remembered here; it approves the very version that
was shown. Whoever may not approve is not asked; nor is anybody asked again about a version that was declined.
"""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import anyio
import anyio.to_thread
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    TextContent,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from dynasaur_mcp.errors import ActionError
from dynasaur_mcp.library.audit import Deed
from dynasaur_mcp.library.change import decide_status
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.server.announce import Context
from dynasaur_mcp.server.caller import Callers
from dynasaur_mcp.server.scopes import APPROVE
from dynasaur_mcp.server.text import clean_line, clean_text, shorten
from dynasaur_mcp.tell import Changed, tell_change
from dynasaur_mcp.types import Entry, LibraryChanged, Status

logger = logging.getLogger(__name__)

Answer = Literal["approved", "declined", "none"]
Present = Callable[[Entry], CallToolResult]
"""The result of the call that left it waiting, given the action as it is by then."""

KEY = "approve"
SOURCE_CHARACTERS = 6000
"""Shown of the source; the question says how to read the rest."""
KEPT = 256
"""Questions whose answer is awaited, and versions that were declined; the oldest go first."""

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        KEY: {
            "type": "boolean",
            "title": "Approve",
            "description": "I have read this version; it may become a tool.",
        }
    },
    "required": [KEY],
}


@dataclass(frozen=True, slots=True)
class Question:
    """Put to a principal's client; what becomes of the call once it is answered."""

    principal: str
    entry: Entry
    present: Present


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvals:
    """Asks for them, and acts on the answers."""

    callers: Callers
    store: Store
    index: Index
    wait_seconds: float
    """For a call of the handshake era as a whole, with the answer."""
    _asked: OrderedDict[str, Question] = field(default_factory=OrderedDict)
    """By the state that the client gives back with its answer."""
    _declined: OrderedDict[tuple[str, int], None] = field(default_factory=OrderedDict)

    async def seek(
        self, ctx: Context, entry: Entry, present: Present, changed: Changed, *, began: float
    ) -> CallToolResult | InputRequiredResult:
        """The result of a call, after its client's person was asked about the action, if it waits for that.

        Args:
            began: When the call did, by anyio's clock.
        """
        if not (is_waiting(entry) and self._may_ask(ctx, entry)):
            return present(entry)
        question = Question(self.callers.principal_of(ctx), entry, present)
        request = ElicitRequest(params=ElicitRequestFormParams(message=write_question(entry), requested_schema=_SCHEMA))
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            state = secrets.token_urlsafe()
            _remember(self._asked, state, question)
            return InputRequiredResult(input_requests={KEY: request}, request_state=state)
        seconds = began + self.wait_seconds - anyio.current_time()
        answer = await self._ask(ctx, request, seconds) if seconds > 0 else "none"
        return await self._conclude(question, answer, changed)

    async def take_answer(self, ctx: Context, params: CallToolRequestParams, changed: Changed) -> CallToolResult | None:
        """The result of a call that was made before; None where this is no answer to a question that was put."""
        question = self._asked.get(params.request_state or "")
        if question is None or question.principal != self.callers.principal_of(ctx):
            return None
        del self._asked[params.request_state or ""]
        response = (params.input_responses or {}).get(KEY)
        answer = read_answer(response) if isinstance(response, ElicitResult) else "none"
        return await self._conclude(question, answer, changed)

    def _may_ask(self, ctx: Context, entry: Entry) -> bool:
        capabilities = ctx.session.client_capabilities
        form = capabilities.elicitation if capabilities else None
        return (
            form is not None
            and (form.form is not None or form.url is None)  # before there were modes, a form was all there was
            and APPROVE in self.callers.scopes_of(ctx)
            and (entry.name, entry.version) not in self._declined
        )

    async def _ask(self, ctx: Context, request: ElicitRequest, seconds: float) -> Answer:
        try:
            return read_answer(
                await ctx.session.send_request(
                    request,
                    ElicitResult,
                    request_read_timeout_seconds=seconds,
                    metadata=ServerMessageMetadata(related_request_id=ctx.request_id),
                )
            )
        except (MCPError, ValidationError) as error:
            logger.info("nobody answered whether to approve an action: %s", error)
            return "none"

    async def _conclude(self, question: Question, answer: Answer, changed: Changed) -> CallToolResult:
        entry = question.entry
        if answer == "none":
            return question.present(entry)
        if answer == "declined":
            _remember(self._declined, (entry.name, entry.version), None)
            return _add(question.present(entry), "Your user did not approve this version: it stays a draft.")
        approve = partial(
            self.store.set_status,
            entry.name,
            Status.ACTIVE,
            expected_version=entry.version,
            author=question.principal,
            deed=Deed.APPROVE,
            note="asked through the client",
        )
        # What a person approved is announced, also when the caller goes away meanwhile.
        with anyio.CancelScope(shield=True):
            try:
                if not is_waiting(self.store.get(entry.name)):
                    raise ActionError(f"{entry.name!r} does not wait for it any more.")
                approved = await anyio.to_thread.run_sync(approve)
            except ActionError as error:
                return _add(question.present(entry), f"Your user approved v{entry.version}, too late: {error}")
            await tell_change(LibraryChanged(self.store.revision, (entry.name,)), self.index, changed)
        return _add(question.present(approved), f"Your user approved v{entry.version}.")


def is_waiting(entry: Entry) -> bool:
    """Whether nothing but a person's approval keeps it from being active."""
    return entry.status is Status.DRAFT and decide_status(entry.tests) is Status.ACTIVE


def read_answer(result: ElicitResult) -> Answer:
    if result.action == "decline" or (result.action == "accept" and (result.content or {}).get(KEY) is False):
        return "declined"
    return "approved" if result.action == "accept" and (result.content or {}).get(KEY) is True else "none"


def write_question(entry: Entry) -> str:
    """What a person needs to decide: written by a model, so nothing in it may look like more than it is."""
    action = entry.action
    facts = {"packages": action.requirements, "network": action.network, "uses": action.uses}
    lines = [
        f"May {entry.name!r} v{entry.version} become a tool? {entry.tests}, by {clean_line(entry.author, 100)}.",
        "",
        clean_line(action.signature, 500),
        clean_line(action.summary, 300),
        *(f"{label}: {clean_line(', '.join(values), 500)}" for label, values in facts.items() if values),
        "",
        shorten(
            clean_text(action.source),
            SOURCE_CHARACTERS,
            f": read them first, by `dynasaur-mcp actions show {entry.name}`",
        ),
    ]
    return "\n".join(lines)


def _add(result: CallToolResult, text: str) -> CallToolResult:
    return result.model_copy(update={"content": [*result.content, TextContent(type="text", text=text)]})


def _remember(kept: OrderedDict[Any, Any], key: object, value: object) -> None:
    kept[key] = value
    if len(kept) > KEPT:
        kept.popitem(last=False)
