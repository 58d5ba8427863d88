"""Whether functions pass their doctests, each in a process of its own. A program that `run_doctests` starts."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import json
import os
import select
import subprocess
import sys
import tempfile
import time
import types
import warnings
from pathlib import Path

SECONDS = 20.0
"""For the doctests of one function."""
OPTIONS = doctest.ELLIPSIS | doctest.REPORT_ONLY_FIRST_FAILURE
"""As the worker has them."""


def run_doctests(jobs: list[tuple[str, str, str]]) -> dict[str, str]:
    """`module.name` -> how its doctests failed, empty if they passed.

    Args:
        jobs: Module, name, and the source of a file of its own, or empty for the function where it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", str(Path(__file__).absolute())]
        ran = subprocess.run(
            command, input=json.dumps(jobs), capture_output=True, text=True, check=True, cwd=folder, timeout=3600
        )
    return dict(map(json.loads, ran.stdout.splitlines()))


def serve_doctests() -> None:
    """Each function in a fork of this process, which has imported its module."""
    warnings.simplefilter("ignore")
    for module, name, source in json.load(sys.stdin):
        with contextlib.suppress(Exception):
            if not source:
                importlib.import_module(module)
        ours, theirs = os.pipe()
        if (pid := os.fork()) == 0:
            devnull = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(devnull, descriptor)
            try:
                failure = run_doctest(module, name, source)
            except BaseException as error:
                failure = f"{type(error).__name__}: {error}"
            os.write(theirs, failure[-4000:].encode("utf-8", "replace"))
            os._exit(0)
        os.close(theirs)
        failure = read_until(ours, time.monotonic() + SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(ours)
        print(json.dumps((f"{module}.{name}", failure)), flush=True)


def read_until(descriptor: int, deadline: float) -> str:
    data = b""
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(descriptor, 1 << 16)
        if not part:
            return data.decode("utf-8", "replace")
        data += part
    return "did not end in time"


def run_doctest(module: str, name: str, source: str) -> str:
    if source:
        made = types.ModuleType(f"actions.{name}")
        made.__file__ = f"actions/{name}.py"
        sys.modules[made.__name__] = made
        exec(compile(source, made.__file__, "exec", dont_inherit=True), made.__dict__)
    else:
        made = importlib.import_module(module)
    docstring = getattr(made, name).__doc__ or ""
    test = doctest.DocTestParser().get_doctest(docstring, dict(vars(made)), name, None, 0)
    report = io.StringIO()
    doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(test, out=report.write)
    return report.getvalue()


if __name__ == "__main__":
    serve_doctests()
