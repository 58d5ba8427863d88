"""A function's signature as pydantic models: JSON in, JSON out, and the schemas of both."""

from __future__ import annotations

import collections.abc
import inspect
import json
import types
import typing
import warnings
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.json_schema import PydanticJsonSchemaWarning

from dynasaur_mcp.sandbox.wire import MAX_SCHEMAS_BYTES, encode_json, measure
from dynasaur_mcp.sandbox.worker.display import is_picture, is_table

MAX_MISFITS = 20


class SchemaError(Exception):
    """A type of the signature has no JSON form; the message says which and what to do."""


class ValueMisfitError(Exception):
    """What the function returned does not fit its return type, or JSON cannot hold it."""


class Signature:
    """How an action is called with JSON. `*values` are a list; an optional function keeps its default.

    Raises:
        SchemaError
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.parameters = list(inspect.signature(function).parameters.values())
        self.takes_several = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in self.parameters)
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except Exception as error:  # boundary: evaluating annotations of user code
            raise SchemaError(f"A type annotation cannot be evaluated: {type(error).__name__}: {error}") from None
        # Fields get neutral names: a parameter may be called `schema` or `model_x`, which pydantic keeps for itself.
        fields: dict[str, Any] = {}
        for number, parameter in enumerate(self.parameters):
            hint = hints.get(parameter.name, Any)
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                hint, default = list[hint], []  # type: ignore[valid-type]
            if default is not ... and _is_code(hint):
                continue
            _require_json_form(f"parameter {parameter.name!r}", hint, "validation")
            fields[f"p{number}"] = (Annotated[hint, Field(alias=parameter.name)], default)
        self.model: type[BaseModel] = create_model(
            "Arguments",
            __config__=ConfigDict(extra="forbid"),
            **fields,
        )
        returns = hints.get("return", Any)
        self.is_shown = isinstance(returns, type) and (is_picture(returns) or is_table(returns))
        """What it returns is given as text, with a picture or a file beside."""
        if self.is_shown:
            returns = str
        origin = typing.get_origin(returns) or returns
        if str(origin).rpartition(".")[2] in ("TypeGuard", "TypeIs"):
            returns = bool
        elif origin is collections.abc.Iterator:  # which pydantic does not know
            returns = collections.abc.Iterable[typing.get_args(returns)[:1] or Any]  # type: ignore[misc]
        _require_json_form("the return value", returns, "serialization")
        self.returns: TypeAdapter[Any] = TypeAdapter(returns)

    def read_arguments(self, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments, converted.

        Raises:
            ValidationError: every misfit at once.
        """
        model = self.model.model_validate_json(encode_json(arguments), by_alias=True)
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for number, parameter in enumerate(self.parameters):
            value = getattr(model, f"p{number}", parameter.default)
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                positional += value
            elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY or (
                self.takes_several and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            ):
                positional.append(value)
            else:
                keywords[parameter.name] = value
        return positional, keywords

    def dump_result(self, value: Any) -> tuple[Any, int]:
        """The return value as JSON has it, and how many bytes it takes.

        Raises:
            ValueMisfitError
        """
        if _is_of_numpy(value):
            value = value.tolist()
        try:
            valid = self.returns.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueMisfitError(
                f"The return value does not fit its type annotation{' at ' + where if where else ''}: {first['msg']}."
                " Correct the annotation or the value."
            ) from None
        try:
            dumped = self.returns.dump_python(valid, mode="json", by_alias=True, warnings=False, fallback=_dump_other)
            size = measure(dumped)
        except Exception as error:  # boundary: serialising what user code made
            raise ValueMisfitError(
                f"JSON cannot hold the return value: {str(error).splitlines()[0]}. "
                "Return text, finite numbers, booleans, None, lists and dicts of them."
            ) from None
        return dumped, size

    def schemas(self) -> dict[str, Any]:
        """`input`, `output`, `wraps_result`, as in `Schemas`.

        Raises:
            SchemaError: they are too large.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
            given = _self_contained(self.model.model_json_schema(by_alias=True))
            result = _self_contained(self.returns.json_schema(mode="serialization", by_alias=True))
        given.setdefault("properties", {})
        wraps = result.get("type") != "object" or bool({"anyOf", "oneOf", "allOf"} & set(result))
        if wraps:
            result = {"type": "object", "properties": {"result": result}, "required": ["result"]}
        result.setdefault("properties", {})
        schemas = {"input": given, "output": result, "wraps_result": wraps}
        if (size := measure(schemas)) > MAX_SCHEMAS_BYTES:
            raise SchemaError(
                f"The schemas of its types take {size:,} bytes: {MAX_SCHEMAS_BYTES:,} at most, as each client reads "
                "them. Shorten what a Literal, an Enum or a default lists, or take plainer types."
            )
        return schemas


def _is_of_numpy(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist")


def _dump_other(value: Any) -> Any:
    """What pydantic knows nothing of: numbers and arrays of numpy, deep in a value whose type does not say so."""
    if _is_of_numpy(value):
        return value.tolist()
    raise TypeError(f"there is a {type(value).__qualname__} in it")


def describe_misfits(error: ValidationError) -> list[str]:
    """One sentence for each part that does not fit, up to MAX_MISFITS."""
    misfits = []
    items = error.errors(include_url=False, include_context=False)
    for item in items[:MAX_MISFITS]:
        where = ".".join(map(str, item["loc"]))
        if item["type"] == "missing":
            misfits.append(f"{where!r} is missing")
        elif item["type"] == "extra_forbidden":
            misfits.append(f"{where!r} is not a parameter")
        else:
            got = json.dumps(item["input"], default=repr)
            misfits.append(f"{where!r}: {item['msg']}, got {got if len(got) <= 80 else got[:79] + '…'}")
    if len(items) > MAX_MISFITS:
        misfits.append(f"and {len(items) - MAX_MISFITS:,} more")
    return misfits


def _is_code(hint: Any) -> bool:
    """Whether it is a function's type, or that or None: no caller can give one."""
    origin = typing.get_origin(hint)
    if origin is Annotated or origin is typing.Union or origin is types.UnionType:
        inner = typing.get_args(hint)[:1] if origin is Annotated else typing.get_args(hint)
        return all(each is type(None) or _is_code(each) for each in inner)
    return (origin or hint) is collections.abc.Callable


