"""The words every part of the project speaks. Plain frozen values; nothing here runs, reads or writes anything.

All in one file, though it is a long one: whoever meets a word looks for it here, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal, NamedTuple

JSON = Any
"""Whatever `json.loads` gives back."""

META_TOOLS = (
    "search_actions",
    "run_python",
    "define_action",
    "execute_action",
    "manage_action",
    "check_run",
)
"""Names of the meta-tools. No action may bear one."""

LOCAL = "local"
"""The principal of every client on stdio, and of commands."""

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
"""What an action (and a session) may be called, as a full match."""


RECENT_CALLS = 10
"""Of an action's current version, remembered one by one."""
ENOUGH_CALLS = 5
"""Recent calls from which on an action may be said to fail."""


class Status(StrEnum):
    """Where an action is in its life."""

    DRAFT = "draft"
    """Defined without a passing test: callable, not exposed as a tool."""
    ACTIVE = "active"
    """Its tests passed in a fresh worker."""
    DISABLED = "disabled"
    """Kept, not callable, not found by search."""


class Ending(StrEnum):
    """How a call or a run ended."""

    RETURNED = "returned"
    RAISED = "raised"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"
    """It returned more than may be carried back."""
    LOST = "lost"
    """Its process, or the whole worker, is gone."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule: what is wrong, then what to do.

    `line` is 1-based in the source the caller sent, or None where no line is to blame.
    """

    message: str
    line: int | None = None

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter as written: `annotation` and `default` are source text, `default` None where there is none."""

    name: str
    annotation: str
    default: str | None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """One public Python function with its file, as its source says; read by parsing, never by running."""

    name: str
    source: str
    sha256: str
    signature: str
    """`describe_column(path: str, column: str) -> dict[str, float]`"""
    docstring: str
    """Whole and dedented."""
    parameters: tuple[Parameter, ...]
    returns: str
    examples: tuple[str, ...]
    """The code of each doctest example, without prompts."""
    requirements: tuple[str, ...] = ()
    """PEP 508, from the file's PEP 723 block."""
    network: tuple[str, ...] = ()
    """Hosts it needs, in the normal form of `hosts`; likewise."""
    tags: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    """Names of the actions it imports, sorted."""
    advice: tuple[str, ...] = ()
    """What would make it worth more, as it was told to who defined it; none for a file of the folder."""
    shape: str = ""
    """As `shape.hash_shape`."""

    @property
    def summary(self) -> str:
        """The docstring's first paragraph up to an example in it, on one line of at most 200 printable characters."""
        paragraph = " ".join(self.docstring.strip().split("\n\n")[0].partition(">>>")[0].split())
        clean = "".join(character for character in paragraph if character.isprintable())
        return clean if len(clean) <= 200 else clean[:199] + "…"


@dataclass(frozen=True, slots=True)
class Tests:
    """What running an action's doctests and `test_*` functions gave. One doctest is one docstring with examples."""

    __test__: ClassVar[bool] = False
    """For pytest, which takes a class of this name for a group of tests."""

    passed: int = 0
    failures: tuple[str, ...] = ()
    """One text each: what ran, what was expected, what was got."""

    @property
    def total(self) -> int:
        return self.passed + len(self.failures)

    def __str__(self) -> str:
        return f"{self.passed}/{self.total} tests" if self.total else "no tests"


@dataclass(frozen=True, slots=True)
class Schemas:
    """JSON Schemas of an action, made in a worker: self-contained, each an object with `properties`.

    Where the return type is not an object, `output` describes `{"result": …}` and `wraps_result` is true.
    """

    input: Mapping[str, JSON]
    output: Mapping[str, JSON]
    wraps_result: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of an action as the library keeps it."""

    action: Action
    version: int
    """1, 2, …; never reused for a name."""
    status: Status
    pinned: bool
    author: str
    """The principal who defined this version; `file` for one found in the folder."""
    defined_at: datetime
    """UTC."""
    tests: Tests
    schemas: Schemas | None
    """None until a worker has checked this version."""
    calls: int = 0
    """Recorded calls of any version."""
    successes: int = 0
    recent: str = ""
    """How the last calls of this version ended, while it is current: `1` returned, `0` not; newest last."""
    used_at: datetime | None = None
    """UTC, of the last call or import of any version, also by way of another action."""
    revision: int = 0
    """Of the library, when the action last changed."""

    @property
    def recent_failures(self) -> int:
        return self.recent.count("0")

    @property
    def is_failing(self) -> bool:
        """Whether most of its recent calls failed, and these are enough to say so."""
        return len(self.recent) >= ENOUGH_CALLS and self.recent_failures * 2 > len(self.recent)

    @property
    def warning(self) -> str:
        """What to do about an active action most of whose recent calls failed; empty for any other."""
        if self.status is not Status.ACTIVE or not self.is_failing:
            return ""
        undo = ", go back to a version that worked (manage_action op='rollback')" if self.version > 1 else ""
        return (
            f"{self.recent_failures} of its last {len(self.recent)} calls failed. "
            f"Mend it (define_action replaces={self.name!r}){undo}, or disable it (op='disable')."
        )

    @property
    def name(self) -> str:
        return self.action.name

    @property
    def input_schema(self) -> dict[str, JSON]:
        """The input schema with what the docstring says of each parameter; empty until checked."""
        if self.schemas is None:
            return {}
        given = self.schemas.input.get("properties")
        if not isinstance(given, dict):  # a worker is not to be trusted
            return dict(self.schemas.input)
        said = {parameter.name: parameter.description for parameter in self.action.parameters if parameter.description}
        properties = {
            name: {"description": said[name], **schema} if name in said and isinstance(schema, dict) else schema
            for name, schema in given.items()
        }
        return {**self.schemas.input, "properties": properties}


@dataclass(frozen=True, slots=True)
class Usage:
    """How an action, any version of it, was used."""

    maker: str = ""
    """Who defined its first version."""
    imports: int = 0
    """Steps that imported it and succeeded."""
    reuse: int = 0
    """Calls that returned, and imports, in a session that began after the version used was defined."""
    p50_seconds: float | None = None
    """Of the calls that returned, each to two digits; None: none did."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A file of the library folder that is no action: left alone, named, not served."""

    file: str
    """Its name within the folder."""
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class LibraryChanged:
    """Said once to everyone who follows the library, after the change is kept."""

    revision: int
    """Grows with every change of any action."""
    names: tuple[str, ...]


