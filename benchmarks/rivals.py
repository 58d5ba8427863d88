"""Other sandboxes, each in an environment of its own: `python rivals.py NAME` opens one, runs code in it, closes it.

Started by peers.py, with which it speaks JSON lines: {"op": "open" | "run" | "close", "code"} is answered with what was
printed and the seconds it took in here, or with an error. Imports nothing of ours. All containers are on the host's
network, as published ports need a bridge, which not every engine has.
"""

import asyncio
import contextlib
import functools
import json
import os
import secrets
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

IMAGE = os.environ.get("DYNASAUR_PEERS_IMAGE", "")
Run = Callable[[str], str]
"""Runs code in what is open; gives what it printed."""


@contextmanager
def open_llm_sandbox() -> Iterator[Run]:
    """Each run is a file copied in and a new process. Its other kind of session polls ten times a second."""
    from llm_sandbox import SandboxSession

    with SandboxSession(
        lang="python", image=IMAGE, skip_environment_setup=True, runtime_configs={"network_mode": "host"}
    ) as session:
        yield lambda code: str(session.run(code).stdout)


@contextmanager
def open_smolagents() -> Iterator[Run]:
    from smolagents.monitoring import AgentLogger, LogLevel
    from smolagents.remote_executors import DockerExecutor

    run_on_host_network()
    port = find_port()
    executor = DockerExecutor(
        [],
        AgentLogger(level=LogLevel.OFF),
        port=port,
        image_name=IMAGE,
        build_new_image=False,
        container_run_kwargs={"command": gateway(port)},
    )
    try:
        yield lambda code: executor.run_code_raise_errors(code).logs
    finally:
        executor.container.remove(force=True)  # its own way waits ten seconds


@contextmanager
def open_autogen() -> Iterator[Run]:
    """Its own server class can only publish ports, so the container is started here as that would."""
    import docker
    from autogen_core import CancellationToken
    from autogen_core.code_executor import CodeBlock
    from autogen_ext.code_executors.docker_jupyter import DockerJupyterCodeExecutor
    from autogen_ext.code_executors.docker_jupyter._jupyter_server import JupyterConnectionInfo

    port, token = find_port(), secrets.token_hex(16)
    engine = docker.from_env()
    container = engine.containers.run(
        IMAGE, gateway(port), detach=True, network_mode="host", environment={"KG_AUTH_TOKEN": token}
    )
    loop = asyncio.new_event_loop()
    try:
        await_gateway(port, token)
        executor = DockerJupyterCodeExecutor(JupyterConnectionInfo("127.0.0.1", False, port, token))
        loop.run_until_complete(executor.start())

        def run(code: str) -> str:
            executing = executor.execute_code_blocks([CodeBlock(code, "python")], CancellationToken())
            return str(loop.run_until_complete(executing).output)

        yield run
        loop.run_until_complete(executor.stop())
    finally:
        loop.close()
        container.remove(force=True)
        engine.close()


@contextmanager
def open_jupyter_client() -> Iterator[Run]:
    """A kernel of this machine: no sandbox at all."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel()
    try:

        def run(code: str) -> str:
            printed: list[str] = []
            client.execute_interactive(code, output_hook=lambda m: printed.append(m["content"].get("text", "")))
            return "".join(printed)

        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@contextmanager
def open_monty() -> Iterator[Run]:
    """An interpreter of its own for a part of Python: no packages."""
    from pydantic_monty import CollectString, Monty

    with Monty() as pool, pool.checkout() as session:

        def run(code: str) -> str:
            printed = CollectString()
            session.feed_run(code, print_callback=printed)
            return str(printed.output)

        yield run


RIVALS: dict[str, Callable[[], contextlib.AbstractContextManager[Run]]] = {
    "llm-sandbox": open_llm_sandbox,
    "smolagents DockerExecutor": open_smolagents,
    "autogen Docker Jupyter": open_autogen,
    "jupyter_client": open_jupyter_client,
    "pydantic-monty": open_monty,
}


@functools.cache
def run_on_host_network() -> None:
    """The docker SDK refuses ports on the host's network, and this peer cannot be told to publish none."""
    from docker.models.containers import ContainerCollection

    owner: Any = ContainerCollection
    run = owner.run

    def run_without_ports(self: object, image: str, **options: object) -> object:
        return run(self, image, **{**options, "ports": None, "network_mode": "host"})

    owner.run = run_without_ports


def gateway(port: int) -> list[str]:
    options = {"ip": "127.0.0.1", "port": port}
    settings = [f"--KernelGatewayApp.{name}={value}" for name, value in options.items()]
    return ["python3", "-m", "kernel_gateway", *settings]


def await_gateway(port: int, token: str) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/kernelspecs", headers={"Authorization": f"token {token}"}
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(request, timeout=2).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def main() -> None:
    # What a peer prints is not for the other end.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    stack = contextlib.ExitStack()
    for line in sys.stdin:
        request = json.loads(line)
        began, text, error = time.perf_counter(), "", ""
        try:
            match request["op"]:
                case "open":
                    run = stack.enter_context(RIVALS[sys.argv[1]]())
                    text = run(request["code"])
                case "run":
                    text = run(request["code"])
                case "close":
                    stack.close()
        except BaseException as failed:  # boundary: a peer that does not run is a line of the table
            error = f"{type(failed).__name__}: {failed}"
        print(
            json.dumps({"seconds": time.perf_counter() - began, "text": text, "error": error}), file=answers, flush=True
        )


main()
