# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["text", "file", "search"]
# ///
import re
from dataclasses import dataclass
from pathlib import Path

from actions import read_text


@dataclass(frozen=True)
class _Hit:
    path: str
    line: int
    text: str


def search_files(
    pattern: str,
    folder: Path = Path("."),
    files: str = "**/*",
    regex: bool = False,
    ignore_case: bool = True,
    limit: int = 100,
) -> list[_Hit]:
    r"""Search text files in a folder and below for words or a regular expression, line by line.

    Files that are no text, hidden ones and those over 20 MB are passed over.

    Args:
        pattern: What to look for.
        folder: Where to look.
        files: Which files, such as "*.csv" (in the folder itself) or "**/*.md" (below it too).
        regex: Take the pattern as a regular expression rather than as plain text.
        ignore_case: Do not tell capital from small letters.
        limit: Stop after this many lines.

    Returns:
        The lines found: file, line number from 1, and the line without its surrounding blanks, 300 characters at most.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: The regular expression is none.

    Examples:
        >>> Path("notes").mkdir(exist_ok=True)
        >>> _ = Path("notes/fruit.txt").write_text("pears are ripe\nfigs are not\n")
        >>> search_files("PEARS", folder="notes")
        [_Hit(path='notes/fruit.txt', line=1, text='pears are ripe')]
        >>> [hit.line for hit in search_files(r"are (not|ripe)$", "notes", files="*.txt", regex=True)]
        [1, 2]
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder {str(folder)!r}.")
    try:
        wanted = re.compile(pattern if regex else re.escape(pattern), re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    hits: list[_Hit] = []
    for path in sorted(folder.glob(files)):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file() or path.stat().st_size > 20 << 20:
            continue
        try:
            lines = read_text(path).split("\n")
        except (ValueError, OSError):
            continue
        for number, line in enumerate(lines, 1):
            if wanted.search(line):
                if len(hits) >= limit:
                    return hits
                hits.append(_Hit(path.as_posix(), number, line.strip()[:300]))
    return hits


def test_hidden_and_binary_files_are_passed_over() -> None:
    for name, data in {".hidden": b"pear", "blob": b"pear\0", "a.txt": b"Pear\npear\n", "sub/b.txt": b"pear"}.items():
        path = Path("mixed", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert [(hit.path, hit.line) for hit in search_files("pear", Path("mixed"))] == [
        ("mixed/a.txt", 1),
        ("mixed/a.txt", 2),
        ("mixed/sub/b.txt", 1),
    ]
    assert len(search_files("pear", Path("mixed"), ignore_case=False, limit=1)) == 1


def test_broken_pattern_is_said() -> None:
    try:
        search_files("(", regex=True)
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    assert message.startswith("'(' is not a regular expression")
