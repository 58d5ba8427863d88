# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["text", "dates"]
# ///
import datetime
import re
from dataclasses import dataclass

_MONTHS = ["january", "february", "march", "april", "may", "june", "july"]
_MONTHS += ["august", "september", "october", "november", "december"]
_MONTH = r"(?P<{}>" + "|".join(f"{name[:3]}(?:{name[3:]})?" for name in _MONTHS) + r"|sept)\b\.?"
_DAY = r"(?P<{}>[0-3]?\d)(?:st|nd|rd|th)?"
_DATES = re.compile(
    r"(?<![\w.])(?:"
    r"(?P<y1>\d{4})(?P<s1>[-/.])(?P<m1>[01]?\d)(?P=s1)(?P<d1>[0-3]?\d)(?=T\d|\b)"
    r"|(?P<a2>[0-3]?\d)(?P<s2>[-/.])(?P<b2>[0-3]?\d)(?P=s2)(?P<y2>\d{4})(?!\w|\.\d)"
    r"|" + _DAY.format("d3") + r"(?:\s+of|\.)?[\s-]+" + _MONTH.format("m3") + r",?[\s-]+(?P<y3>\d{4})\b"
    r"|" + _MONTH.format("m4") + r"\s+" + _DAY.format("d4") + r",?\s+(?P<y4>\d{4})\b"
    r")",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class _Found:
    day: datetime.date
    text: str
    position: int


def _read(match: re.Match[str], day_first: bool) -> datetime.date:
    part = match.groupdict()
    if part["y1"]:
        return datetime.date(int(part["y1"]), int(part["m1"]), int(part["d1"]))
    if part["y2"]:
        first, second = int(part["a2"]), int(part["b2"])
        # 13/5 and 5/13 leave no choice, and dates written with dots begin with the day.
        if (day_first or first > 12 or part["s2"] == ".") and second <= 12:
            first, second = second, first
        return datetime.date(int(part["y2"]), first, second)
    name, number, year = (part["m3"], part["d3"], part["y3"]) if part["y3"] else (part["m4"], part["d4"], part["y4"])
    month = next(n for n, full in enumerate(_MONTHS, 1) if full.startswith(name[:3].lower()))
    return datetime.date(int(year), month, int(number))


def find_dates(text: str, day_first: bool = False) -> list[_Found]:
    """Find the dates in a text: 2024-05-01, 5/1/2024, 1.5.2024, 1 May 2024, May 1st, 2024 and the like.

    What looks like a date and is none, such as February 30, is left out. Month names are read in English.

    Args:
        text: The text to look through.
        day_first: Read 5/1/2024 as 5 January rather than as May 1.

    Returns:
        Each date, as it stands in the text, and at which character; in order.

    Examples:
        >>> for found in find_dates("Due on May 1st, 2024, paid 2024-04-28; 30/2/2024 is no date."):
        ...     print(found.day, "from", found.text, "at", found.position)
        2024-05-01 from May 1st, 2024 at 7
        2024-04-28 from 2024-04-28 at 27
        >>> find_dates("3/4/2024", day_first=True)[0].day
        datetime.date(2024, 4, 3)
    """
    found = []
    for match in _DATES.finditer(text):
        try:
            found.append(_Found(_read(match, day_first), match.group(), match.start()))
        except ValueError:
            continue
    return found


def test_the_usual_ways_to_write_one_date() -> None:
    ways = "2024-05-01|2024/5/1|2024-05-01T10:00|1.5.2024|01.05.2024|5/1/2024|1 May 2024|1st of May 2024|01-May-2024"
    ways += "|May 1, 2024|MAY 1st 2024|1. May 2024"
    for way in ways.split("|"):
        days = [found.day for found in find_dates(f"It was {way}.")]
        assert days == [datetime.date(2024, 5, 1)], way


def test_order_without_choice() -> None:
    assert [str(found.day) for found in find_dates("13/5/2024 5/13/2024")] == ["2024-05-13", "2024-05-13"]
    assert [str(found.day) for found in find_dates("5/13/2024", day_first=True)] == ["2024-05-13"]


def test_what_is_no_date() -> None:
    assert find_dates("Version 1.2.2024.1x, tel. 555-1-20245, 2023-02-29, may 2024, 1 Mayor 2024, 192.168.1.2024") == []
