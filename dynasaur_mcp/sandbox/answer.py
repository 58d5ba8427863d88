"""What a worker answers, checked like any input from outside: user code runs where it comes from."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from dynasaur_mcp.sandbox.wire import MAX_SCHEMAS_BYTES, measure

_TEXTS = 25
_TEXT_CHARACTERS = 21_000


class _File(BaseModel):
    path: str = Field(max_length=4096)
    size_bytes: int = Field(ge=0)


class _Item(BaseModel):
    name: str = Field(pattern=r"^[^/\x00]{1,255}$")
    kind: Literal["file", "folder", "other"]
    size_bytes: int = Field(ge=0)

    @field_validator("name")
    @classmethod
    def _leads_nowhere(cls, name: str) -> str:
        if name in (".", ".."):
            raise ValueError(name)
        return name


class _Picture(BaseModel):
    mime_type: Literal["image/png"]
    base64: str = Field(pattern=r"^[A-Za-z0-9+/]*=*$", max_length=1 << 20)


def _cut(texts: list[str]) -> list[str]:
    return [text[:_TEXT_CHARACTERS] for text in texts[:_TEXTS]]


_Texts = Annotated[list[str], AfterValidator(_cut)]
"""Told whole to who calls an action, whoever wrote that: together they fit the message of an answer."""


_DATA = ("const", "default", "enum", "examples")
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""What holds data, and what holds schemas by name, in a schema."""


class _Schemas(BaseModel):
    """Published to every client, whose validators would fetch what a reference names."""

    input: dict[str, Any]
    output: dict[str, Any]
    wraps_result: bool

    @field_validator("input", "output")
    @classmethod
    def _stands_alone(cls, schema: dict[str, Any]) -> dict[str, Any]:
        if schema.get("type") != "object" or measure(schema) > MAX_SCHEMAS_BYTES:
            raise ValueError("no schema of an object")
        waiting: list[tuple[Any, bool]] = [(schema, True)]
        while waiting:
            node, is_schema = waiting.pop()
            if isinstance(node, list):
                waiting += [(each, True) for each in node]
            elif isinstance(node, dict):
                if any(key.startswith("$") and isinstance(value, str) for key, value in node.items()):
                    raise ValueError("a reference")
                # Of parameters by name, one may be called as what holds no schema in a schema.
                waiting += [
                    (value, not (is_schema and key in _BY_NAME))
                    for key, value in node.items()
                    if not (is_schema and key in _DATA)
                ]
        return schema


class Done(BaseModel):
    """A `done` frame. It comes from where user code runs: checked like any input from outside."""

    # Lists by factory: a plain default is copied deeply each time, which took a tenth of the server's share of a call.
    model_config = ConfigDict(extra="ignore", strict=True)

    ending: Literal[
        "returned",
        "raised",
        "timeout",
        "memory",
        "output",
        "lost",
        "cancelled",
        "misfit",
        "unknown",
        "gone",
        "ruined",
        "full",
        "hung",
    ]
    value: Any = None
    shown: str = Field(default="", max_length=1 << 19)
    error: str = ""
    files: list[_File] = Field(default_factory=list, max_length=50)
    images: list[_Picture] = Field(default_factory=list, max_length=4)
    links: list[Annotated[str, Field(max_length=4096)]] = Field(default_factory=list, max_length=20)
    remarks: list[Annotated[str, Field(max_length=1000)]] = Field(default_factory=list, max_length=50)
    """On how the value is shown."""
    defined: list[str] = Field(default_factory=list)
    ran: str | None = None
    """Of a step that raised, the code that counts; None if all of it ran."""
    misfits: _Texts = Field(default_factory=list)
    dropped_bytes: int = 0
    in_place: bool = False
    killed: bool = False
    session_lost: bool = False
    taken_back: bool = False
    """The step before was undone after its answer, as no other could be run in what it had left."""
    other_versions: list[Annotated[str, Field(max_length=200)]] = Field(default_factory=list, max_length=50)
    """Packages asked for that a step's interpreter has imported in another version."""
    phase: str = ""
    bytes: int = Field(default=0, ge=0)
    problems: _Texts = Field(default_factory=list)
    is_unfit: bool = False
    schemas: _Schemas | None = None
    passed: int = 0
    failures: _Texts = Field(default_factory=list)
    as_new: bool = False
    """After a check: nothing of it is left in the worker."""
    items: list[_Item] = Field(default_factory=list)
    total: int = Field(default=0, ge=0)
    data: str = ""
    offset: int = Field(default=0, ge=0)
    size_bytes: int = Field(default=0, ge=0)


class Answer:
    """A request's end and all it printed."""

    def __init__(self) -> None:
        self.done = Done(ending="lost")
        self.texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self.started = time.monotonic()

    def text(self, stream: str) -> str:
        return "".join(self.texts[stream])