class Moment(NamedTuple):
    """Of a store: as long as it is the same, so is all that is kept."""

    identity: str
    revision: int


@dataclass(frozen=True, slots=True)
class Match:
    """One search result: an action, how well it fits, and why."""

    entry: Entry
    score: float
    """0..1, only comparable within one answer."""
    why: tuple[str, ...]
    """Words of the query found in it, or `meaning`."""


@dataclass(frozen=True, slots=True)
class Found:
    """An answer of a search."""

    matches: tuple[Match, ...]
    """The best, best first."""
    total: int
    """Actions that have anything to do with the query."""
    searched: int
    """Actions that can be found."""
    used: str
    """What the search went by: `words`, or `words and meaning`."""
    evidence: float
    """That any of the best ones does what is asked, in nats; only comparable within one library."""
    fits: bool
    """Whether it suffices; otherwise these are just the nearest there are."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What one principal may use at most; 0 is no limit."""

    sessions: int = 0
    calls_per_minute: int = 0
    cpu_seconds_per_day: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one worker, and one call in it, may use."""

    wall_seconds: float = 30.0
    grace_seconds: float = 2.0
    """Between SIGINT and SIGKILL."""
    memory_bytes: int = 1 << 30
    processes: int = 128
    cpus: float = 1.0
    workspace_bytes: int = 1 << 30
    tmp_bytes: int = 256 << 20
    shm_bytes: int = 256 << 20
    """Of /dev/shm."""
    file_bytes: int = 1 << 30
    open_files: int = 1024
    output_bytes: int = 1 << 20
    """Kept of each of stdout and stderr; the rest is counted and dropped."""
    network: tuple[str, ...] = ()
    """Hosts that code may reach by HTTP(S), in the normal form of `hosts`."""

    def with_files_in_memory(self) -> Limits:
        """Where files count against the memory: at most half of it can be workspace and a quarter `/tmp`.

        A full one is then "No space left on device" to the code that filled it, not the end of its session.
        """
        workspace, tmp = min(self.workspace_bytes, self.memory_bytes // 2), min(self.tmp_bytes, self.memory_bytes // 4)
        return replace(self, workspace_bytes=workspace, tmp_bytes=tmp, shm_bytes=min(self.shm_bytes, 16 << 20))


@dataclass(frozen=True, slots=True)
class PackageRules:
    """Which packages may be installed, and how much of them is kept."""

    policy: Literal["none", "listed", "any"] = "any"
    allowed: tuple[str, ...] = ()
    """For `listed`, by name; what these depend on comes with them."""
    most_bytes: int = 10 << 30
    """On disk, of all sets in one place: the cache folder, or a Docker volume."""


@dataclass(frozen=True, slots=True)
class WorkspaceFile:
    """A file a step made or changed; `path` is relative to /workspace."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Image:
    """A picture a step showed."""

    mime_type: str
    base64: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one call or run ended, with all it gave. Its texts come from the sandbox: for the model, never to trust."""

    ending: Ending
    value: JSON = None
    """What an action returned, as JSON (not wrapped)."""
    shown: str = ""
    """`repr` of a run's last expression."""
    stdout: str = ""
    stderr: str = ""
    dropped_bytes: int = 0
    """Printed beyond `Limits.output_bytes`."""
    error: str = ""
    """Traceback of user code, or one sentence on how it was stopped."""
    notes: tuple[str, ...] = ()
    """One sentence each: what was rolled back, that rollback is off, that a session was lost."""
    files: tuple[WorkspaceFile, ...] = ()
    images: tuple[Image, ...] = ()
    links: tuple[str, ...] = ()
    """Files of the workspace that hold the value, relative to it."""
    defined: tuple[str, ...] = ()
    """Public functions a run defined."""
    seconds: float = 0.0

    @property
    def succeeded(self) -> bool:
        return self.ending is Ending.RETURNED


@dataclass(frozen=True, slots=True)
class Check:
    """What a fresh worker found out about an action: it imports, its schemas, its tests."""

    problems: tuple[Problem, ...] = ()
    """Why it cannot be kept: import failed, ran for ever, exited, no schema for a type."""
    schemas: Schemas | None = None
    tests: Tests = field(default_factory=Tests)
    output: str = ""
    """What importing and testing printed."""
    is_unfit: bool = False
    """It imports, but its signature has no JSON form."""
