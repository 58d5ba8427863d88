# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["web", "download", "http"]
# ///
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_MAX_BYTES = 20 << 20


@dataclass(frozen=True)
class _Page:
    url: str
    status: int
    content_type: str
    text: str
    saved_as: str | None = None


def fetch_page(url: str, save_as: Path | None = None, timeout_seconds: float = 20.0) -> _Page:
    """Fetch a web page, or download a file, from a host that code is allowed to reach.

    Args:
        url: An http or https address.
        save_as: Keep what came in this file, byte for byte, rather than giving its text; for anything but text.
        timeout_seconds: Give up after this long without an answer.

    Returns:
        The final address after redirects, HTTP status, content type, and the text (empty when saved).

    Raises:
        ValueError: The address is no http or https address, or the answer is over 20 MB.
        ConnectionError: The server cannot be reached: not allowed here, no such host, or too slow.
        RuntimeError: The server answered with an error, such as 404.

    Examples:
        >>> fetch_page("ftp://site.example/a")
        Traceback (most recent call last):
        ValueError: 'ftp://site.example/a' is not an http or https address.
    """
    host = urlsplit(url).hostname
    if urlsplit(url).scheme not in ("http", "https") or not host:
        raise ValueError(f"{url!r} is not an http or https address.")
    request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0 (compatible; fetch_page)"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:
            data = answer.read(_MAX_BYTES + 1)
            final_url, status, headers = answer.url, answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            raise RuntimeError(f"{host!r} answered {error.code} {error.reason} for {url!r}.") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(
            f"Cannot reach {host!r}: {reason}. Where the server does not allow that host, ask for the page to "
            "be put into the workspace as a file."
        ) from None
    if len(data) > _MAX_BYTES:
        raise ValueError(f"What {url!r} gives is over {_MAX_BYTES >> 20} MB.")
    content_type = headers.get_content_type()
    if save_as is not None:
        Path(save_as).parent.mkdir(parents=True, exist_ok=True)
        Path(save_as).write_bytes(data)
        return _Page(final_url, status, content_type, "", str(save_as))
    try:
        text = data.decode(headers.get_content_charset() or "utf-8", "replace")
    except LookupError:
        text = data.decode("utf-8", "replace")
    return _Page(final_url, status, content_type, text)


def test_a_page_an_error_and_nobody_there() -> None:
    import http.server
    import threading

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/page" else 404)
            self.send_header("Content-Type", "text/html; charset=latin-1")
            self.end_headers()
            self.wfile.write("<p>naïve</p>".encode("latin-1"))

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the base class calls it so

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    messages = []
    try:
        page = fetch_page(f"{address}/page")
        saved = fetch_page(f"{address}/page", save_as=Path("kept/page.html"))
        try:
            fetch_page(f"{address}/gone")
        except RuntimeError as error:
            messages.append(str(error))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    try:
        fetch_page(f"{address}/page", timeout_seconds=5)
    except ConnectionError as error:
        messages.append(str(error))
    assert (page.status, page.content_type, page.text) == (200, "text/html", "<p>naïve</p>")
    assert (saved.text, Path("kept/page.html").read_bytes()) == ("", b"<p>na\xefve</p>")
    assert messages[0] == f"'127.0.0.1' answered 404 Not Found for '{address}/gone'."
    assert messages[1].startswith("Cannot reach '127.0.0.1'")
