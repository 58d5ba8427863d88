"""The story with agent CLIs, as a user has them: configured by the file that `setup` writes, asked one thing.

Their model is a scripted one on loopback, which sees the tools that they show it and what they tell it of each call.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import tomlkit

from dynasaur_mcp.clients import CLIENTS, SERVER, Machine, write_entry

from .conftest import STORY_SECONDS, Seen, Target
from .endpoint import Call, Script, serve_model
from .install import node
from .story import CALLS, check_seen

DEFINE, DOUBLE, *REST = CALLS


def run(command: Sequence[str | Path], model: str, home: Path, **env: str) -> None:
    """An agent that knows nothing but its home folder."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=STORY_SECONDS,
        stdin=subprocess.DEVNULL,
        cwd=home,
        env={
            "HOME": str(home),
            "PATH": f"{node() / 'bin'}:{os.environ['PATH']}",
            "HTTP_PROXY": model,
            "HTTPS_PROXY": model,
            "NO_PROXY": "127.0.0.1",
            **env,
        },
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def configure(client: str, text: str, home: Path, target: Target) -> None:
    """Write an agent's configuration, to which the command on stdio is added as `setup` does it."""
    machine = Machine("linux", home, {})
    file = Path(CLIENTS[client].file(machine))
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    if "command" in target:
        assert write_entry(CLIENTS[client], machine, [target["command"], *target["args"]])


def test_gemini_cli_sees_an_action_that_it_defined_soon_and_gets_state_an_error_and_an_image(
    target: Target, environment_of: Callable[[str], Path], tmp_path: Path
) -> None:
    reach = {"env": target["env"]} if "env" in target else {"httpUrl": target["url"], "headers": target["headers"]}
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "mcpServers": {SERVER: {**reach, "trust": True}},
    }
    configure("gemini", json.dumps(settings), tmp_path, target)
    program = environment_of("gemini") / "node_modules/.bin/gemini"
    script = Script([DEFINE, *REST, DOUBLE])
    with serve_model(script) as model:
        options = ["--prompt", "Go.", "--yolo", "--skip-trust", "--model", "scripted"]
        run([program, *options], model, tmp_path, GEMINI_API_KEY="none", GOOGLE_GEMINI_BASE_URL=model)
    assert not script.strays
    defined, *rest, called = script.answers
    check_seen(Seen(script.lists[0], script.lists[-1], [defined, called, *rest]))


def test_codex_calls_an_action_that_it_defined_sees_it_the_next_time_and_gets_state_an_error_and_an_image(
    target: Target, environment_of: Callable[[str], Path], tmp_path: Path
) -> None:
    reach = {"env": target["env"]} if "env" in target else {"url": target["url"], "http_headers": target["headers"]}
    program = environment_of("codex") / "node_modules/.bin/codex"

    def ask(calls: Sequence[Call]) -> Script:
        script = Script(calls)
        with serve_model(script) as model:
            provider = {"name": "scripted", "base_url": f"{model}/v1", "wire_api": "responses", "env_key": "NO_KEY"}
            config = {
                "model": "scripted",
                "model_provider": "scripted",
                "check_for_update_on_startup": False,
                "analytics": {"enabled": False},
                "features": {"plugins": False},  # which it would look for on the network
                "model_providers": {"scripted": {**provider, "request_max_retries": 0, "stream_max_retries": 0}},
                "mcp_servers": {SERVER: {**reach, "required": True}},
            }
            configure("codex", tomlkit.dumps(config), tmp_path, target)
            options = ["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "Go."]
            run([program, *options], model, tmp_path, NO_KEY="none")
        assert not script.strays
        return script

    first, second = ask([DEFINE, *REST]), ask([DOUBLE])
    defined, *rest = first.answers
    check_seen(Seen(first.lists[0], second.lists[0], [defined, *second.answers, *rest]))