def _require_json_form(what: str, annotation: Any, mode: Any) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
            TypeAdapter(annotation).json_schema(mode=mode)
    except Exception as error:  # boundary: pydantic on types of user code
        shown = getattr(annotation, "__name__", None) or str(annotation)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SchemaError(
            f"The type {shown} of {what} has no JSON form ({reason.rstrip('.')}). Use text, numbers, bool, list, dict, "
            "date, Literal, Enum, dataclass, TypedDict, a pydantic model, or a path to a file."
        ) from None


def _self_contained(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with every `$ref` replaced by what it names, any value for a type within itself, and no titles."""
    definitions = schema.pop("$defs", {})

    def inline(node: Any, open_names: tuple[str, ...], is_schema: bool = True) -> Any:
        if isinstance(node, list):
            return [inline(item, open_names) for item in node]
        if not isinstance(node, dict):
            return node
        if is_schema and isinstance(node.get("$ref"), str):
            name = node["$ref"].rpartition("/")[2]
            beside = {key: value for key, value in node.items() if key != "$ref"}
            if name in open_names:
                return beside
            return inline({**definitions.get(name, {}), **beside}, (*open_names, name))
        kept = {}
        for key, value in node.items():
            # What is left with a `$` would have clients read it by the rules of another, or fetch it.
            if is_schema and (key in ("title", "discriminator") or key.startswith("$")):
                continue
            if is_schema and key == "default" and not _is_json(value):
                continue
            if is_schema and key in ("default", "const", "enum", "examples"):
                kept[key] = value
            else:
                kept[key] = inline(value, open_names, not (is_schema and key in ("properties", "patternProperties")))
        return kept

    inlined: dict[str, Any] = inline(schema, ())
    return inlined


def _is_json(value: Any) -> bool:
    """Infinity, a fine default of a bound, is none."""
    try:
        return bool(json.dumps(value, allow_nan=False))
    except ValueError:
        return False
