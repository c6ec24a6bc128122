"""Elements of a report, each rendered by itself: what is wrong with one costs that one alone."""

import base64
import binascii
import html
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote
from xml.parsers import expat

from nbconvert.filters import ansi2html
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from nbledger_domain.vocabulary.media_types import WIDGET_VIEW
from nbledger_workers.reports.references import closed_fragment

_MOST_MARKS: Final = 1_000_000
"""So many tags and entities of HTML are looked at for one report, which takes half a minute."""

_MOST_NOTES: Final = 1_000
_PICTURE: Final = re.compile(r"image/[\w.+-]+")
_SVG: Final = "image/svg+xml"
_SCRIPTS: Final = (WIDGET_VIEW, "application/javascript")
_BLANKS: Final = re.compile(r"\s+")
_IMAGE: Final = re.compile(
    r"""(<img\b[^<>]*?\bsrc\s*=\s*)(?:"attachment:([^"<>]+)"|'attachment:([^'<>]+)')""",
    re.IGNORECASE,
)
# A browser takes minutes to break one line of millions.
_LONG_LINE: Final = re.compile(r"[^\n]{10000}(?=[^\n])")
_MISSING: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="220" height="24">'
    '<text x="2" y="17" font-family="sans-serif" font-size="13">picture not available</text></svg>'
)


class ElementError(Exception):
    """An element cannot be shown; the message says why."""


class Elements:
    """The elements of one report, each kept apart and represented on the page by a word.

    ``notes`` say what is not shown, and why.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._word = f"element{secrets.token_hex(16)}x"
        self._fragments: list[str] = []
        self._marks = 0

    def inserted(self, page: str) -> str:
        """The page with each word replaced by its element."""
        word = rf"{self._word}(\d+)z"
        return re.sub(
            rf"<p>{word}</p>|{word}", lambda found: self._fragments[int(found[1] or found[2])], page
        )

    def text(self, text: str) -> str:
        """The word for text with the colours of a terminal, to stand in a ``pre``."""
        return self._put(_coloured(text))

    def markdown(self, source: str, attachments: object, place: str) -> str:
        """The word for Markdown. ``place`` names the cell in notes."""
        before = len(self.notes)
        try:
            rendered = self._markdown(source, attachments, place)
        except Exception as error:  # noqa: BLE001 - whatever it is, the rest of the report is good
            self.note(place, f"its Markdown cannot be rendered ({_reason(error)})")
            rendered = f"<pre>{html.escape(source)}</pre>"
        return self._put(rendered + _told(self.notes[before:]))

    def output(self, output: Mapping[str, Any], place: str) -> str:
        """The word for a display or a result, by the first of its forms that can be shown."""
        before = len(self.notes)
        rendered = self._first_form(output, place)
        return self._put(rendered + _told(self.notes[before:]))

    def note(self, place: str, text: str) -> None:
        """Note what is not shown of the cell that ``place`` names."""
        if len(self.notes) < _MOST_NOTES:
            self.notes.append(f"{place}: {text}.")

    def _put(self, fragment: str) -> str:
        self._fragments.append(fragment)
        return f"{self._word}{len(self._fragments) - 1}z"

    def _first_form(self, output: Mapping[str, Any], place: str) -> str:
        data = output.get("data")
        forms = data if isinstance(data, Mapping) else {}
        metadata = output.get("metadata")
        told = metadata if isinstance(metadata, Mapping) else {}
        for media_type, show in self._known(forms, told, place):
            try:
                return show(_joined(forms[media_type]))
            except Exception as error:  # noqa: BLE001 - another form may do
                self.note(place, f"an output cannot be shown as {media_type} ({_reason(error)})")
        if any(True for _ in self._known(forms, told, place)):
            return ""
        if forms and not any(media_type in _SCRIPTS for media_type in forms):
            kinds = ", ".join(sorted(map(str, forms)))[:200]
            self.note(place, f"an output of the type {kinds} cannot be shown in a report")
        elif forms:
            self.note(place, "an output that only a script can draw is not shown")
        return ""

    def _known(
        self, forms: Mapping[str, Any], metadata: Mapping[str, Any], place: str
    ) -> Iterator[tuple[str, Callable[[str], str]]]:
        """The forms that can be shown, the best first, and how."""

        def markdown(source: str) -> str:
            return self._markdown(source, None, place)

        def picture(media_type: str) -> Callable[[str], str]:
            return lambda text: _picture(media_type, text, metadata)

        ways: dict[str, Callable[[str], str]] = {
            "text/html": self._html,
            "text/markdown": markdown,
            _SVG: lambda text: _picture(_SVG, _encoded_svg(text), metadata),
            "text/latex": lambda text: f"<div>{html.escape(text)}</div>",
            "image/png": picture("image/png"),
            "image/jpeg": picture("image/jpeg"),
        }
        for media_type in forms:
            if media_type not in ways and _PICTURE.fullmatch(media_type):
                ways[media_type] = picture(media_type)
        ways["text/plain"] = _plain
        return ((media_type, show) for media_type, show in ways.items() if media_type in forms)

    def _html(self, text: str) -> str:
        marks = text.count("<") + text.count("&")
        if self._marks + marks > _MOST_MARKS:
            raise ElementError(f"its HTML of {len(text):,} characters is too much for a report")
        self._marks += marks
        return closed_fragment(text)

    def _markdown(self, source: str, attachments: object, place: str) -> str:
        pictures = _Attachments(attachments, lambda reason: self.note(place, reason))
        renderer = IPythonRenderer(
            escape=False,
            attachments=pictures,  # type: ignore[arg-type]
            embed_images=False,
            exclude_anchor_links=True,
        )
        rendered = MarkdownWithMath(renderer=renderer).render(source)
        return self._html(_IMAGE.sub(pictures.in_html, rendered))


class _Attachments(Mapping[str, Mapping[str, str]]):
    """The pictures of a cell by name; one that is not there is noted, and another in its place."""

    def __init__(self, given: object, note: Callable[[str], None]) -> None:
        self._given = given if isinstance(given, Mapping) else {}
        self._note = note

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    def __getitem__(self, name: str) -> Mapping[str, str]:
        found = self._given.get(name, self._given.get(unquote(name)))
        if found is None:
            reason = "which the cell does not have"
        else:
            try:
                return _bundle(found)
            except ElementError as error:
                reason = f"which is no picture ({error})"
        self._note(f"it shows the attachment {unquote(name)!r}, {reason}")
        return {_SVG: base64.b64encode(_MISSING.encode()).decode()}

    def in_html(self, found: re.Match[str]) -> str:
        """A tag that shows an attachment, with the picture itself."""
        name = html.unescape(found[2] or found[3])
        ((media_type, content),) = self[name].items()
        return f'{found[1]}"data:{media_type};base64,{content}"'


def _bundle(forms: object) -> dict[str, str]:
    """The one form that is shown of an attachment, as base64."""
    if not isinstance(forms, Mapping) or not forms:
        raise ElementError("it is empty")
    for media_type in (_SVG, "image/png", "image/jpeg", *forms):
        if media_type in forms and _PICTURE.fullmatch(media_type):
            text = _joined(forms[media_type])
            if media_type == _SVG and text.lstrip().startswith("<"):
                return {media_type: _encoded_svg(text)}
            return {media_type: _checked(text)}
    raise ElementError(f"its type is {next(iter(forms))}")


def _joined(value: object) -> str:
    """Text as nbformat has it: whole or in lines."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and all(isinstance(line, str) for line in value):
        return "".join(value)
    raise ElementError("its content is no text")


