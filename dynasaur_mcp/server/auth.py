"""Who may speak to the server over the network, and whom they act for."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from mcp.server.auth.provider import AccessToken, TokenVerifier

from dynasaur_mcp.server.announce import Context
from dynasaur_mcp.server.scopes import ALL_SCOPES, APPROVE
from dynasaur_mcp.types import LOCAL


class GivenTokens(TokenVerifier):
    """Tokens that the operator has given, each with its principal.

    They may do everything, but that principals who have names approve nothing: they are several, and one's own approval
    would protect none of the others.
    """

    def __init__(self, tokens: Mapping[str, str]) -> None:
        """
        Args:
            tokens: By principal.
        """
        self._tokens = {principal: token.encode() for principal, token in tokens.items()}

    async def verify_token(self, token: str) -> AccessToken | None:
        given = token.encode()
        # All are compared, each in constant time: how long it takes says nothing of any.
        matching = [principal for principal, own in self._tokens.items() if hmac.compare_digest(own, given)]
        if not matching:
            return None
        # Without the token itself: what is kept of a request may come to be logged.
        scopes = ALL_SCOPES if matching[0] == LOCAL else ALL_SCOPES - {APPROVE}
        return AccessToken(token="", client_id=matching[0], subject=matching[0], scopes=sorted(scopes))


def principal_of(ctx: Context) -> str:
    """Whom a request over HTTP acts for."""
    assert ctx.request is not None
    return principal_of_token(ctx.request.user.access_token)


def scopes_of(ctx: Context) -> frozenset[str]:
    """What its token is good for."""
    assert ctx.request is not None
    return frozenset(ctx.request.user.scopes)


def principal_of_token(token: AccessToken) -> str:
    assert token.subject
    return token.subject
