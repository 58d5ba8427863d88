"""What a definition must be beyond syntax, to be worth keeping: problems, for which it is refused, and advice.

A problem is certain, and can always be mended on the spot: a name that nothing defines, work that is done at import, a
name that says nothing, a function that can do one thing only. What good code may have for a reason is advice.
Files in the folder are not held to these: they are somebody's already.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING

from dynasaur_mcp.library.rules import Function, find_dotted, read_imports, walk_own
from dynasaur_mcp.types import Problem

if TYPE_CHECKING:
    from pyflakes.messages import Message

MAX_SHOWN = 5
MAX_DATA = 12

_EMPTY_NAME = re.compile(
    r"(?:(?:(?:do|my|perform|run|the|[a-z])_)*"
    r"(?:baz|fn|foo|func|function|helper|qux|solution|solve|task|temp|tmp|unnamed|untitled)(?:_?[0-9]+|_[a-z]\b)?_?)+"
)
_EFFECTS = frozenset(
    re.findall(
        r"\S+",
        """input open print httpx.delete httpx.get httpx.patch httpx.post httpx.put httpx.request os.chdir os.makedirs
        os.mkdir os.popen os.remove os.removedirs os.rename os.replace os.rmdir os.system os.unlink requests.delete
        requests.get requests.head requests.patch requests.post requests.put requests.request shutil.copy shutil.copy2
        shutil.copyfile shutil.copytree shutil.move shutil.rmtree socket.create_connection sqlite3.connect
        subprocess.Popen subprocess.call subprocess.check_call subprocess.check_output subprocess.getoutput
        subprocess.run time.sleep urllib.request.urlopen urllib.request.urlretrieve""",
    )
)
"""What is never called at import for the good of the functions in the file."""

_FILE = re.compile(
    r"[\w~.:/\\ -]*[\w-]\.(?:avi|bmp|csv|db|docx?|gif|html?|jpe?g|jsonl?|log|md|mp[34]|ods|parquet|pdf|png|pptx?|"
    r"sqlite3?|svg|tsv|txt|wav|webp|xlsx?|xml|ya?ml|zip)"
)
_DATE = re.compile(r"(?!0001|1899|19[07]0|9999)[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
_REQUEST = re.compile(r"https?://[^\s?]+\?\S*=[^\s{&=]+")
"""An address that asks for one thing; one without a query is that of a service."""
_CUTTING = frozenset(
    re.findall(
        r"\w+", "count endswith find get index partition removeprefix removesuffix replace split startswith strip"
    )
)
"""Methods whose text compares or cuts: it belongs to how a function works."""


def judge(tree: ast.Module, function: Function) -> tuple[list[Problem], list[Problem]]:
    """Problems, for which a definition is refused, and advice, which is shown and kept with it."""
    flakes = _find_flakes(tree)
    problems = [
        *check_name(function),
        *check_names_are_defined(tree, flakes),
        *check_import_is_quiet(tree, function),
        *check_inputs(function),
    ]
    advice = [
        *advise_parameters(function),
        *advise_literals(function),
        *advise_example(function),
        *advise_direct_use(tree, function),
        *advise_unused(tree, function, flakes),
    ]
    return problems, advice


def check_name(function: Function) -> Iterator[Problem]:
    """It says something to who looks for it."""
    if _EMPTY_NAME.fullmatch(function.name):
        hint = "Name it for what it does, such as `count_words`"
        yield Problem(f"the name {function.name!r} says nothing about what it does. {hint}.", function.lineno)


def check_names_are_defined(tree: ast.Module, flakes: Iterable[Message]) -> Iterator[Problem]:
    """A name that is bound somewhere may be so in time: that depends on the way the code runs."""
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= read_imports(tree).keys()
    for flake in flakes:
        if type(flake).__name__ == "UndefinedName" and (name := flake.message_args[0]) not in bound:
            yield Problem(f"{name!r} is used but not defined. Define or import it.", flake.lineno)


def check_import_is_quiet(tree: ast.Module, function: Function) -> Iterator[Problem]:
    """Importing it defines things, and does nothing else."""
    imported = read_imports(tree)
    for statement in tree.body:
        if isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test):
            continue
        for node in walk_own(statement):
            if not isinstance(node, ast.Call):
                continue
            name = find_dotted(node.func)
            root, dot, rest = name.partition(".")
            full = f"{imported.get(root, root)}{dot}{rest}"
            if full == function.name or full in _EFFECTS:
                hint = "Do it in the function; to show how to call it, write a >>> example"
                yield Problem(f"`{name}(…)` runs when the file is imported. {hint}.", node.lineno)


def check_inputs(function: Function) -> Iterator[Problem]:
    """What it works on is given to it, not built in: the next task has another."""
    found = [] if _has_parameters(function) else [*_find_literals(function), *_find_inputs(function)]
    if found:
        what = f"{function.name!r} takes no parameters and has {_show(found)} built in"
        yield Problem(f"{what}. Make parameters of that, with defaults if you like.", found[0].lineno)


def advise_parameters(function: Function) -> Iterator[Problem]:
    if not _has_parameters(function):
        yield Problem("it takes no parameters: what may differ next time should be one.", function.lineno)


def advise_literals(function: Function) -> Iterator[Problem]:
    found = _find_literals(function) if _has_parameters(function) else []
    if found:
        yield Problem(f"{_show(found)} could be a parameter.", found[0].lineno)


def advise_example(function: Function) -> Iterator[Problem]:
    lines = re.findall(r"(?m)^ *(?:>>>|\.\.\.) .*", ast.get_docstring(function) or "")
    if not re.search(rf"\b{function.name}\(", "\n".join(lines)):
        yield Problem("no >>> example calls it: one shows how to, and is a test.", function.lineno)


def advise_direct_use(tree: ast.Module, function: Function) -> Iterator[Problem]:
    """A function that passes on what it is given adds a name, and nothing to find."""
    body = [each for each in _read_body(function) if not isinstance(each, ast.Import | ast.ImportFrom)]
    value = body[0].value if len(body) == 1 and isinstance(body[0], ast.Return | ast.Expr) else None
    call = value.value if isinstance(value, ast.Await) else value
    if not isinstance(call, ast.Call):
        return
    root, dot, rest = find_dotted(call.func).partition(".")
    package, *path = f"{read_imports(tree).get(root, '')}{dot}{rest}".split(".")
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    if package == "actions" and path and all(isinstance(each, ast.Name | ast.Constant) for each in given):
        yield Problem(f"all it does is to call {path[-1]!r}: use that itself, or do more.", function.lineno)


def advise_unused(tree: ast.Module, function: Function, flakes: Iterable[Message]) -> Iterator[Problem]:
    documented = {
        word
        for node in ast.walk(tree)
        if isinstance(node, Function | ast.ClassDef)
        for word in re.findall(r"\w+", ast.get_docstring(node) or "")
    }
    # What is imported on a condition may be there for its effect, or for a type checker.
    guarded = {
        node.lineno
        for block in ast.walk(tree)
        if isinstance(block, ast.If | ast.Try)
        for node in ast.iter_child_nodes(block)
        if isinstance(node, ast.stmt)
    }
    found = dict.fromkeys(_find_idle_parameters(function), function.lineno)
    for flake in flakes:
        if type(flake).__name__ in ("UnusedImport", "UnusedVariable") and flake.lineno not in guarded:
            # `a.b as c`, `a.b`: an example may use what it is called here.
            name = re.split(r" as |\.", flake.message_args[0])[-1]
            if name not in documented:
                found.setdefault(name, flake.lineno)
    if found:
        shown = ", ".join(f"{name!r} (line {line})" for name, line in list(found.items())[:MAX_SHOWN])
        more = f" and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
        yield Problem(f"never used: {shown}{more}.")


def _find_flakes(tree: ast.Module) -> list[Message]:
    # Imported here: only a definition needs it.
    from pyflakes.checker import Checker

    try:
        return sorted(Checker(tree).messages, key=lambda flake: flake.lineno)
    except RecursionError:
        return []


def _has_parameters(function: Function) -> bool:
    return any(isinstance(node, ast.arg) for node in ast.iter_child_nodes(function.args))


def _read_body(function: Function) -> list[ast.stmt]:
    """Without the docstring."""
    return function.body[1:] if ast.get_docstring(function) is not None else function.body


def _find_literals(function: Function) -> list[ast.Constant]:
    """Texts in its body that name one thing of the world: a file, a day, an address."""
    found: list[ast.Constant] = []
    waiting: deque[ast.AST] = deque(_read_body(function))
    while waiting:
        node = waiting.popleft()
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if any(pattern.fullmatch(node.value) for pattern in (_FILE, _DATE, _MAIL, _REQUEST)):
                found.append(node)
        elif isinstance(node, ast.Dict):
            waiting += node.values
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CUTTING:
            waiting.append(node.func)
        elif not isinstance(node, ast.Compare | ast.JoinedStr | ast.Raise | ast.match_case | ast.arguments):
            waiting += ast.iter_child_nodes(node)
    return found


def _find_inputs(function: Function) -> list[ast.expr]:
    """Literals that it gives a name and never changes: numbers but the smallest, texts with more than signs, data."""
    stored = Counter(
        node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )
    return [
        node.value
        for node in _read_body(function)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and node.value is not None
        and all(isinstance(target, ast.Name) and stored[target.id] == 1 for target in _targets_of(node))
        and _is_input(node.value)
    ]


def _targets_of(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _is_input(node: ast.expr) -> bool:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False
    if isinstance(value, str):
        return bool(re.search(r"\w\w", value)) and (not re.match("https?://", value) or bool(_REQUEST.fullmatch(value)))
    if isinstance(value, int | float):
        return abs(value) > 2
    # More than that is a table of facts, which is what the function is for.
    return isinstance(value, Sized) and 0 < len(value) <= MAX_DATA


def _find_idle_parameters(function: Function) -> list[str]:
    body = _read_body(function)
    names = {node.id for each in body for node in ast.walk(each) if isinstance(node, ast.Name)}
    is_stub = all(isinstance(each, ast.Pass | ast.Raise) or _is_constant(each) for each in body)
    if is_stub or names & {"locals", "vars", "eval", "exec"}:
        return []
    arguments = (*function.args.args, *function.args.kwonlyargs)
    return [each.arg for each in arguments if each.arg not in names and not each.arg.startswith("_")]


def _is_constant(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _show(nodes: Iterable[ast.expr]) -> str:
    """`'sales.csv', 2024`"""
    texts = list(dict.fromkeys(ast.unparse(node) for node in nodes))
    short = [text if len(text) <= 40 else text[:39] + "…" for text in texts[:MAX_SHOWN]]
    return ", ".join(short)
