"""Actions in a worker: an action is loaded into its zygote once, each call is a fork of it; a check runs its tests."""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import gc
import importlib
import inspect
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from dynasaur_mcp.sandbox.worker.forker import Channel
from dynasaur_mcp.sandbox.worker.imports import add_sources
from dynasaur_mcp.sandbox.worker.problems import describe_exception
from dynasaur_mcp.sandbox.worker.schemas import SchemaError, Signature, ValueMisfitError, describe_misfits
from dynasaur_mcp.sandbox.worker.steps import changed_files, now_ns

MAX_VALUE_BYTES = 2 << 20
MAX_FAILURES = 20
_MAX_FAILURE_CHARACTERS = 2000

_loaded: Signature


def load_action(_channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    """Job `load`: import `action` and become its zygote."""
    global _loaded
    try:
        add_sources(message["sources"], message["folders"])
        _loaded = Signature(getattr(importlib.import_module(f"actions.{message['action']}"), message["action"]))
    except SchemaError as error:
        return {"ending": "raised", "error": str(error)}
    except BaseException as error:  # boundary: importing user code
        return {"ending": "raised", "error": describe_exception(error)}
    gc.freeze()
    return {"ending": "returned"}


def call_action(_channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    """Job `call`, in a fork of the zygote: the loaded action with `arguments`."""
    from pydantic import ValidationError

    started = now_ns()
    try:
        positional, keywords = _loaded.read_arguments(message["arguments"])
    except ValidationError as error:
        return {"ending": "misfit", "misfits": describe_misfits(error)}
    done: dict[str, Any] = {"ending": "returned", "value": None, "error": ""}
    try:
        value = _loaded.function(*positional, **keywords)
        if inspect.iscoroutine(value):
            value = asyncio.run(value)
        value = _loaded.dump_result(value)
        if (size := len(json.dumps(value))) > MAX_VALUE_BYTES:
            limit = f"It returned {size:,} bytes; at most {MAX_VALUE_BYTES:,} can be carried back."
            done.update(ending="output", error=f"{limit} Write it to a file in the workspace and return the path.")
        else:
            done["value"] = value
    except ValueMisfitError as error:
        done.update(ending="raised", error=str(error))
    except MemoryError as error:
        done.update(ending="memory", error=describe_exception(error))
    except BaseException as error:  # boundary: user code
        done.update(ending="raised", error=describe_exception(error))
    done["files"] = changed_files(started)
    return done


def check_action(channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    """Job `check`: import `action`, make its schemas, run its tests. Says each phase before it begins."""
    name = message["action"]
    done: dict[str, Any] = {"ending": "returned", "problems": [], "schemas": None, "passed": 0, "failures": []}
    channel.send({"phase": "import"})
    try:
        add_sources(message["sources"], message["folders"])
        module = importlib.import_module(f"actions.{name}")
        done["schemas"] = Signature(getattr(module, name)).schemas()
        for test, failure in _run_tests(channel, module):
            if not failure:
                done["passed"] += 1
            elif len(done["failures"]) < MAX_FAILURES:
                done["failures"].append(f"{test}: {failure[:_MAX_FAILURE_CHARACTERS]}")
    except SchemaError as error:
        done["problems"] = [str(error)]
    except KeyboardInterrupt:
        done["ending"] = "raised"
    except BaseException as error:  # boundary: importing user code
        done["problems"] = [f"Importing it failed:\n{describe_exception(error)}"]
    return done


def _run_tests(channel: Channel, module: ModuleType) -> Iterator[tuple[str, str]]:
    """Name and failure (empty if it passed) of each docstring with examples and each `test_*` function."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for test in filter(lambda test: test.examples, finder.find(module, module.__name__)):
        name = f"doctest of {test.name.rpartition('.')[2]}"
        channel.send({"phase": name})
        yield name, _run_doctest(test)
    for name, function in list(vars(module).items()):
        if name.startswith("test_") and inspect.isfunction(function):
            channel.send({"phase": name})
            yield name, _run_test(function)


def _run_doctest(test: doctest.DocTest) -> str:
    report = io.StringIO()
    try:
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.REPORT_ONLY_FIRST_FAILURE)
        runner.run(test, out=report.write)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # boundary: user code
        return describe_exception(error)
    return report.getvalue().strip().lstrip("*").strip()


def _run_test(function: Any) -> str:
    with contextlib.ExitStack() as stack:
        arguments = {}
        for name in inspect.signature(function).parameters:
            if name != "tmp_path":
                return f"takes {name!r}; a test of an action takes no arguments, or pytest's tmp_path"
            arguments[name] = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            value = function(**arguments)
            if inspect.iscoroutine(value):
                asyncio.run(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # boundary: user code
            return describe_exception(error)
    return ""
