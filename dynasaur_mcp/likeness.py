"""What the library has already that a new action is like: in its code, or in its description, types and results.

Code of the same shape is found by a hash, what is described alike by the index. Of those that take and return the same
types, the examples of both are called in both, in one worker that is ended after: what an example does besides
stays there. What cannot be compared says nothing; no slow or failing comparison costs the definition.
"""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import anyio

from dynasaur_mcp.errors import ActionAlike, ActionInvalid, ActionNotFound
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.reading import parse_source
from dynasaur_mcp.library.rules import find_dotted
from dynasaur_mcp.library.shape import write_form
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.uses import follow_uses
from dynasaur_mcp.replay import is_same, show_call, show_value, try_call
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.sandbox.session import Session
from dynasaur_mcp.stages import tell_stage
from dynasaur_mcp.types import JSON, Action, Entry, Status

logger = logging.getLogger(__name__)

NEAR_SCORE = 0.75
MOST = 3
"""Actions that are shown, and compared."""
MOST_CODE = 20
"""Of the same shape, whose texts are looked at."""
MOST_CALLS = 5
"""Of the examples of each side."""
COMPARE_SECONDS = 10.0
"""For all comparisons; what is not compared by then stays so."""

Call = dict[int, JSON]
"""Arguments by the place of their parameter."""


@dataclass(frozen=True, slots=True)
class Alike:
    """An action that is like the new one."""

    entry: Entry
    is_likely: bool
    """That it does the same."""
    why: str

    def __str__(self) -> str:
        return f"{self.entry.action.signature}: {self.entry.action.summary} ({self.why})"


def refuse_same(action: Action, store: Store) -> None:
    """
    Raises:
        ActionAlike: another action is the same code, names and comments aside.
    """
    for entry in _find_same_shape(action, store):
        if _write_code(entry.action) == _write_code(action):
            is_disabled = entry.status is Status.DISABLED
            raise ActionAlike(
                f"{action.name!r} was not kept: {entry.name!r} is the same code, names and comments aside. ",
                f"{'Enable that by manage_action' if is_disabled else 'Use that'}; to rename it, delete it first.",
                f"{'Have a client enable that' if is_disabled else 'Use that'}; "
                f"to rename it, `dynasaur-mcp actions remove {entry.name}` first.",
            )


def find_alike(action: Action, store: Store, index: Index) -> list[Alike]:
    """Others of the same shape, then those described alike. Never raises."""
    try:
        return _gather(action, store, index)
    except Exception:  # boundary: a broken index is no reason to lose a definition
        logger.warning("What is like %r could not be looked for", action.name, exc_info=True)
        return []


async def compare_alike(action: Action, found: Sequence[Alike], store: Store, pool: Pool) -> list[Alike]:
    """The same ones after calling them, likely ones first. Never raises for what goes wrong with a comparison."""
    compared = list(found)
    types = _read_types(action)
    try:
        comparable = [each for each in found if each.is_likely or _read_types(each.entry.action) == types]
        if comparable:
            tell_stage(f"Comparing it with {', '.join(repr(each.entry.name) for each in comparable)}")
            with anyio.move_on_after(COMPARE_SECONDS):
                async with pool.workers.trial() as session:
                    for alike in comparable:
                        compared[compared.index(alike)] = await _compare(action, alike, store, session)
    except Exception:  # boundary: user code, and a sandbox that may fail
        logger.warning("%r could not be compared with all that is like it", action.name, exc_info=True)
    return sorted(compared, key=lambda alike: not alike.is_likely)


def refuse_likely(action: Action, alike: Sequence[Alike]) -> None:
    """
    Raises:
        ActionAlike: one of these likely does the same.
    """
    likely = [each for each in alike if each.is_likely]
    if likely:
        name = likely[0].entry.name
        raise ActionAlike(
            "\n".join(
                [
                    f"{action.name!r} was not kept: it likely does what there is already.",
                    *(f"- {each}" for each in likely),
                    "Use that. ",
                ]
            ),
            f"Is yours better? Define it as {name!r} with replaces={name!r}. "
            "Does it do something else? anyway=true keeps it.",
            f"Is yours better? Name it {name!r}, and `dynasaur-mcp actions add --replace` makes it the next version. "
            "Does it do something else? `dynasaur-mcp actions add --anyway` keeps it.",
        )


