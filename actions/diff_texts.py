# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["text", "compare"]
# ///
import difflib
from dataclasses import dataclass


@dataclass(frozen=True)
class _Difference:
    added: int
    removed: int
    similarity: float
    diff: str


def diff_texts(old: str, new: str, context: int = 3, old_name: str = "old", new_name: str = "new") -> _Difference:
    r"""Compare two texts line by line.

    Args:
        old: The text as it was.
        new: The text as it is.
        context: How many equal lines to show around each change.
        old_name: What to call the old text in the diff.
        new_name: What to call the new text in the diff.

    Returns:
        How many lines were added and removed, how alike the texts are (0 to 1), and a unified diff, empty where they
        are equal.

    Examples:
        >>> change = diff_texts("pear\nfig\n", "pear\nkiwi\nplum\n")
        >>> change.added, change.removed
        (2, 1)
        >>> print(change.diff)
        --- old
        +++ new
        @@ -1,2 +1,3 @@
         pear
        -fig
        +kiwi
        +plum
    """
    before, after = old.splitlines(), new.splitlines()
    lines = list(difflib.unified_diff(before, after, old_name, new_name, n=max(context, 0), lineterm=""))
    similarity = difflib.SequenceMatcher(None, before, after, autojunk=False).ratio()
    return _Difference(
        added=sum(line.startswith("+") for line in lines[2:]),
        removed=sum(line.startswith("-") for line in lines[2:]),
        similarity=round(similarity, 4),
        diff="\n".join(lines),
    )


def test_equal_texts_have_no_diff() -> None:
    assert diff_texts("a\nb", "a\nb\n") == _Difference(0, 0, 1.0, "")


def test_lines_that_look_like_a_header_are_counted() -> None:
    change = diff_texts("-- x\n", "++ y\n")
    assert (change.added, change.removed) == (1, 1)
