"""How a server is reached over the network, read from the settings: its names, and who may speak to it."""

from __future__ import annotations

import ipaddress
import re
import secrets
import sys
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.settings import AuthSettings
from pydantic import ValidationError

from dynasaur_mcp.errors import SettingsError
from dynasaur_mcp.server.auth import GivenTokens
from dynasaur_mcp.server.oauth import Issuer, is_safe
from dynasaur_mcp.server.web import Front
from dynasaur_mcp.settings import TOKEN_RULE, Settings, is_token
from dynasaur_mcp.types import LOCAL

RESERVED = frozenset({"file", "starter"})
"""Authors that are no principals."""
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def read_front(settings: Settings) -> Front:
    """
    Raises:
        SettingsError
    """
    auth = read_auth(settings)
    known = [bracket(urlsplit(settings.audience).hostname or "")] if auth else []
    # No browser sends the name of "any address", and nobody else should be told that it is one of ours.
    own = [] if is_any(settings.host) else [bracket(settings.host.lower())]
    return Front(
        host=settings.host,
        port=settings.port,
        hosts=(*_LOOPBACK, *own, *known, *split(settings.allowed_hosts)),
        origins=split(settings.allowed_origins),
        certificate=settings.tls_certificate,
        key=settings.tls_key,
        drain_seconds=settings.drain_seconds,
        most_each=settings.requests_each,
        auth=auth,
    )


def make_verifier(settings: Settings) -> tuple[TokenVerifier, Callable[[], None]]:
    """It, and what to do once the server listens: a token that was made is printed, as it is nowhere else.

    Raises:
        SettingsError
    """
    if settings.auth_issuer:
        return Issuer(settings.auth_issuer, settings.audience, RESERVED | {LOCAL}), lambda: None
    if tokens := read_tokens(settings):
        return GivenTokens(tokens), lambda: None
    token = secrets.token_urlsafe(32)
    told = f"clients have to send this token (DYNASAUR_TOKEN or --token-file gives another): {token}"
    return GivenTokens({LOCAL: token}), partial(_say, told)


def read_auth(settings: Settings) -> AuthSettings | None:
    """Where tokens come from and what they have to be for, if an authorization server makes them.

    Raises:
        SettingsError: no URL, or one over which keys or tokens could be read or changed.
    """
    if not settings.auth_issuer:
        return None
    for name in ("auth_issuer", "audience"):
        url = getattr(settings, name)
        if not is_safe(url) or any(sign in url for sign in "?#"):
            raise SettingsError(f"Wrong setting: {name}: give a URL with https (http on loopback only), got {url!r}")
    try:
        # `Issuer` checks the audience itself.
        return AuthSettings.model_validate(
            {
                "issuer_url": settings.auth_issuer,
                "resource_server_url": settings.audience,
                "validate_token_resource": False,
            }
        )
    except ValidationError as error:
        raise SettingsError(f"Wrong setting: auth_issuer or audience: {error.errors()[0]['msg']}") from None


def read_tokens(settings: Settings) -> dict[str, str]:
    """By principal; empty where none is given.

    Raises:
        SettingsError: the file cannot be read, or what it holds are no tokens.
    """
    if token := settings.token.get_secret_value():
        return {LOCAL: token}
    if settings.token_file:
        try:
            lines = settings.token_file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"The token_file cannot be read: {error}") from None
        return read_token_lines([line.split() for line in lines if line.strip() and not line.startswith("#")])
    return {}


def read_token_lines(lines: list[list[str]]) -> dict[str, str]:
    """
    Args:
        lines: Their words.
    """
    if len(lines) == 1 and len(lines[0]) == 1:
        lines = [[LOCAL, *lines[0]]]
    tokens: dict[str, str] = {}
    for number, words in enumerate(lines, 1):
        if len(words) != 2 or not _PRINCIPAL.fullmatch(words[0]) or words[0] in RESERVED or not is_token(words[1]):
            raise SettingsError(f"Entry {number} of the token_file is not `NAME TOKEN`; {TOKEN_RULE}.")
        tokens[words[0]] = words[1]
    if len(set(tokens.values())) < len(lines) or not lines:
        raise SettingsError("The token_file needs at least one token, and each name and each token once.")
    return tokens


def warn(settings: Settings) -> None:
    """On stderr, where what is sent could be read on its way."""
    if not (is_loopback(settings.host) or settings.tls_certificate or settings.behind_proxy):
        _say(
            f"WARNING: {settings.host} can be reached from other machines, and nothing is encrypted: tokens and code "
            "can be read on their way. Give --tls-certificate, or --behind-proxy where a proxy in front encrypts."
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host == ""


def bracket(host: str) -> str:
    """As it stands in URLs."""
    return f"[{host}]" if ":" in host else host


def split(names: str) -> tuple[str, ...]:
    return tuple(name.strip().rstrip("/").lower() for name in names.split(",") if name.strip())


def _say(text: str) -> None:
    sys.stderr.write(f"dynasaur-mcp: {text}\n")
    sys.stderr.flush()
