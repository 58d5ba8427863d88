"""Ours and other sandboxes for Python: from nothing to the first answer, a warm call, and `import numpy`.

    python benchmarks/peers.py [--calls 50] [--rounds 3] [--sandboxes docker jail] [--peers llm-sandbox …]

Each peer is installed, by uv, into an environment of its own below the cache folder, unless it is there; those that run
containers get an image made of the workers' with Jupyter and numpy in it. One that does not run is a line with the
reason. The floor is the fastest peer that isolates by Docker; ours are measured whole, over stdio, the peers inside
their process. All take turns in the same run.

cold: open it anew (no warm worker) and print once. warm: print once more. numpy: the first `import numpy` after that.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
import uv
from peer import OURS, Peer, pipes_of
from places import Place, add_place_options, read_places
from timing import check, median, take_turns

from dynasaur_mcp.sandbox.docker import Engine, find_engine
from dynasaur_mcp.settings import read_settings

PEERS = {
    "llm-sandbox": ("llm-sandbox[docker]",),
    "smolagents DockerExecutor": ("smolagents[docker]",),
    "autogen Docker Jupyter": ("autogen-ext[docker-jupyter-executor]",),
    "jupyter_client": ("jupyter_client", "ipykernel", "numpy"),
    "pydantic-monty": ("pydantic-monty",),
}
IN_DOCKER = [name for name in PEERS if name not in ("jupyter_client", "pydantic-monty")]
INSIDE = ("numpy", "ipykernel", "jupyter_kernel_gateway")
IMAGE = "dynasaur-bench-peers"
RECIPE = (
    "USER 0:0",
    "ENTRYPOINT []",
    'CMD ["python3"]',
    "ENV PYTHONPATH=/wheels",
    "COPY wheels /wheels",
    "RUN ln -s $(command -v python3) /usr/local/bin/python",
)
"""For the image of the peers: the workers', with what they want to find in theirs, as root."""
PRINT, IMPORT = "print(1 + 2)", "import numpy; print(3)"
USES_NUMPY = '''# /// script
# dependencies = ["numpy"]
# ///
def mean(values: list[float]) -> float:
    """Mean of some numbers."""
    import numpy

    return float(numpy.mean(values))
'''


Times = dict[str, dict[str, list[float]]]


class Contestant(Protocol):
    """Each method gives the seconds it took, and raises RuntimeError if it did not do."""

    def open(self) -> float: ...

    def run(self, code: str) -> float: ...

    def close(self) -> float: ...


class Rival:
    """A peer, in the process of its own environment."""

    def __init__(self, name: str, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name("rivals.py"), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "DYNASAUR_PEERS_IMAGE": IMAGE},
            text=True,
        )
        self._in, self._out = pipes_of(self._process)

    def open(self) -> float:
        return self._ask(op="open", code=PRINT)

    def run(self, code: str) -> float:
        return self._ask(op="run", code=code)

    def close(self) -> float:
        return self._ask(op="close")

    def leave(self) -> None:
        self._in.close()
        self._process.wait()
        self._out.close()

    def _ask(self, **request: str) -> float:
        self._in.write(json.dumps(request) + "\n")
        self._in.flush()
        answer = json.loads(self._out.readline() or '{"error": "its process ended"}')
        if answer["error"] or (request["op"] != "close" and answer["text"].strip() != "3"):
            raise RuntimeError(answer["error"] or f"a wrong answer, {answer['text']!r}")
        return float(answer["seconds"])


class Ours:
    """Our server, over stdio."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        peer.call("define_action", source=USES_NUMPY)

    def open(self) -> float:
        return self.run(PRINT)

    def run(self, code: str) -> float:
        began = time.perf_counter()
        # The action brings its numpy into the session.
        result = self._peer.call(
            "run_python", code=code.replace("import numpy", "from actions import mean; import numpy")
        )
        seconds = time.perf_counter() - began
        check("3" in result["content"][0]["text"])
        return seconds

    def close(self) -> float:
        self._peer.call("manage_action", op="close_session", name="default")
        return 0.0


@contextmanager
def open_ours(place: Place) -> Iterator[Ours]:
    with (
        tempfile.TemporaryDirectory() as library,
        Peer([*OURS, "--library", library, "--warm-workers", "0", *place.options]) as peer,
    ):
        yield Ours(peer)


def prepare(name: str, folder: Path) -> Path:
    """The python of a peer's environment, which is made if need be."""
    place = folder / name.replace(" ", "-")
    python = place / "bin" / "python"
    if not (place / "whole").exists():
        run_uv("venv", "--clear", "--python", sys.executable, str(place))
        run_uv("pip", "install", "--python", str(python), *PEERS[name])
        (place / "whole").touch()
    return python


