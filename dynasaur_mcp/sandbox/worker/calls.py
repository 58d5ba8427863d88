"""Actions in a worker: an action is loaded into its zygote once, and each call is a fork of that.

What is imported here is in every zygote and makes each fork dearer: only what a call needs, the rest on use.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from dynasaur_mcp.sandbox.wire import MAX_VALUE_BYTES
from dynasaur_mcp.sandbox.worker.display import Display, add_figures, display
from dynasaur_mcp.sandbox.worker.imports import add_packages, add_sources
from dynasaur_mcp.sandbox.worker.pages import pages
from dynasaur_mcp.sandbox.worker.problems import describe_exception
from dynasaur_mcp.sandbox.worker.rehearsal import rehearse_beginning, rehearse_end
from dynasaur_mcp.sandbox.worker.schemas import SchemaError, Signature, ValueMisfitError, describe_misfits
from dynasaur_mcp.sandbox.worker.steps import changed_files, now_ns

if TYPE_CHECKING:
    from dynasaur_mcp.sandbox.worker.forker import Channel

_loaded: Signature


def load_action(_channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    """Job `load`: import `action` and become its zygote."""
    global _loaded
    try:
        add_sources(message["sources"])
        add_packages(message["folders"])
        _loaded = Signature(getattr(importlib.import_module(f"actions.{message['action']}"), message["action"]))
    except SchemaError as error:
        return {"ending": "raised", "error": str(error)}
    except BaseException as error:  # boundary: importing user code
        return {"ending": "raised", "error": describe_exception(error)}
    if inspect.iscoroutinefunction(_loaded.function):
        import asyncio  # noqa: F401
    gc.freeze()
    pages.listen()
    return {"ending": "returned"}


def call_action(_channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    """Job `call`, in a fork of the zygote: the loaded action with `arguments`."""
    started = now_ns()
    done = call(_loaded, message["arguments"])
    if done["ending"] != "misfit":
        done["files"] = changed_files(started)
    if done["ending"] == "returned":
        pages.tell()
    return done


def _do_nothing(text: str, number: int = 0) -> str:
    return text[number:]


_nothing = Signature(_do_nothing)


def rehearse_call() -> None:
    """A call of an action that does nothing."""
    message = rehearse_beginning()
    rehearse_end(call(_nothing, {"text": message["text"], "number": message["number"]}))


def call(signature: Signature, arguments: dict[str, Any]) -> dict[str, Any]:
    """What the `done` frame says, but for files."""
    try:
        positional, keywords = signature.read_arguments(arguments)
    except ValidationError as error:
        return {"ending": "misfit", "misfits": describe_misfits(error)}
    done: dict[str, Any] = {"ending": "returned", "value": None, "error": ""}
    try:
        value = signature.function(*positional, **keywords)
        if inspect.iscoroutine(value):
            import asyncio

            value = asyncio.run(value)
        # The action may have raised it for its own work; no reader of the frame has.
        sys.set_int_max_str_digits(sys.int_info.default_max_str_digits)
        shown = Display()
        if signature.is_shown:
            shown = display(value)
            add_figures(shown, value)
            value = shown.text
        else:
            add_figures(shown)
        done |= shown.fields
        value, size = signature.dump_result(value)
        if size > MAX_VALUE_BYTES:
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
    return done
