"""The Docker engine: where it is and whether it answers. The only module that imports `docker`.

`docker` is imported on use: a server that only lists its tools needs neither it nor an engine.
Its errors are caught as OSError: APIError and everything of requests are one; DockerException alone is not.
"""

from __future__ import annotations

import logging
from typing import Any, TypeAlias

from dynasaur_mcp.errors import SandboxUnavailable

Client: TypeAlias = Any
"""`docker.APIClient`: its stubs leave half of what is used here untyped."""

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 2
"""An engine that takes longer to say hello is as good as absent."""
CALL_SECONDS = 120
"""For any one later call; a large upload may take its time."""

NO_ENGINE = "No Docker engine answers: start Docker, or point DOCKER_HOST at an engine."


def is_missing(error: OSError) -> bool:
    """Whether the engine said that there is no such thing."""
    return getattr(error, "status_code", None) == 404


def connect() -> Client:
    """A client of the engine that answered.

    Raises:
        SandboxUnavailable: none does.
    """
    from docker.context import ContextAPI
    from docker.errors import DockerException

    import docker

    try:
        where: dict[str, Any] = docker.utils.kwargs_from_env()
        if "base_url" not in where:
            context = ContextAPI.get_current_context()
            where = {"base_url": context.Host, "tls": context.TLSConfig or False}
        if str(where["base_url"]).startswith("ssh:"):
            raise SandboxUnavailable(
                "Docker over ssh is not supported: forward its socket with `ssh -L` and point DOCKER_HOST at that."
            )
        client = docker.APIClient(**where, version="auto", timeout=ANSWER_SECONDS)
    except (DockerException, OSError, AttributeError, ValueError) as error:
        # AttributeError: the current context does not exist. ValueError: an address that is none.
        logger.info("no Docker engine: %s", error)
        if "ermission denied" in str(error):
            raise SandboxUnavailable("Docker refuses this user: add the user to the group `docker`.") from error
        raise SandboxUnavailable(NO_ENGINE) from error
    client.timeout = CALL_SECONDS
    return client
