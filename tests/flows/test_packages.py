"""Packages as a client meets them: asked for by steps and actions, refused, slow to come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest

from .conftest import OpenClient

pytestmark = pytest.mark.anyio


def action(name: str, requirement: str, uses: str = "", value: int = 1) -> str:
    imported = f"from actions import {uses}\n" if uses else ""
    return f'''\
# /// script
# dependencies = ["{requirement}"]
# ///
{imported}
def {name}() -> int:
    """Nothing but need a package.

    >>> {name}()
    {value}
    """
    return {value}
'''


async def test_step_and_action_use_packages_of_the_index(open_client: OpenClient, sandbox: str) -> None:
    async with open_client(sandbox) as model:
        await model.text("run_python", code="kept = 'a: 1'")
        assert 'requirements=["pyyaml"]' in await model.error("run_python", code="import yaml")
        code = "import yaml\nyaml.safe_load(kept)"
        assert "{'a': 1}" in await model.text("run_python", code=code, requirements=["PyYAML"])
        block = "# /// script\n# dependencies = ['python-dateutil']\n# ///\n"
        code = f"{block}from dateutil.parser import parse\nparse('1 May 2026').day, yaml.safe_load(kept)"
        assert "(1, {'a': 1})" in await model.text("run_python", code=code)
        assert "now a tool" in await model.text("define_action", source=action("need_yaml", "pyyaml"))
        assert (await model.call("need_yaml")).structured_content == {"result": 1}


@pytest.mark.usefixtures("_jail")
async def test_requirements_may_be_one_text_or_a_list_as_json(open_client: OpenClient) -> None:
    async with open_client("jail") as model:
        for given in ("six", '["six"]'):
            assert "six" in await model.text("run_python", code="import six; six.__name__", requirements=given)


@pytest.mark.usefixtures("_jail")
async def test_broken_block_at_the_top_of_a_step_is_told(open_client: OpenClient) -> None:
    async with open_client("jail") as model:
        message = await model.error("run_python", code="# /// script\n# dependencies = [\n# ///\n1")
        assert "The code was not run" in message
        assert "TOML" in message
        source = "text = '''\n# /// script\n# dependencies = [\n# ///\n'''\nlen(text)"
        assert "Value" in await model.text("run_python", code=source)


@pytest.mark.usefixtures("_jail")
async def test_conflict_between_actions_is_named_with_who_needs_what(open_client: OpenClient) -> None:
    async with open_client("jail") as model:
        await model.text("define_action", source=action("inner", "six<1.16"))
        message = await model.error("define_action", source=action("outer", "six>=1.16", "inner", 2))
        assert "'outer' needs six>=1.16; 'inner' (which it uses) needs six<1.16: no versions fit" in message
        await model.text("define_action", source=action("outer", "six<1.17", "inner", 2))
        await model.text("define_action", source=action("inner", "six>=1.17"), replaces="inner", anyway=True)
        message = await model.error("outer")
        assert "'outer' needs six<1.17; 'inner' (which it uses) needs six>=1.17: no versions fit" in message
        code = "from actions import inner\n1"
        message = await model.error("run_python", code=code, requirements=["six==1.16.0"])
        assert "this step needs six==1.16.0; 'inner' (which this step uses) needs six>=1.17" in message


@pytest.mark.usefixtures("_jail")
async def test_packages_are_refused_by_policy_with_the_way_to_allow_them(open_client: OpenClient) -> None:
    async with open_client("jail", packages="none") as model:
        message = await model.error("run_python", code="1", requirements=["six"])
        assert "'six' is refused: this server installs no packages" in message
        assert "`--packages any`" in message
        assert "'six' is refused" in await model.error("define_action", source=action("need_six", "six"))
        assert "Value" in await model.text("run_python", code="1 + 1")
    async with open_client("jail", packages="listed", packages_allowed="Jinja2") as model:
        assert "1" in await model.text("run_python", code="import markupsafe; 1", requirements=["jinja2"])
        message = await model.error("define_action", source=action("need_six", "six"))
        assert "'six' is not among the packages that may be installed here" in message
        assert "--packages-allowed" in message


@dataclass(frozen=True)
class SlowIndex:
    """A package index that has nothing, and keeps uv waiting for that."""

    asked: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def slow_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowIndex]:
    index = SlowIndex()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.set()
            index.released.wait()
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    settings = tmp_path / "uv.toml"
    settings.write_text(f'index-url = "http://127.0.0.1:{server.server_port}/"\ncache-dir = "{tmp_path / "uv"}"\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(settings))
    yield index
    index.released.set()
    server.shutdown()
    serving.join()
    server.server_close()


def installers() -> list[psutil.Process]:
    """Every uv that a server of this test runs."""
    return [child for child in psutil.Process().children(recursive=True) if child.name() == "uv"]


@pytest.fixture
def _jail(require: Callable[[str], None]) -> None:
    require("jail")


@pytest.mark.usefixtures("_jail")
async def test_install_costs_a_step_none_of_its_time_and_is_handed_over_like_any_run(
    open_client: OpenClient, slow_index: SlowIndex
) -> None:
    async with open_client("jail", wait_seconds=0.1) as model:
        started = await model.text("run_python", code="1", requirements=["absent"], timeout_seconds=0.01)
        run = started.split("run '")[1].split("'")[0]
        assert await anyio.to_thread.run_sync(slow_index.asked.wait, 30)
        assert installers()
        slow_index.released.set()
        assert "'absent' cannot be installed" in await model.error("check_run", run=run, wait_seconds=30)


@pytest.mark.usefixtures("_jail")
async def test_cancelling_a_run_stops_its_installer(open_client: OpenClient, slow_index: SlowIndex) -> None:
    async with open_client("jail", wait_seconds=0.1) as model:
        await model.text("run_python", code="kept = 1")
        started = await model.text("run_python", code="1", requirements=["absent"])
        assert await anyio.to_thread.run_sync(slow_index.asked.wait, 30)
        assert installers()
        run = started.split("run '")[1].split("'")[0]
        assert "cancelled" in await model.error("check_run", run=run, cancel=True)
        assert installers() == []
        with anyio.fail_after(30):
            assert "1" in await model.text("run_python", code="kept")
