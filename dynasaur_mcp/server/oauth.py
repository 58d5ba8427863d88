"""Tokens of an OAuth 2.1 authorization server: JSON Web Tokens for this server, signed with keys that it publishes."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import jwt
from mcp.server.auth.provider import AccessToken, TokenVerifier
from pydantic import BaseModel, ValidationError

from dynasaur_mcp.server.scopes import ALL_SCOPES

logger = logging.getLogger(__name__)

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Those with a public key: what the server publishes must not be able to sign."""
KEYS_SECONDS = 300.0
"""Keys are fetched again after this, and at once for a token with a key that is not among them."""
COOLDOWN_SECONDS = 5.0
"""Between two such fetches: anyone can make up a key's name."""
_TIMEOUT_SECONDS = 5.0
_LEEWAY_SECONDS = 30.0
_MOST_THREADS = 4
"""Where the authorization server hangs, the rest of this one goes on."""
_MAX_BYTES = 1 << 20


class _Metadata(BaseModel):
    issuer: str
    jwks_uri: str


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class Issuer(TokenVerifier):
    """The authorization server whose tokens are taken."""

    def __init__(self, issuer: str, audience: str, reserved: frozenset[str]) -> None:
        """
        Args:
            audience: What a token has to be made out for.
            reserved: Names that are no principal's here, whatever a token says.
        """
        self._issuer = issuer
        self._audience = audience
        self._reserved = reserved
        self._keys: jwt.PyJWKClient | None = None
        self._failed_at = float("-inf")
        self._lock = threading.Lock()
        self._threads = anyio.CapacityLimiter(_MOST_THREADS)

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            claims = await anyio.to_thread.run_sync(self._read, token, limiter=self._threads)
        except (jwt.PyJWTError, ValueError, OSError) as error:
            logger.info("A token was refused: %s: %.200s", type(error).__name__, error)
            return None
        principal = claims["sub"]
        if not 0 < len(principal) <= 200 or not principal.isprintable() or principal in self._reserved:
            logger.warning("A token was refused: %.200r can be no principal here", principal)
            return None
        # Without the token itself: what is kept of a request may come to be logged.
        return AccessToken(
            token="",
            client_id=str(claims.get("client_id") or claims.get("azp") or principal),
            subject=principal,
            scopes=sorted(read_scopes(claims)),
            expires_at=int(claims["exp"]) + int(_LEEWAY_SECONDS),
            claims={"iss": self._issuer},
        )

    def _read(self, token: str) -> dict[str, Any]:
        key = self._find_keys().get_signing_key_from_jwt(token)
        return jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            audience=self._audience,
            issuer=self._issuer,
            leeway=_LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )

    def _find_keys(self) -> jwt.PyJWKClient:
        with self._lock:
            if self._keys is None:
                if time.monotonic() - self._failed_at < COOLDOWN_SECONDS:
                    raise OSError("the authorization server did not answer a moment ago")
                self._failed_at = time.monotonic()
                uri = find_jwks(self._issuer)
                self._keys = jwt.PyJWKClient(
                    uri, lifespan=KEYS_SECONDS, cooldown_duration=COOLDOWN_SECONDS, timeout=_TIMEOUT_SECONDS
                )
            return self._keys


def find_jwks(issuer: str) -> str:
    """Where its keys are, by its metadata: RFC 8414, or OpenID Connect Discovery.

    Raises:
        OSError: it does not say.
    """
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    for url in (
        f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{path}",
        f"{issuer.rstrip('/')}/.well-known/openid-configuration",
    ):
        try:
            with urllib.request.build_opener(_NoRedirects).open(url, timeout=_TIMEOUT_SECONDS) as answer:
                found = _Metadata.model_validate(json.loads(answer.read(_MAX_BYTES)))
        except (urllib.error.HTTPError, ValidationError, ValueError):
            continue
        if found.issuer == issuer and is_safe(found.jwks_uri):
            return found.jwks_uri
    raise OSError(f"{issuer} does not say where its keys are")


def is_safe(url: str) -> bool:
    """Whether nobody on the way can change what it answers."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))


def read_scopes(claims: dict[str, Any]) -> frozenset[str]:
    """Those of ours, from `scope` as RFC 9068 has it, or `scp` as others do; words of one text, or a list."""
    given = claims.get("scope", claims.get("scp", ""))
    words = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
    return ALL_SCOPES.intersection(word for word in words if isinstance(word, str))
