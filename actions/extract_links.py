# /// script
# requires-python = ">=3.11"
# dependencies = ["beautifulsoup4>=4.12"]
# [tool.dynasaur]
# tags = ["html", "web", "links"]
# ///
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from actions import read_text


@dataclass(frozen=True)
class _Link:
    text: str
    url: str


def extract_links(page: str, base_url: str = "", contains: str = "") -> list[_Link]:
    """Extract the links of a web page: their text and where they lead, each address once.

    Links within the page and to scripts are left out.

    Args:
        page: The HTML itself, or the path of an HTML file.
        base_url: Address of the page, to make relative links whole.
        contains: Only links whose text or address contains this, in any case.

    Returns:
        The links, in the page's order.

    Raises:
        FileNotFoundError: It is no HTML and no such file.

    Examples:
        >>> page = '<a href="/pears">All  pears</a> <a href="#top">up</a> <a href="mailto:me@site.example">Write</a>'
        >>> extract_links(page, base_url="https://site.example/fruit/")[0]
        _Link(text='All pears', url='https://site.example/pears')
        >>> [link.url for link in extract_links(page, contains="WRITE")]
        ['mailto:me@site.example']
    """
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page if "<" in page else read_text(Path(page)), "html.parser")
    base = soup.find("base", href=True)
    start = urljoin(base_url, base["href"]) if base else base_url
    links: dict[str, _Link] = {}
    for anchor in soup.find_all(["a", "area"], href=True):
        target = anchor["href"].strip()
        if not target or target.startswith("#") or target.lower().startswith("javascript:"):
            continue
        picture = anchor.find("img", alt=True)
        text = " ".join(anchor.get_text(" ").split()) or (picture["alt"] if picture else anchor.get("alt", ""))
        url = urljoin(start, target)
        if contains.casefold() in f"{text} {url}".casefold():
            links.setdefault(url, _Link(text, url))
    return list(links.values())


def test_each_address_once_and_base_is_heeded() -> None:
    page = (
        '<base href="/b/"><a href="x">One</a><a href="x">Two</a><a href="y"><img alt="Picture"></a><a name="z">no</a>'
    )
    assert extract_links(page, "https://site.example/a") == [
        _Link("One", "https://site.example/b/x"),
        _Link("Picture", "https://site.example/b/y"),
    ]
