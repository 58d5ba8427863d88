"""Requirements as they are asked for: read, held to the rules, and what is said when they cannot be installed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from dynasaur_mcp.errors import RequirementsInvalid
from dynasaur_mcp.types import PackageRules, Problem

MAX_REQUIREMENTS = 50
MAX_CHARACTERS = 500
"""Of one."""
_REASON_CHARACTERS = 400


def read_requirements(requirements: Sequence[str], rules: PackageRules) -> dict[str, str]:
    """Requirements in normal form, sorted: names in the index with versions, extras, markers -> each as it was given.

    Raises:
        RequirementsInvalid: all that are something else, such as paths or addresses, or that the rules refuse.
    """
    problems: dict[str, Problem] = {}
    read: dict[str, str] = {}
    if len(requirements) > MAX_REQUIREMENTS:
        many = f"there are {len(requirements)} requirements; at most {MAX_REQUIREMENTS} are installed"
        raise RequirementsInvalid([Problem(many)])
    for text in requirements:
        try:
            requirement = Requirement(text[: MAX_CHARACTERS + 1])
            requirement.name = canonicalize_name(requirement.name)
            normal = str(requirement)
            # uv reads one a line. A marker may hold a line break, as an escape, and after it an option of uv's.
            if len(text) > MAX_CHARACTERS or not (normal.isascii() and normal.isprintable()):
                raise InvalidRequirement
        except InvalidRequirement:
            problems[text] = Problem(
                f"{text[:200]!r} is no requirement: write a name and versions, such as 'pandas>=2'"
            )
            continue
        if requirement.url:
            problems[text] = Problem(
                f"{text[:200]!r} gives an address: only packages of the index are installed, by name"
            )
            continue
        if refusal := _refuse(requirement.name, rules):
            problems[text] = Problem(refusal)
        read[normal] = text
    if problems:
        raise RequirementsInvalid(list(problems.values()), tuple(problems))
    return dict(sorted(read.items()))


def _refuse(name: str, rules: PackageRules) -> str:
    """Why a package may not be installed; empty if it may. What a listed one depends on comes with it."""
    if rules.policy == "none":
        return f"{name!r} is refused: this server installs no packages. The operator allows them by `--packages any`"
    listed = {canonicalize_name(allowed) for allowed in rules.allowed}
    if rules.policy == "any" or name in listed:
        return ""
    now = ", ".join(sorted(listed)) or "none"
    how = f"The operator adds it to `--packages-allowed`, or allows all by `--packages any`. Allowed now: {now}"
    return f"{name!r} is not among the packages that may be installed here. {how}"


def explain_refusal(said: str, asked: dict[str, str], where: str) -> RequirementsInvalid:
    """What uv's refusal of a set means.

    Args:
        said: uv's stderr.
        asked: As `read_requirements` gives them.
        where: `Python 3.12 on x86_64-manylinux_2_36`.
    """
    # "… And because you require a<2 and b, we can conclude that …": what the refusal comes down to.
    blamed = " ".join(re.findall(r"you require(.*?)(?:we can conclude|\n\n|$)", said, re.DOTALL))
    culprits = tuple(given for text, given in asked.items() if _mentions(blamed, text)) or tuple(asked.values())
    named = " and ".join(map(repr, culprits))
    without_wheel = re.search(r"(?:all versions of )?(\S+) (?:have|has) no (?:usable )?wheels", said)
    if len(culprits) == 1 and without_wheel:
        package = without_wheel[1]
        needs = "" if _mentions(package, culprits[0]) else f", which {named} needs,"
        problem = f"{package!r}{needs} has no wheel for {where}, and nothing is built outside a sandbox"
        return RequirementsInvalid([Problem(f"{problem}: choose another package or version")], culprits)
    if len(culprits) > 1:
        return RequirementsInvalid([Problem(f"no versions fit {named} together. {explain(said)}")], culprits)
    return RequirementsInvalid([Problem(f"{named} cannot be installed. {explain(said)}")], culprits)


def _mentions(text: str, requirement: str) -> bool:
    name = canonicalize_name(Requirement(requirement).name)
    return bool(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text))


def explain(said: str) -> str:
    """uv's reason on one line, without its decoration, hints, addresses and paths; of a long one the end.

    >>> explain("error: No solution found when resolving dependencies\\n  cause: Because you require a<2 and a>3.\\n")
    'Because you require a<2 and a>3.'
    """
    text = re.sub(r"[×│╰─▶├]+", " ", said)
    text = re.sub(r"\n\s*hint:.*", "", text, flags=re.DOTALL)
    text = re.sub(r"\b(?:error|cause|hint):", " ", text)
    text = " ".join(text.split())
    text = re.sub(r"^.*?No solution found when resolving dependencies:?\s*", "", text)
    text = text.replace(", we can conclude that your requirements are unsatisfiable", "")
    text = re.sub(r"\w+://[^\s`'\")]+", "the package index", text)
    text = re.sub(r"(?<![\w.])/[\w.~+-]+(?:/[\w.~+-]+)+", "…", text)
    if len(text) > _REASON_CHARACTERS:
        text = "… " + text[-_REASON_CHARACTERS:].partition(" ")[2]
    return text or "uv gave no reason"
