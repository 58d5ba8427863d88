"""Every exception of the project.

DynasaurError
├─ ActionError             the model can fix it: shown to it whole
│  ├─ ActionNotFound
│  │  ├─ ActionBroken
│  │  └─ ActionDeleted
│  ├─ ActionExists
│  ├─ ActionAlike
│  ├─ ActionDisabled
│  ├─ NetworkDenied
│  ├─ ActionInvalid        carries every Problem at once
│  │  ├─ ActionUnfit
│  │  └─ RequirementsInvalid
│  ├─ ArgumentsInvalid     likewise
│  ├─ SessionNotFound
│  ├─ SessionExists
│  ├─ SessionNotCopied
│  ├─ FileRefused
│  ├─ RunNotFound
│  ├─ QuotaExceeded
│  └─ ScopeMissing
├─ SandboxError            the operator can fix it: one plain line to the model, detail to the log
│  ├─ SandboxUnavailable
│  ├─ SessionsFull
│  └─ WorkerLost
├─ LibraryError            the library folder cannot be read or written: likewise
└─ SettingsError           at start only: one line on stderr, exit 2

Anything else that is raised is a bug. An action that raises, overruns or is killed is an `Outcome`, not an exception.
A message says what is wrong, with the name in `!r`, then what to do; no paths or ids of the host in an ActionError.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence

from dynasaur_mcp.hosts import explain_refusal
from dynasaur_mcp.types import Problem

CLOSE_SESSION = "manage_action(op='close_session', name=…)", "`dynasaur-mcp sessions close`"
"""How to, for a model and for a person."""


class DynasaurError(Exception):
    """Base of all."""

    _for_model = _for_person = ""
    """A part of the message that names a meta-tool, and what it is where there are commands instead."""

    def told_by_command(self) -> str:
        """To a person."""
        return str(self).replace(self._for_model, self._for_person)


class ActionError(DynasaurError):
    """The caller can mend it."""


class ActionNotFound(ActionError):
    """No action has that name. Names the nearest ones."""

    _for_model = "search_actions finds what there is"
    _for_person = "`dynasaur-mcp actions list` shows what there is"

    def __init__(self, name: str, names: Iterable[str] = ()) -> None:
        near = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"{self._for_model}."
        super().__init__(f"No action named {name!r}. {hint}")


class ActionBroken(ActionNotFound):
    """The library has a file of that name which is no action now, as someone left it."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self._for_model = "op='rollback' of manage_action"
        self._for_person = f"`dynasaur-mcp actions restore {name}`"
        hint = f"A person has to mend it, or to remove it: {self._for_model} then brings a version back"
        told = "\n".join(f"- {problem}" for problem in problems)
        ActionError.__init__(self, f"The file of {name!r} in the library is no action now. {hint}.\n{told}")


class ActionDeleted(ActionNotFound):
    """There was one of that name."""

    def __init__(self, name: str, version: int) -> None:
        """
        Args:
            version: Its last.
        """
        self._for_model = f"manage_action(name={name!r}, op='rollback', version={version})"
        self._for_person = f"`dynasaur-mcp actions restore {name}`"
        ActionError.__init__(self, f"No action named {name!r}: it was deleted. {self._for_model} brings it back.")


class ActionExists(ActionError):
    """An action of that name exists and the caller did not say that it replaces it."""

    _for_model = "manage_action"
    _for_person = "`dynasaur-mcp actions show`"


class ActionAlike(ActionError):
    """The library has an action that does the same, or likely does."""

    def __init__(self, text: str, for_model: str, for_person: str) -> None:
        """
        Args:
            for_model: What comes after the text, with arguments of `define_action`.
            for_person: The same, with options of commands.
        """
        self._for_model, self._for_person = for_model, for_person
        super().__init__(f"{text}{for_model}")


class ActionDisabled(ActionError):
    """The action is kept, but not to be called."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is disabled. manage_action(name={name!r}, op='enable') makes it callable again.")


class NetworkDenied(ActionError):
    """The action, or one that it uses, needs hosts that this server does not let code reach."""

    def __init__(self, name: str, denied: Mapping[str, Sequence[str]]) -> None:
        """
        Args:
            denied: The name of each that needs hosts -> those which it may not reach.
        """
        hosts = list(dict.fromkeys(host for needed in denied.values() for host in needed))
        users = " and ".join(map(repr, denied))
        who = repr(name) if list(denied) == [name] else f"{name!r} uses {users}, which"
        super().__init__(f"{who} needs {', '.join(hosts)}: not allowed by this server. {explain_refusal(hosts)}.")


class ProblemsError(ActionError):
    """Several problems at once, one a line."""

    def __init__(self, headline: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([headline, *(f"- {problem}" for problem in self.problems)]))


class ActionInvalid(ProblemsError):
    """A definition breaks rules, does not import, or fails its tests."""


class ActionUnfit(ActionInvalid):
    """A function that may well be right, but that no client could call: what it takes or gives has no JSON form."""


class RequirementsInvalid(ActionInvalid):
    """Requirements that cannot be installed, or may not be."""

    def __init__(self, problems: Sequence[Problem], culprits: Sequence[str] = ()) -> None:
        self.culprits = tuple(culprits)
        """Those to blame, as they were given; empty for none in particular."""
        super().__init__("Requirements that cannot be installed:", problems)


class ArgumentsInvalid(ProblemsError):
    """Arguments do not fit the action's parameters."""


class SessionNotFound(ActionError):
    """No open session of that name for this principal."""

    _for_person = "`dynasaur-mcp sessions list` shows all that are"

    def __init__(self, name: str, names: Sequence[str]) -> None:
        """
        Args:
            names: Of the principal's, those that are open.
        """
        self._for_model = f"run_python(session={name!r}) opens it"
        known = ", ".join(map(repr, names)) or "none yet"
        super().__init__(f"No session named {name!r}. Open sessions: {known}. {self._for_model}.")


class SessionExists(ActionError):
    """A session of that name is open, and a new one was asked for."""


class SessionNotCopied(ActionError):
    """A session holds what no copy can be made of."""


class FileRefused(ActionError):
    """A file of a workspace cannot be listed, read or written as asked."""


class RunNotFound(ActionError):
    """No run of that id for this principal."""


class QuotaExceeded(ActionError):
    """A principal has used what it may."""

    _for_model, _for_person = CLOSE_SESSION

    def __init__(self, used: str, then: float | str) -> None:
        """
        Args:
            then: How many seconds to wait; or what else to do.
        """
        hint = then if isinstance(then, str) else f"Wait {math.ceil(max(then, 1))} s"
        super().__init__(f"{used}, the most for one principal here. {hint}.")


class ScopeMissing(ActionError):
    """The caller's token is not good for this."""

    def __init__(self, what: str, scope: str) -> None:
        super().__init__(f"{what!r} needs the scope {scope}, which your token does not have.")


class SandboxError(DynasaurError):
    """The operator can mend it."""


class SandboxUnavailable(SandboxError):
    """No sandbox can be started here; says what to install."""


class SessionsFull(SandboxError):
    """The cap on open sessions is reached."""

    _for_model, _for_person = CLOSE_SESSION


class WorkerLost(SandboxError):
    """A worker went away, or spoke nonsense, in the middle of something."""


class LibraryError(DynasaurError):
    """The library folder or its ledger cannot be used as asked."""


class SettingsError(DynasaurError):
    """A setting is wrong."""
