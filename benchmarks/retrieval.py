"""Whether search finds the right tool, on sets of recorded questions; and whether it says so when there is none.

    python benchmarks/retrieval.py --data DIR [--model NAME] [--limit N]

DIR has JSON lines. Each `X_tools.jsonl` is a library: `{"name", "description", "parameters": {name: description}}`. Its
questions are in `X_queries.jsonl`: `{"query", "gold": [tool names]}`. `X_irrelevant.jsonl`, which may be missing, has
questions that no tool answers: `{"query", "offered": [tool names]}`, the offered ones being wrong.

Each library is searched by the index that the server uses, with one configuration: by words alone (as without a model),
by meaning alone, and by both. For several gold tools, recall@k is the share of them among the first k.

The second table is on saying that nothing fits. A false offer is a question without an answer for which search does
not say so; of these, those are counted too where a tool that is known to be wrong is among the first five. Against it
stands what is lost of recall@5, by saying so of questions that have an answer: a line for each threshold of evidence,
the one of search marked. In a library of pooled tools some of these questions do have an answer, which nobody marked.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from timing import median, percentile_95

from dynasaur_mcp.errors import ActionNotFound
from dynasaur_mcp.library.embedding import Embedder
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.ranking import FITTING_NATS, Scores
from dynasaur_mcp.library.reading import hash_source
from dynasaur_mcp.library.words import read_query
from dynasaur_mcp.settings import Settings
from dynasaur_mcp.types import Action, Entry, Found, Parameter, Status, Tests

FIRST = (1, 5, 10)
THRESHOLDS = (0.0, 6.0, 8.0, 10.0, 11.0, FITTING_NATS, 13.0, 14.0, 16.0, 20.0)


@dataclass(frozen=True)
class Question:
    text: str
    tools: frozenset[str]
    """Right ones, or, of a question without an answer, wrong ones."""


@dataclass(frozen=True)
class Set:
    """One library with its questions."""

    name: str
    tools: Mapping[str, Action]
    answerable: Sequence[Question]
    irrelevant: Sequence[Question]


class Tools:
    """As much of a store as the index asks for: tools as actions, under any name."""

    identity = "benchmark"
    revision = 1

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self._entries = {
            name: Entry(action, 1, Status.ACTIVE, False, "benchmark", datetime.now(UTC), Tests(), None)
            for name, action in actions.items()
        }
        self._names = sorted(actions)

    def get(self, name: str) -> Entry:
        if name not in self._entries:
            raise ActionNotFound(name, [])
        return self._entries[name]

    def changed_after(self, mark: tuple[int, str], limit: int) -> list[tuple[int, str]]:
        after = [name for name in self._names if (1, name) > tuple(mark)]
        return [(1, name) for name in after[:limit]]

    def queries(self, _name: str) -> list[str]:
        return []


class Meaning(Index):
    """By meaning alone."""

    def _score(self, texts: Sequence[str]) -> tuple[dict[int, str], dict[str, int], list[list[Scores]]]:
        names, _, scores = super()._score(texts)
        # No word of the query is in any document.
        counts = dict.fromkeys(read_query(texts[0]), 0)
        return names, counts, [[Scores({}, 0.0, 0.0, 0.0), *meanings] for _, *meanings in scores]


def read_lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def read_tool(tool: Mapping[str, Any]) -> Action:
    """As its action would be read: the docstring has the description, then the parameters."""
    parameters = tuple(
        Parameter(name, "str", None, " ".join(str(said or "").split()))
        for name, said in (tool.get("parameters") or {}).items()
    )
    docstring = str(tool.get("description") or "")
    if parameters:
        docstring += "\n\nArgs:\n" + "\n".join(f"    {each.name}: {each.description}" for each in parameters)
    signature = f"{tool['name']}({', '.join(f'{each.name}: str' for each in parameters)}) -> str"
    return Action(
        name=tool["name"],
        source=docstring,
        sha256=hash_source(signature + docstring),
        signature=signature,
        docstring=docstring,
        parameters=parameters,
        returns="str",
        examples=(),
    )


def read_sets(folder: Path, limit: int | None) -> list[Set]:
    """Every set of the folder; what is missing is named on stderr, and the rest goes on."""
    sets = []
    for path in sorted(folder.glob("*_tools.jsonl")):
        prefix = path.name.removesuffix("_tools.jsonl")
        tools = {tool["name"]: read_tool(tool) for tool in read_lines(path)}
        questions: dict[str, list[Question]] = {}
        for kind, key in (("queries", "gold"), ("irrelevant", "offered")):
            other = path.with_name(f"{prefix}_{kind}.jsonl")
            if not other.exists():
                print(f"{other.name} is missing", file=sys.stderr)
            rows = read_lines(other)[:limit] if other.exists() else []
            questions[kind] = [Question(row["query"], frozenset(row.get(key) or ())) for row in rows]
        strange = {name for each in questions["queries"] for name in each.tools} - tools.keys()
        if strange:
            print(f"{prefix}: right tools that are not in the library: {', '.join(sorted(strange))}", file=sys.stderr)
        answerable = [question for question in questions["queries"] if question.tools]
        sets.append(Set(prefix, tools, answerable, questions["irrelevant"]))
    return sets


def ask(index: Index, questions: Sequence[Question]) -> tuple[list[Found], list[float]]:
    found, seconds = [], []
    for question in questions:
        began = time.perf_counter()
        found.append(index.find(question.text, max(FIRST)))
        seconds.append(time.perf_counter() - began)
    return found, seconds


def find_names(found: Found, first: int) -> set[str]:
    return {match.entry.name for match in found.matches[:first]}


def measure_recall(
    questions: Sequence[Question], answers: Sequence[Found], first: int, threshold: float = 0.0
) -> float:
    """Of those answers whose evidence suffices; the others offer nothing."""
    shares = [
        len(find_names(found, first) & question.tools) / len(question.tools) if found.evidence >= threshold else 0.0
        for question, found in zip(questions, answers, strict=True)
    ]
    return sum(shares) / max(len(shares), 1)


def print_fits(each: Set, answers: Sequence[Found], offers: Sequence[Found]) -> None:
    print(
        f"\n{each.name}: {len(offers):,} questions without an answer, {len(answers):,} with one, by words and meaning"
    )
    print(f"{'evidence':>9} {'false offers':>13} {'known wrong':>12} {'recall@5':>9} {'lost':>6}")
    best = measure_recall(each.answerable, answers, 5)
    for threshold in THRESHOLDS:
        offered = [
            (question, found)
            for question, found in zip(each.irrelevant, offers, strict=True)
            if found.matches and found.evidence >= threshold
        ]
        wrong = sum(bool(find_names(found, 5) & question.tools) for question, found in offered)
        recall = measure_recall(each.answerable, answers, 5, threshold)
        mark = "  <- search" if threshold == FITTING_NATS else ""
        print(
            f"{threshold:>9.0f} {len(offered) / len(offers):>13.3f} {wrong / len(offers):>12.3f}"
            f" {recall:>9.3f} {best - recall:>6.3f}{mark}"
        )


def run(sets: Sequence[Set], embedder: Embedder) -> None:
    kinds: list[tuple[str, Callable[[Any], Index]]] = [
        ("words", lambda store: Index(store, None, None)),
        ("meaning", lambda store: Meaning(store, None, embedder)),
        ("both", lambda store: Index(store, None, embedder)),
    ]
    print(f"{'set':<12} {'tools':>6} {'questions':>9} {'by':<8}", *(f"{'@' + str(k):>6}" for k in FIRST), end="")
    print(f" {'p50 ms':>7} {'p95 ms':>7}")
    tables = []
    for each in sets:
        for kind, open_index in kinds:
            with contextlib.closing(open_index(Tools(each.tools))) as index:
                index.update()
                index.settle(3600)
                answers, seconds = ask(index, each.answerable or each.irrelevant)
                offers = ask(index, each.irrelevant)[0] if kind == "both" else []
            if each.answerable:
                print(f"{each.name:<12} {len(each.tools):>6,} {len(each.answerable):>9,} {kind:<8}", end=" ")
                print(*(f"{measure_recall(each.answerable, answers, first):>6.3f}" for first in FIRST), end="")
                print(f" {median(seconds):>7.1f} {percentile_95(seconds):>7.1f}", flush=True)
            if offers:
                tables.append((each, answers if each.answerable else [], offers))
    for table in tables:
        print_fits(*table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", default=Settings.model_fields["model"].default)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N questions of each file")
    given = parser.parse_args()
    sets = read_sets(given.data, given.limit)
    if not sets:
        print(f"{given.data} has no *_tools.jsonl", file=sys.stderr)
        return 2
    embedder = Embedder(given.model)
    embedder.start()
    if not embedder.wait(600):
        print("There is no model: only words are measured three times.", file=sys.stderr)
    run(sets, embedder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
