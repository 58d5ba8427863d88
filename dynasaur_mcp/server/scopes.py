"""What a token may be good for, and which of it each tool needs: they shape the list of tools, and each call."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dynasaur_mcp.types import JSON

READ, RUN, DEFINE, MANAGE = "actions:read", "actions:run", "actions:define", "actions:manage"
APPROVE = "actions:approve"
"""No tool needs it: whoever has it is asked, through the client, where a person has to approve."""
ALL_SCOPES = frozenset({READ, RUN, DEFINE, MANAGE, APPROVE})
_OF_TOOLS = {"search_actions": READ, "define_action": DEFINE, "manage_action": MANAGE}
"""All others run code."""
_OF_OPS = {"show": READ, "history": READ, "diff": READ, "test": RUN, "list_sessions": RUN, "close_session": RUN}
"""Of manage_action; all others change actions."""


def scope_of(tool: str, arguments: Mapping[str, JSON]) -> str:
    """The one that a call needs."""
    op = arguments.get("op")
    if tool == "manage_action" and isinstance(op, str):
        return _OF_OPS.get(op, MANAGE)
    return _OF_TOOLS.get(tool, RUN)


def scope_of_resource(uri: str) -> str:
    return READ if uri.startswith("dynasaur://actions/") else RUN


def is_of_use(tool: str, scopes: Collection[str]) -> bool:
    """Whether some call of it is allowed."""
    needed = {MANAGE, *_OF_OPS.values()} if tool == "manage_action" else {scope_of(tool, {})}
    return not needed.isdisjoint(scopes)
