# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["text", "file"]
# ///
"""Text files as people have them: any of the usual encodings, any line ending."""

import codecs
import difflib
from pathlib import Path

# UTF-32 first: its little-endian mark begins with the one of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _decode(data: bytes, path: Path) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    if b"\0" in data:
        raise ValueError(f"{str(path)!r} is not a text file.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _say_missing(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"No file {str(path)!r}: there is no folder {str(folder)!r}."
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    near = difflib.get_close_matches(path.name, names, n=3)
    if near:
        return f"No file {str(path)!r}. Did you mean {' or '.join(map(repr, near))}?"
    return f"No file {str(path)!r}. Files there: {', '.join(names[:20]) or 'none'}."


def read_text(path: Path, first_line: int = 1, last_line: int | None = None) -> str:
    r"""Read a text file, whatever its encoding, or some of its lines.

    UTF-8, UTF-16, UTF-32 and Windows-1252 are told apart. Line ends come back as a plain newline.

    Args:
        path: The text file.
        first_line: The first line wanted; lines count from 1.
        last_line: The last line wanted; without it, all to the end.

    Returns:
        The text of those lines.

    Raises:
        FileNotFoundError: No such file; names the nearest ones.
        ValueError: It is not text.

    Examples:
        >>> _ = Path("poem.txt").write_bytes("Über allen\r\nGipfeln\r\nist Ruh".encode("cp1252"))
        >>> read_text("poem.txt")
        'Über allen\nGipfeln\nist Ruh'
        >>> read_text("poem.txt", first_line=2, last_line=2)
        'Gipfeln\n'
        >>> read_text("poems.txt")
        Traceback (most recent call last):
        FileNotFoundError: No file 'poems.txt'. Did you mean 'poem.txt'?
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"{str(path)!r} is a folder. In it: {', '.join(sorted(p.name for p in path.iterdir()))}"
        )
    if not path.is_file():
        raise FileNotFoundError(_say_missing(path))
    text = _decode(path.read_bytes(), path).replace("\r\n", "\n").replace("\r", "\n")
    if first_line <= 1 and last_line is None:
        return text
    # Not splitlines: it also splits at form feeds and the like, and line numbers would be nobody else's.
    lines = text.split("\n")
    end = len(lines) if last_line is None else last_line
    chosen = "\n".join(lines[max(first_line, 1) - 1 : end])
    return chosen + "\n" if chosen and end < len(lines) else chosen


def test_utf16_is_read() -> None:
    Path("wide.txt").write_bytes("naïve".encode("utf-16"))
    assert read_text(Path("wide.txt")) == "naïve"


def test_byte_order_mark_is_dropped() -> None:
    Path("marked.txt").write_bytes("a".encode("utf-8-sig"))
    assert read_text(Path("marked.txt")) == "a"


def test_binary_file_is_refused() -> None:
    Path("picture.bin").write_bytes(b"\x89PNG\0\0")
    try:
        read_text(Path("picture.bin"))
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    assert message == "'picture.bin' is not a text file."


def test_lines_beyond_the_end_are_empty() -> None:
    Path("short.txt").write_text("one\n")
    assert read_text(Path("short.txt"), first_line=5) == ""
