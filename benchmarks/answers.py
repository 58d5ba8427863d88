"""Whether an answer is the known one. What counts as the same is in the docstring of `reuse`."""

from __future__ import annotations

import ast
import datetime
import itertools
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from written import Quantity, find_quantity, is_near, read_quantities, read_quantity

HOLDERS = frozenset(
    re.findall(
        r"\w+",
        """array bool_ Counter Decimal deque dict_keys dict_values float32 float64 frozenset int32 int64 OrderedDict set
        str_ Timestamp""",
    )
)
"""Types that show a value as their one argument."""
MAX_PERMUTED = 6

_YES = {"yes": True, "true": True, "no": False, "false": False}


def is_right(answer: Any, known: Any) -> bool:
    """Also where the known one is written as people do, or the answer says it in a sentence."""
    if is_same(answer, known):
        return True
    text = answer if isinstance(answer, str) else ""
    answer = simplify(answer)
    if isinstance(known, str):
        is_yes = _YES.get(known.strip().rstrip(".").lower())
        if isinstance(answer, bool) and is_yes is not None:
            return answer is is_yes
        if text and text.strip() == known.strip().removesuffix("."):
            return True
        if isinstance(answer, list) and not text:
            return _is_listed(answer, read_quantities(known))
        wanted = read_quantity(known)
    else:
        wanted = Quantity(known, None, False, "") if type(known) in (int, float) else None
    if wanted is None:
        return False
    if text:
        given = read_quantity(text) or find_quantity(text)
        return given is not None and _is_same_quantity(given, wanted, known)
    return isinstance(known, str) and type(answer) in (int, float) and is_near(answer, wanted)


def _is_same_quantity(given: Quantity, wanted: Quantity, known: Any) -> bool:
    if given.unit and wanted.unit and not _is_same_unit(given.unit, wanted.unit):
        return False
    if given.is_percent:
        wanted = replace(wanted, is_percent=False)
    values = [given.value] if given.is_percent == wanted.is_percent else [given.value, given.value / 100]
    return any(is_near(value, wanted) if isinstance(known, str) else is_same(value, known) for value in values)


def _is_listed(answer: Sequence[Any], known: Sequence[tuple[str, Quantity]]) -> bool:
    """In the same order; in any, where all are values of one and the same name."""
    if len(answer) != len(known) or not all(type(each) in (int, float) for each in answer):
        return False
    quantities = [quantity for _, quantity in known]
    orders: Iterable[Sequence[Any]] = [answer]
    if known[0][0] and len({label for label, _ in known}) == 1 and len(answer) <= MAX_PERMUTED:
        orders = itertools.permutations(answer)
    return any(all(map(is_near, order, quantities)) for order in orders)


def _is_same_unit(one: str, other: str) -> bool:
    one, other = (re.sub(r"[\s^°.]", "", text.lower()) for text in (one, other))
    return one == other or one.rstrip("s") == other.rstrip("s")


def is_same(answer: Any, known: Any) -> bool:
    answer, known = simplify(answer), simplify(known)
    if isinstance(answer, bool) or isinstance(known, bool):
        return answer is known
    if isinstance(answer, int | float) and isinstance(known, int | float):
        if math.isnan(answer) or math.isnan(known):
            return math.isnan(answer) and math.isnan(known)
        decimals = len(repr(known).partition(".")[2]) if isinstance(known, float) and "e" not in repr(known) else 0
        return math.isclose(
            answer, known, rel_tol=1e-6, abs_tol=0.500001 * 10**-decimals if decimals > 1 or known % 1 else 1e-9
        )
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