def _coloured(text: str) -> str:
    return str(ansi2html(_LONG_LINE.sub(r"\g<0>\n", text)))  # type: ignore[no-untyped-call]


def _plain(text: str) -> str:
    return f"<pre>{_coloured(text)}</pre>"


def _picture(media_type: str, content: str, metadata: Mapping[str, Any]) -> str:
    told = metadata.get(media_type)
    own = {**metadata, **told} if isinstance(told, Mapping) else metadata
    sizes = "".join(
        f' {name}="{size:.0f}"'
        for name in ("width", "height")
        if isinstance(size := own.get(name), int | float) and 0 < size < 1e6
    )
    alternative = own.get("alt")
    alt = html.escape(alternative if isinstance(alternative, str) else "An output of the cell")
    return f'<img src="data:{media_type};base64,{_checked(content)}" alt="{alt}"{sizes}>'


def _checked(content: str) -> str:
    """Base64 without blanks. Raises :class:`ElementError`."""
    content = _BLANKS.sub("", content)
    try:
        if not binascii.a2b_base64(content.encode("ascii", "replace"), strict_mode=True):
            raise ElementError("it is empty")
    except binascii.Error as error:
        raise ElementError(f"no valid base64: {str(error)[:100]}") from None
    return content


def _encoded_svg(text: str) -> str:
    """Raises :class:`ElementError` for what no browser would draw."""
    try:
        expat.ParserCreate().Parse(text.encode(), True)
    except expat.ExpatError as error:
        raise ElementError(f"no well-formed SVG: {error}") from None
    return base64.b64encode(text.encode()).decode()


def _reason(error: Exception) -> str:
    return str(error)[:200] if isinstance(error, ElementError) else type(error).__name__


def _told(notes: Sequence[str]) -> str:
    return "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)
