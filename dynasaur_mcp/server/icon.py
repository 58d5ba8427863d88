"""The picture that clients show of the server: small, and sent with its name when a client connects.

The SDK would also send it in versions of the protocol that know no icons, and in 2026-07-28, where the server's name
goes with every result, with all of these.
"""

from __future__ import annotations

import base64

from mcp.server.context import CallNext, HandlerResult
from mcp_types import SERVER_INFO_META_KEY

from dynasaur_mcp.server.announce import Context

_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect width="64" height="64" rx="14" fill="#2f6f4f"/>'
    '<path fill="#fff" d="M6 43c8-2 11-13 23-13 8 0 10 2 12-4'
    'l3-11c2-6 13-6 14-1 0 4-4 5-7 5l-3 13c-1 7-4 9-4 11v10h-6v-8H27v8h-6v-9c-5-1-10 0-15-1z"/>'
    '<circle cx="51" cy="14" r="1.6" fill="#2f6f4f"/></svg>'
)
ICON = {
    "src": f"data:image/svg+xml;base64,{base64.b64encode(_SVG.encode()).decode()}",
    "mimeType": "image/svg+xml",
    "sizes": ["any"],
}
FIRST_WITH_ICONS = "2025-11-25"


async def show_icon(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Middleware, see above."""
    result = await call_next(ctx)
    if isinstance(result, dict):
        if ctx.method == "initialize" and result["protocolVersion"] >= FIRST_WITH_ICONS:
            result["serverInfo"]["icons"] = [ICON]
        elif ctx.method == "server/discover":
            result["_meta"][SERVER_INFO_META_KEY]["icons"] = [ICON]
    return result