def build_image(engine: Engine) -> None:
    with tempfile.TemporaryDirectory() as wheels, io.BytesIO() as context:
        versions = ["--python-version", engine.python_version, "--python-platform", engine.platform]
        run_uv("pip", "install", "--target", wheels, "--only-binary", ":all:", *versions, *INSIDE)
        recipe = "\n".join((f"FROM {engine.image}", *RECIPE, ""))
        with tarfile.open(fileobj=context, mode="w") as archive:
            member = tarfile.TarInfo("Dockerfile")
            member.size = len(recipe)
            archive.addfile(member, io.BytesIO(recipe.encode()))
            archive.add(wheels, "wheels")
        context.seek(0)
        for event in engine.client.build(fileobj=context, custom_context=True, tag=IMAGE, rm=True, decode=True):
            if "error" in event:
                raise RuntimeError(f"its image was not built: {event['error']}")


def run_uv(*arguments: str) -> None:
    done = subprocess.run([uv.find_uv_bin(), "--quiet", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(" ".join(done.stderr.split()))


def enter(stack: ExitStack, name: str, folder: Path) -> Rival:
    rival = Rival(name, prepare(name, folder))
    stack.callback(rival.leave)
    return rival


def measure(contestants: dict[str, Contestant], rounds: int, calls: int) -> tuple[Times, dict[str, str]]:
    """Times by what was measured and of whom; and why some could not be."""
    times: Times = {"cold": {}, "warm": {}, "numpy": {}}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            if name in failed:
                continue
            try:
                times["cold"].setdefault(name, []).append(contestant.open())
                contestant.run(PRINT)
            except RuntimeError as error:
                failed[name] = str(error)
                continue
            with suppress(RuntimeError):  # pydantic-monty has none
                times["numpy"].setdefault(name, []).append(contestant.run(IMPORT))
            contestant.close()
    able = {name: contestant for name, contestant in contestants.items() if name not in failed}
    for contestant in able.values():
        contestant.open()
    turns = {name: partial(contestant.run, PRINT) for name, contestant in able.items()}
    times["warm"] = take_turns(turns, calls, warm_up=5)
    for contestant in able.values():
        contestant.close()
    return times, failed


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=50)
    options.add_argument("--rounds", type=int, default=3, help="of cold starts")
    options.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    options.add_argument("--environments", type=Path, default=read_settings().cache / "peers", metavar="FOLDER")
    add_place_options(options)
    given = options.parse_args()
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        contestants: dict[str, Contestant] = {
            f"ours, {place.name}": stack.enter_context(open_ours(place)) for place in read_places(given)
        }
        if set(given.peers) & set(IN_DOCKER):
            build_image(anyio.run(find_engine, read_settings().image))
        for name in given.peers:
            try:
                contestants[name] = enter(stack, name, given.environments)
            except (RuntimeError, OSError) as error:
                failed[name] = f"not installed: {error}"
        times, broken = measure(contestants, given.rounds, given.calls)
    print_table(times)
    for name, why in (failed | broken).items():
        print(f"{name} did not run: {' '.join(why.split())[:300]}")


def print_table(times: Times) -> None:
    floor = min((median(times["warm"][name]) for name in IN_DOCKER if name in times["warm"]), default=0.0)
    print(f"{'one call, p50 ms':<26} {'cold':>8} {'warm':>8} {'numpy':>8} {'the fastest in Docker takes':>28}")
    for name, warm in times["warm"].items():
        cold, numpy = (
            f"{median(times[what][name]):.0f}" if times[what].get(name) else "-" for what in ("cold", "numpy")
        )
        slower = f"{floor / median(warm):.1f} x" if floor else "-"
        print(f"{name:<26} {cold:>8} {median(warm):>8.2f} {numpy:>8} {slower:>28}")


if __name__ == "__main__":
    main()
