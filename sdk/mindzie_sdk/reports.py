"""Reports: what form they have and what they are called."""

import html
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

ReportFormat: TypeAlias = Literal["html", "pdf", "markdown", "text"]

_BY_SUFFIX: dict[str, ReportFormat] = {
    ".htm": "html",
    ".html": "html",
    ".md": "markdown",
    ".markdown": "markdown",
    ".pdf": "pdf",
    ".txt": "text",
}
SUFFIX: dict[ReportFormat, str] = {
    "html": ".html",
    "markdown": ".md",
    "pdf": ".pdf",
    "text": ".txt",
}
MEDIA_TYPE: dict[ReportFormat, str] = {
    "html": "text/html",
    "markdown": "text/markdown",
    "pdf": "application/pdf",
    "text": "text/plain",
}
_LONGEST_PATH = 1000
_ROOTED = re.compile(r"\.{0,2}/(?!/)|[A-Za-z]:[\\/]")
_SPACES = re.compile(r"\s")
_TITLE_LENGTH = 200
# Each of them takes time that grows with the text alone, whatever is in it.
_SPACE = re.compile(r"\s*")
_HTML = re.compile(r"<(?:!doctype\s+html|[a-z][a-z0-9]*[\s>/])", re.IGNORECASE)
_HTML_TITLE = re.compile(r"<(title|h1|h2)\b[^<>]*>", re.IGNORECASE)
_HTML_TAG = re.compile(r"<[^<>]*>")
_MARKDOWN_TITLE = re.compile(r"^#{1,6} +(\S.*)$", re.MULTILINE)
_MARKDOWN = re.compile(
    r"^(?:#{1,6} |```|\|.*\|\s*$)|\*\*\S.*?\*\*|\[[^\[\]]+\]\([^()]+[()]", re.MULTILINE
)


@dataclass(frozen=True)
class Report:
    """A report that is to be handed back."""

    content: bytes
    format: ReportFormat
    title: str


def make(given: object, title: str | None) -> Report:
    """A report of HTML, Markdown or plain text, a file of these or of PDF, or a thing that shows.

    Raises FileNotFoundError for a path at which nothing is, ValueError for a file of another form
    and for nothing at all, TypeError for what cannot be a report.

    >>> make("<h1>Loans &amp; more</h1><p>…</p>", None).title
    'Loans & more'
    >>> make("# Loans", None).format, make("All is well.", None).format
    ('markdown', 'text')
    """
    if isinstance(given, Path):
        return _from_file(given, title)
    if isinstance(given, str):
        if _names_a_file(given.strip()):
            return _from_file(Path(given.strip()), title)
        return _from_text(given, _format_of(given), title)
    if isinstance(given, bytes | bytearray) and bytes(given[:5]) == b"%PDF-":
        return Report(bytes(given), "pdf", _title(title, "Report"))
    for method, form in (("_repr_html_", "html"), ("_repr_markdown_", "markdown")):
        shown = getattr(given, method, None)
        text = shown() if callable(shown) else None
        if isinstance(text, str):
            return _from_text(text, "html" if form == "html" else "markdown", title)
    raise TypeError(f"A report is HTML, text or the path of a file, and no {type(given).__name__}.")


def _names_a_file(text: str) -> bool:
    """Whether it is meant as a path, be there such a file or not."""
    if "\n" in text or len(text) > _LONGEST_PATH or "<" in text:
        return False
    known = Path(text).suffix.lower() in _BY_SUFFIX
    one_word = not _SPACES.search(text)
    if known + one_word + bool(_ROOTED.match(text)) > 1:
        return True
    with suppress(OSError):  # too long for a name
        return (known or one_word) and Path(text).is_file()
    return False


def _from_file(path: Path, title: str | None) -> Report:
    form = _BY_SUFFIX.get(path.suffix.lower())
    if form is None:
        known = ", ".join(sorted(_BY_SUFFIX))
        raise ValueError(f"{path.name} is no report: its name must end in one of {known}.")
    content = path.read_bytes()
    if form == "pdf":
        if not content.startswith(b"%PDF-"):
            raise ValueError(f"{path.name} is no PDF.")
        return Report(content, form, _title(title, path.stem))
    return _from_text(content.decode("utf-8"), form, title, otherwise=path.stem)


def _from_text(
    text: str, form: ReportFormat, title: str | None, otherwise: str = "Report"
) -> Report:
    if not text.strip():
        raise ValueError("The report is empty.")
    found = None
    if form == "html":
        found = _html_title(text)
    elif form == "markdown" and (match := _MARKDOWN_TITLE.search(text)):
        found = match[1].rstrip(" #")
    return Report(text.encode(), form, _title(title, found or otherwise))


def _format_of(text: str) -> ReportFormat:
    if _is_html(text):
        return "html"
    return "markdown" if _MARKDOWN.search(text) else "text"


def _is_html(text: str) -> bool:
    """Whether a document of HTML or an element is the first in it, but for comments."""
    at = _after_space(text, 0)
    while text.startswith("<!--", at):
        end = text.find("-->", at + 4)
        if end < 0:
            return False
        at = _after_space(text, end + 3)
    return _HTML.match(text, at) is not None


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _html_title(text: str) -> str | None:
    never_closed = set()
    for opening in _HTML_TITLE.finditer(text):
        tag = opening[1].lower()
        if tag in never_closed:
            continue
        closing = re.compile(f"</{tag}>", re.IGNORECASE).search(text, opening.end())
        if closing is not None:
            return html.unescape(_HTML_TAG.sub("", text[opening.end() : closing.start()]))
        never_closed.add(tag)
    return None


def _title(given: str | None, found: str) -> str:
    if given is not None:
        return given
    return " ".join(found.split())[:_TITLE_LENGTH] or "Report"
