"""Reports: what form they have and what they are called."""

import html
import re
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
_TITLE_LENGTH = 200
_HTML = re.compile(
    r"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|[a-z][a-z0-9]*[\s>/])", re.IGNORECASE | re.DOTALL
)
_HTML_TITLE = re.compile(r"<(title|h1|h2)\b[^>]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_MARKDOWN_TITLE = re.compile(r"^#{1,6} +(.+?)[ #]*$", re.MULTILINE)
_MARKDOWN = re.compile(
    r"^(?:#{1,6} |```|\|.*\|\s*$)|\*\*\S.*?\*\*|\[[^\]]+\]\([^)]+\)", re.MULTILINE
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
        if _names_a_file(given):
            return _from_file(Path(given), title)
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
    if "\n" in text or len(text) > _LONGEST_PATH or "<" in text:
        return False
    return Path(text).suffix.lower() in _BY_SUFFIX and Path(text).is_file()


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
    if form == "html" and (match := _HTML_TITLE.search(text)):
        found = html.unescape(re.sub(r"<[^>]*>", "", match[2]))
    elif form == "markdown" and (match := _MARKDOWN_TITLE.search(text)):
        found = match[1]
    return Report(text.encode(), form, _title(title, found or otherwise))


def _format_of(text: str) -> ReportFormat:
    if _HTML.match(text):
        return "html"
    return "markdown" if _MARKDOWN.search(text) else "text"


def _title(given: str | None, found: str) -> str:
    if given is not None:
        return given
    return " ".join(found.split())[:_TITLE_LENGTH] or "Report"