def _find_same_shape(action: Action, store: Store) -> Iterator[Entry]:
    names = store.alike(action.shape) if action.shape else []
    for name in [name for name in names if name != action.name][:MOST_CODE]:
        try:
            yield store.get(name)
        except ActionNotFound:
            continue


def _write_code(action: Action) -> str:
    return write_form(parse_source(action.source), action.name, with_texts=True)


def _gather(action: Action, store: Store, index: Index) -> list[Alike]:
    found = {
        entry.name: Alike(entry, True, "the same code but for texts and types")
        for entry in _find_same_shape(action, store)
    }
    # With its name or without: a copy under another name shares only the description.
    queries = (action.summary, f"{action.name} {action.summary}")
    matches = [match for match in index.find_any(queries, MOST + 1) if match.score >= NEAR_SCORE]
    for match in sorted(matches, key=lambda match: -match.score):
        if match.entry.name != action.name:
            found.setdefault(match.entry.name, Alike(match.entry, False, "described alike"))
    return list(found.values())[:MOST]


async def _compare(action: Action, alike: Alike, store: Store, session: Session) -> Alike:
    """What is known of it after both were called alike."""
    old = alike.entry
    new = replace(old, action=action, schemas=None, status=Status.DRAFT)
    ours = follow_uses(lambda name: new if name == action.name else store.get(name), [action.name], network=())
    theirs = follow_uses(store.get, [old.name], network=())
    if ours.missing or theirs.missing:
        return alike
    same = 0
    for call in [*_read_calls(old.action), *_read_calls(action)]:
        if max(call, default=0) >= min(len(old.action.parameters), len(action.parameters)) > 0:
            continue
        arguments = _name_arguments(old.action, call)
        wanted = await try_call(session, old.name, theirs, arguments)
        given = await try_call(session, action.name, ours, _name_arguments(action, call))
        if wanted.succeeded and given.succeeded and is_same(wanted.value, given.value):
            same += 1
        elif wanted.succeeded or given.succeeded:
            values = [show_value(each.value) if each.succeeded else "fails" for each in (wanted, given)]
            differs = f"{show_call(old.name, arguments)}: {values[0]}, with the new one: {values[1]}"
            return replace(alike, is_likely=False, why=f"{alike.why}, but differs at {differs}")
    if not same:
        return alike
    results = f"the same results of {same} {'call' if same == 1 else 'calls'}"
    return replace(alike, is_likely=True, why=f"{alike.why}, {results}")


def _name_arguments(action: Action, call: Call) -> dict[str, JSON]:
    return {action.parameters[place].name: value for place, value in call.items()}


def _read_types(action: Action) -> list[str]:
    """What it takes and returns; `List[int]` is `list[int]`."""
    types = [*(parameter.annotation for parameter in action.parameters), action.returns]
    return [re.sub(r"(?:typing\.)?\b(Dict|List|Set|Tuple)\b", lambda found: found[1].lower(), text) for text in types]


def _read_calls(action: Action) -> list[Call]:
    """The calls in its examples whose arguments are plain values."""
    places = {parameter.name: place for place, parameter in enumerate(action.parameters)}
    found: list[Call] = []
    for node in _walk_examples(action):
        if not isinstance(node, ast.Call) or find_dotted(node.func) != action.name:
            continue
        given = [*enumerate(node.args), *((places.get(each.arg or "", -1), each.value) for each in node.keywords)]
        try:
            call = {place: json.loads(json.dumps(ast.literal_eval(value))) for place, value in given}
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        if call not in found and all(0 <= place < len(places) for place in call):
            found.append(call)
    return found[:MOST_CALLS]


def _walk_examples(action: Action) -> Iterator[ast.AST]:
    for example in action.examples:
        with contextlib.suppress(ActionInvalid):
            yield from ast.walk(parse_source(example))
