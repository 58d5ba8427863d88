# /// script
# requires-python = ">=3.11"
# dependencies = ["beautifulsoup4>=4.12"]
# [tool.dynasaur]
# tags = ["html", "web", "text"]
# ///
import re
from pathlib import Path

from actions import read_text

_UNSEEN = ["script", "style", "noscript", "template", "head", "title", "svg"]
_BLOCKS = re.compile(
    r"^(address|article|aside|blockquote|dd|div|dl|dt|fieldset|figcaption|figure|footer|form|h[1-6]|header|hr|li|main|nav"
    r"|ol|p|pre|section|table|tr|ul)$"
)


def extract_text(page: str) -> str:
    """Extract the text a reader of a web page sees, a line for each paragraph, list item or table row.

    Args:
        page: The HTML itself, or the path of an HTML file.

    Returns:
        Plain text; list items begin with "- ", table cells are set apart by tabs.

    Raises:
        FileNotFoundError: It is no HTML and no such file.

    Examples:
        >>> extract_text("<h1>Fruit</h1><p>Pears &amp; <b>figs</b>.</p><ul><li>ripe<li>sweet</ul><script>x()</script>")
        'Fruit\\n\\nPears & figs.\\n\\n- ripe\\n- sweet'
        >>> _ = Path("page.html").write_text("<title>Unseen</title><table><tr><td>pear<td>3</table>")
        >>> extract_text("page.html")
        'pear\\t3'
    """
    from bs4 import BeautifulSoup, NavigableString

    soup = BeautifulSoup(page if "<" in page else read_text(Path(page)), "html.parser")
    for tag in soup(_UNSEEN):
        tag.decompose()
    for node in soup.find_all(string=True):
        if type(node) is NavigableString and node.find_parent("pre") is None:
            node.replace_with(re.sub(r"\s+", " ", node))
    for tag in soup.find_all("br"):
        tag.replace_with("\n")
    for tag in soup.find_all(["td", "th"]):
        # Before each but a row's first, for </td> is often left out and then the next cell lies inside this one.
        before = tag.find_previous(["td", "th", "tr"])
        if before is not None and before.name != "tr":
            tag.insert_before("\t")
    for tag in soup.find_all("li"):
        tag.insert(0, "- ")
    for tag in soup.find_all(_BLOCKS):
        gap = "\n" if tag.name in ("li", "tr", "dt", "dd") else "\n\n"
        tag.insert_before(gap)
        tag.insert_after(gap)
    lines = [re.sub(r" *\t *", "\t", line).strip() for line in soup.get_text().split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
