"""Whether an answer is the known one. What counts as the same is in the docstring of `reuse`."""

from __future__ import annotations

import ast
import datetime
import json
import math
import re
from typing import Any

HOLDERS = frozenset(
    re.findall(
        r"\w+",
        """array bool_ Counter Decimal deque dict_keys dict_values float32 float64 frozenset int32 int64 OrderedDict set
        str_ Timestamp""",
    )
)
"""Types that show a value as their one argument."""


def is_same(answer: Any, known: Any) -> bool:
    answer, known = simplify(answer), simplify(known)
    if isinstance(answer, bool) or isinstance(known, bool):
        return answer is known
    if isinstance(answer, int | float) and isinstance(known, int | float):
        if math.isnan(answer) or math.isnan(known):
            return math.isnan(answer) and math.isnan(known)
        decimals = len(repr(known).partition(".")[2]) if isinstance(known, float) and "e" not in repr(known) else 0
        return math.isclose(answer, known, rel_tol=1e-6, abs_tol=0.500001 * 10**-decimals if decimals > 1 else 1e-9)
    if isinstance(answer, set) or isinstance(known, set):
        return is_same_set(answer, known)
    if isinstance(answer, list) and isinstance(known, list):
        return len(answer) == len(known) and all(map(is_same, answer, known))
    if isinstance(answer, dict) and isinstance(known, dict):
        return answer.keys() == known.keys() and all(is_same(answer[key], known[key]) for key in known)
    return bool(answer == known)


def is_same_set(answer: Any, known: Any) -> bool:
    """Whether they have the same members, in any order."""
    answer, known = simplify(answer), simplify(known)
    if not (isinstance(answer, list | set) and isinstance(known, list | set)):
        return False
    left = list(known)
    for each in answer:
        partner = next((at for at, one in enumerate(left) if is_same(each, one)), None)
        if partner is None:
            return False
        del left[partner]
    return not left


def simplify(value: Any) -> Any:
    """What JSON makes of it, or of what a text says."""
    if isinstance(value, str):
        text = value.strip()
        for read in (json.loads, read_shown):
            try:
                return simplify(read(text))
            except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                continue
        return text
    if isinstance(value, dict):
        return {str(key): item for key, item in value.items()}
    return set(value) if isinstance(value, frozenset) else list(value) if isinstance(value, tuple) else value


def read_shown(text: str) -> Any:
    """The value that Python shows so: a literal, or the call of a type that holds one.

    Raises:
        ValueError, SyntaxError, TypeError: it is none.
    """
    return ast.literal_eval(_ShownValue().visit(ast.parse(text, mode="eval")))


class _ShownValue(ast.NodeTransformer):
    """Makes a literal of it."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        kind = ast.unparse(node.func).rpartition(".")[2]
        if kind in ("date", "datetime", "time"):
            return ast.Constant(getattr(datetime, kind)(*map(ast.literal_eval, node.args)).isoformat())
        return self.visit(node.args[0]) if kind in HOLDERS and len(node.args) == 1 else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(float(node.id)) if node.id in ("inf", "nan") else node
