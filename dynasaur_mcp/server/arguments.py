"""What the meta-tools take, and every misfit of what they were given, said at once."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from dynasaur_mcp.errors import ArgumentsInvalid
from dynasaur_mcp.library.rules import MAX_SOURCE_BYTES
from dynasaur_mcp.server.text import clean_line
from dynasaur_mcp.types import JSON, NAME_PATTERN, Problem


class Arguments(BaseModel):
    """Arguments of a meta-tool, as a client sends them."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_object(value: object) -> object:
    """Models often send an object as a string of JSON."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def parse_texts(value: object) -> object:
    """Models often send a list as a string of JSON, or leave it out around one text."""
    parsed = parse_object(value)
    return (parsed,) if isinstance(parsed, str) else parsed


def check_session(value: str) -> str:
    if not NAME_PATTERN.fullmatch(value):
        raise ValueError("name a session with lower-case letters, digits and _, at most 40, a letter first")
    return value


def check_query(value: str) -> str:
    if not value.strip():
        raise ValueError("say in words what it should do")
    return value


Name = Annotated[str, Field(min_length=1, max_length=200)]
Session = Annotated[
    Annotated[str, AfterValidator(check_session)] | None,
    Field(description="Name of a session: the same name finds its state again"),
]


class SearchActions(Arguments):
    query: Annotated[str, AfterValidator(check_query)] = Field(max_length=2000, description="What it should do")
    limit: int = Field(default=5, ge=1, le=50)
    detail: Literal["signature", "full"] = "signature"


class RunPython(Arguments):
    code: str = Field(max_length=MAX_SOURCE_BYTES)
    session: Session = None
    fork_as: Annotated[
        Annotated[str, AfterValidator(check_session)] | None,
        Field(description="First copy the session, variables and files, to this new name"),
    ] = None
    requirements: Annotated[
        tuple[str, ...], BeforeValidator(parse_texts), Field(description="Packages, as `pandas>=2`")
    ] = ()
    timeout_seconds: float | None = Field(default=None, gt=0, le=3600)
    background: bool = Field(default=False, description="Return a run id at once")

    @model_validator(mode="before")
    @classmethod
    def _may_only_fork(cls, given: Any) -> Any:
        return {"code": "", **given} if isinstance(given, dict) and given.get("fork_as") else given


class DefineAction(Arguments):
    source: str | None = Field(
        default=None,
        description="A whole file: imports, helpers, one public function with type hints and a docstring with >>> "
        "examples, optional test_* functions",
    )
    from_session: str | None = Field(
        default=None, max_length=200, description="Instead of source: the session that defined function `name`"
    )
    name: str | None = Field(default=None, max_length=200)
    replaces: str | None = Field(default=None, max_length=200, description="Action this is a new version of")
    anyway: bool = Field(default=False, description="Keep it despite a refusal")
    tags: tuple[str, ...] | None = Field(default=None, description="[] clears")

    @model_validator(mode="after")
    def _has_one_origin(self) -> DefineAction:
        if (self.source is None) == (self.from_session is None):
            raise ValueError("give either source, or from_session with name")
        if self.from_session is not None and self.name is None:
            raise ValueError("from_session needs name, the function to keep")
        return self


class ExecuteAction(Arguments):
    name: Name
    arguments: Annotated[dict[str, Any], BeforeValidator(parse_object)] = Field(default_factory=dict)
    session: Session = None


class ManageAction(Arguments):
    name: str = Field(max_length=200, description="Of an action; of a session to close it")
    op: Literal[
        "show", "history", "diff", "test", "rollback", "pin", "unpin", "enable", "disable", "delete",
        "list_sessions", "close_session",
    ]  # fmt: skip
    version: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _may_only_list(cls, given: Any) -> Any:
        return {"name": "", **given} if isinstance(given, dict) and given.get("op") == "list_sessions" else given


class CheckRun(Arguments):
    run: Name
    wait_seconds: float = Field(default=0.0, ge=0, le=45)
    cancel: bool = False


A = TypeVar("A", bound=Arguments)


def read_arguments(model: type[A], name: str, given: dict[str, JSON]) -> A:
    """The arguments of a meta-tool.

    Raises:
        ArgumentsInvalid: every misfit, and what the tool takes.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        takes = ", ".join(
            f"{field} (required)" if info.is_required() else field for field, info in model.model_fields.items()
        )
        problems = [Problem(describe_misfit(detail, list(model.model_fields))) for detail in error.errors()]
        raise ArgumentsInvalid(f"{name} takes {takes}. Not as given:", problems) from None


def describe_misfit(detail: ErrorDetails, fields: Sequence[str]) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    match detail["type"]:
        case "missing":
            return f"{where}: missing"
        case "extra_forbidden":
            near = difflib.get_close_matches(where, fields, n=1)
            return f"{where}: no such argument" + (f". Did you mean {near[0]!r}?" if near else "")
    message = detail["msg"].removeprefix("Value error, ")
    return f"{where}: {message}, got {clean_line(repr(detail['input']), 80)}" if where else message
