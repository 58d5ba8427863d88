"""Numbers as people and models write them: `1,234`, `$12.50`, `50%`, `3/4`, `17 units`, TeX in boxes."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)(?:[eE][-+]?\d+)?"
_QUANTITY = re.compile(
    rf"[-+]?\s*[$€£¥]?\s*(?P<expression>[-+]?{_NUMBER}|(?:[\d.()*/^+ -]|pi|sqrt)+)"
    r"\s*(?P<percent>%|percent\b|per cent\b)?\s*(?P<unit>(?:°|[^\W\d_])[^\d=:;,]{0,40}(?:(?<!\s)\^?[23²³])?|)\.?"
)
_MOST_CHARACTERS = 200
_LABEL = re.compile(r"\s*([A-Za-z]\w{0,20})\s*[=≈]\s*")
_OPERATIONS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with what is written around it."""

    value: float
    decimals: int | None
    """As many as are written; None: it is exact, such as a fraction."""
    is_percent: bool
    unit: str


def read_quantity(text: str) -> Quantity | None:
    """None where it is more, or less, than one number."""
    text = _LABEL.sub("", _read_tex(text).strip(), count=1)
    found = _QUANTITY.fullmatch(text) if len(text) <= _MOST_CHARACTERS else None
    if found is None:
        return None
    written = found["expression"].strip()
    try:
        value = _compute(written.replace(",", ""))
    except (ValueError, SyntaxError, ArithmeticError, TypeError):
        return None
    # The sign may stand before that of a currency.
    value = -value if re.match(r"-\s*[$€£¥]", text) else value
    if text.startswith("-") and not written.startswith("-") and not re.match(r"-\s*[$€£¥]", text):
        value = -value
    plain = re.fullmatch(r"[-+]?[\d,]*\.?(\d*)", written)
    unit = " ".join(found["unit"].rstrip(". ").split())
    return Quantity(value, len(plain[1]) if plain else None, bool(found["percent"]), unit)


def read_quantities(text: str) -> list[tuple[str, Quantity]]:
    """Each with its label, empty for none, of a text that is nothing but several of them; empty otherwise."""
    parts = re.split(r"\s*(?:;|,\s|\band\b|\bor\b)\s*", text.strip().strip("()[]{}").rstrip("."))
    parts = [part for part in parts if part]
    found = [(label[1] if (label := _LABEL.match(part)) else "", read_quantity(part)) for part in parts]
    pairs = [(label, quantity) for label, quantity in found if quantity]
    return pairs if len(pairs) == len(parts) > 1 else []


def find_quantity(text: str) -> Quantity | None:
    """That of a sentence: what stands behind its last `=`, `:` or `is`, or else the only number in it."""
    text = _read_tex(text).strip()
    _, *parts = re.split(r"=|:\s|\bis\b", text)
    return (read_quantity(parts[-1]) if parts else None) or _find_only(text)


def _find_only(text: str) -> Quantity | None:
    """With the word behind it as its unit."""
    found = re.findall(rf"(?<![\w.])[-+]?[$€£¥]?{_NUMBER}(?![\d/])(?:\s*%|\s*[^\W\d_]+)?", text)
    return read_quantity(found[0]) if len(found) == 1 else None


def is_near(answer: float, known: Quantity) -> bool:
    """Equal, but for the decimals that are not written."""
    values = [known.value, known.value / 100] if known.is_percent else [known.value]
    if known.decimals:
        return any(
            abs(answer - value) <= 0.500001 * 10.0 ** -(known.decimals + 2 * place)
            for place, value in enumerate(values)
        )
    near = any(math.isclose(answer, value, rel_tol=1e-6, abs_tol=1e-9) for value in values)
    if near or known.decimals is not None:
        return near
    # The known one is exact: it is the answer that may be rounded.
    shown = repr(answer).partition(".")[2]
    return len(shown) > 1 and "e" not in shown and abs(answer - known.value) <= 0.500001 * 10.0 ** -len(shown)


def _read_tex(text: str) -> str:
    """As plain text."""
    text = text.strip().replace("−", "-").replace("\\$", "$").replace("\\%", "%")
    if re.fullmatch(r"\$[^$]+\$|\$\$[^$]+\$\$|\\\(.+\\\)|\\\[.+\\\]", text, re.DOTALL):
        text = text.strip("$").removeprefix("\\(").removesuffix("\\)").removeprefix("\\[").removesuffix("\\]")
    for _ in range(8):
        before = text
        text = re.sub(r"\\(?:boxed|text|mathrm|mathbf)\s*\{([^{}]*)\}", r" \1 ", text)
        text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))", text)
        text = re.sub(r"(?:\\sqrt|√)\s*(?:\{([^{}]*)\}|(\d+))", lambda found: f"sqrt({found[1] or found[2]})", text)
        if text == before:
            break
    text = re.sub(r"\\(?:cdot|times)|×|·", "*", text)
    text = re.sub(r"\\pi(?![a-z])|π", "(pi)", text)
    return re.sub(r"\\[,;! ]|\^?\\circ|\^\{?°\}?|~", " ", text).strip()


def _compute(text: str) -> float:
    """
    Raises:
        ValueError, SyntaxError, ArithmeticError, TypeError: it is no expression of numbers.
    """
    text = re.sub(r"(?<=[\d)])\s*(?=\(|pi|sqrt)", "*", text.replace("^", "**"))
    value = _evaluate(ast.parse(text.strip(), mode="eval").body)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _evaluate(node: ast.expr) -> float:
    match node:
        case ast.Constant(int() | float() as value):
            return float(value)
        case ast.BinOp(left, operation, right) if type(operation) in _OPERATIONS:
            return _OPERATIONS[type(operation)](_evaluate(left), _evaluate(right))
        case ast.UnaryOp(operation, operand) if type(operation) in _OPERATIONS:
            return _OPERATIONS[type(operation)](_evaluate(operand))
        case ast.Name("pi"):
            return math.pi
        case ast.Call(ast.Name("sqrt"), [argument], []):
            return math.sqrt(_evaluate(argument))
        case _:
            raise ValueError(ast.unparse(node))
