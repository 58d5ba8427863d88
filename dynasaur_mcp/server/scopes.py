"""What a token may be good for, and which of it each tool needs."""

from __future__ import annotations

READ, RUN, DEFINE, MANAGE = "actions:read", "actions:run", "actions:define", "actions:manage"
ALL_SCOPES = frozenset({READ, RUN, DEFINE, MANAGE})
