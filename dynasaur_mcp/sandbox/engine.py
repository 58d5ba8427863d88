"""The Docker engine: where it is and whether it answers. The only module that imports `docker`.

`docker` is imported on use: a server that only lists its tools needs neither it nor an engine.
Its errors are caught as OSError: APIError and everything of requests are one; DockerException alone is not.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import Any, TypeAlias

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox.ssh import LOGIN_SECONDS

Client: TypeAlias = Any
"""`docker.APIClient`: its stubs leave half of what is used here untyped."""

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 2
"""An engine that takes longer to say hello is as good as absent."""
CALL_SECONDS = 120
"""For any one later call; a large upload may take its time."""

MAX_CONNECTIONS = 50
"""Kept open. More than a thread pool uses at once, so that none is opened and thrown away with a warning."""

MIN_VERSION = "1.41"
"""Docker Engine 20.10."""

NO_SPACE = "The Docker engine has no disk space left: free some, for instance by `docker system prune`."
NO_IMAGE = "Docker answers but the worker image is missing: run `dynasaur-mcp image build`."
NO_ENGINE = "No Docker engine answers: start Docker, or point DOCKER_HOST at an engine."

NO_RUNTIME = (
    "The Docker engine does not know the runtime that --docker-runtime names: "
    "add it to the engine's daemon.json and restart the engine, or leave the option out."
)


def is_missing(error: OSError) -> bool:
    """Whether the engine said that there is no such thing."""
    return getattr(error, "status_code", None) == 404


def explain(error: OSError) -> str:
    """What kept an engine that answers from doing something, in one sentence."""
    said = str(getattr(error, "explanation", None) or error)
    if "no space left" in said.lower():
        return NO_SPACE
    if "unknown" in said.lower() and "runtime" in said.lower():
        return NO_RUNTIME
    return "Docker did not start a worker: `dynasaur-mcp doctor` checks why."


def patience_seconds() -> float:
    """How long `connect` may take; a name lookup is not bound by the client's own timeout."""
    with contextlib.suppress(Exception):  # boundary: `connect` says what is wrong with the address
        if _find_address()["base_url"].startswith("ssh://"):
            return LOGIN_SECONDS + ANSWER_SECONDS + 1
    return ANSWER_SECONDS + 1


def load_client() -> None:
    """Import `docker`: half a second on a slow machine, which is not the engine's."""
    import docker.context  # noqa: F401


def connect() -> Client:
    """A client of the engine that answered: DOCKER_HOST's, else that of docker's current context.

    Raises:
        SandboxUnavailable: none does.
    """
    from docker import APIClient
    from docker.errors import DockerException

    try:
        where = _find_address()
        if where["base_url"].startswith("ssh://"):
            return _connect_by_ssh(where["base_url"])
        return _connect(where, APIClient)
    except PermissionError as error:
        raise SandboxUnavailable("Docker refuses this user: add the user to the group `docker`.") from error
    except (DockerException, OSError, AttributeError, ValueError) as error:
        # AttributeError: the current context does not exist. ValueError: an address that is none.
        logger.info("no Docker engine: %s", error)
        raise SandboxUnavailable(NO_ENGINE) from error


def _connect(where: dict[str, Any], client_type: Any) -> Client:
    from docker import APIClient

    _knock(where["base_url"])
    # The version is asked for in a client of its own: one that fails to in its constructor cannot be closed.
    with contextlib.closing(APIClient(**where, version=MIN_VERSION, timeout=ANSWER_SECONDS)) as asking:
        asking.trust_env = False
        version = asking.version(api_version=False)["ApiVersion"]
    client = client_type(**where, version=version, timeout=CALL_SECONDS, max_pool_size=MAX_CONNECTIONS)
    # REQUESTS_CA_BUNDLE is meant for the web, and requests would prefer it to the engine's own CA.
    client.trust_env = False
    return client


def _connect_by_ssh(address: str) -> Client:
    from docker import APIClient

    from dynasaur_mcp.sandbox.ssh import Forward

    forward = Forward(address)

    class ForwardedClient(APIClient):
        def close(self) -> None:
            super().close()
            forward.close()

    try:
        return _connect({"base_url": f"unix://{forward.path}"}, ForwardedClient)
    except BaseException:
        forward.close()
        raise


def _find_address() -> dict[str, Any]:
    """`base_url`, and `tls` where it is used."""
    from docker.context import ContextAPI
    from docker.utils import kwargs_from_env

    where: dict[str, Any] = dict(kwargs_from_env())
    if "base_url" not in where:
        context = ContextAPI.get_current_context()
        where = {"base_url": context.Host, "tls": context.TLSConfig or False}
    return where


def _knock(address: str) -> None:
    """Raise plain errors where there is no socket or no right to it; the SDK wraps them and leaves its own end open."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.settimeout(ANSWER_SECONDS)
            knocking.connect(address.removeprefix("unix://"))
