# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["text", "file", "compare"]
# ///
from dataclasses import dataclass
from pathlib import Path

from actions import diff_texts, read_text


@dataclass(frozen=True)
class _Difference:
    added: int
    removed: int
    similarity: float
    diff: str


def diff_files(old: Path, new: Path, context: int = 3) -> _Difference:
    r"""Compare two text files line by line, whatever their encodings and line ends.

    Args:
        old: The file as it was.
        new: The file as it is.
        context: How many equal lines to show around each change.

    Returns:
        How many lines were added and removed, how alike the files are (0 to 1), and a unified diff, empty where they
        are equal.

    Raises:
        FileNotFoundError: No such file; names the nearest ones.
        ValueError: One is not text.

    Examples:
        >>> _ = Path("a.txt").write_bytes(b"pear\r\nfig\r\n")
        >>> _ = Path("b.txt").write_bytes(b"pear\nkiwi\n")
        >>> print(diff_files("a.txt", "b.txt", context=0).diff)
        --- a.txt
        +++ b.txt
        @@ -2 +2 @@
        -fig
        +kiwi
    """
    change = diff_texts(read_text(old), read_text(new), context, str(old), str(new))
    return _Difference(change.added, change.removed, change.similarity, change.diff)
