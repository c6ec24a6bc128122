"""Takes out of HTML what a browser would load, obey or follow by itself; links to click stay.

The page's own policy forbids the same. But a policy says nothing of a page that sends its reader
elsewhere, and a file that names nothing remote can be checked by reading it.
"""

import html
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Final

# Dropped with all that is in them.
_DROPPED: Final = frozenset({"script", "iframe", "object", "noscript", "template"})
# Dropped as tags.
_UNWANTED: Final = frozenset(
    {
        *("base", "embed", "form", "frame", "frameset", "link", "meta", "noembed", "noframes"),
        *("param", "plaintext", "portal", "xmp"),
    }
)
_TAG: Final = re.compile(r"[a-z][a-z0-9:._-]*")
# Attributes that name something to load, in HTML and SVG.
_LOADING: Final = frozenset(
    {
        *("action", "archive", "background", "cite", "classid", "codebase", "data", "dynsrc"),
        *("formaction", "from", "longdesc", "lowsrc", "manifest", "ping", "poster", "profile"),
        *("src", "srcdoc", "to", "usemap", "values", "xml:base"),
    }
)
_LINKING: Final = frozenset({"href", "xlink:href"})
_INLINE: Final = re.compile(r"\s*(data:|#|cid:none)", re.IGNORECASE)
_CLICKED: Final = re.compile(r"\s*(https?:|mailto:|#)", re.IGNORECASE)
# Attributes that are words or names, whatever stands in them.
_WORDS: Final = frozenset(
    {
        *("alt", "class", "for", "headers", "id", "label", "name", "placeholder", "summary"),
        *("title", "value"),
    }
)
_WORDS_BEGINNINGS: Final = ("aria-", "data-", "xmlns")
_ADDRESS: Final = re.compile(r"(?:^|\s)(?:[a-z]+:)?//", re.IGNORECASE)
# What CSS may do. Whatever else there is, or will be, might load something.
_AT_RULES: Final = frozenset({"container", "font-face", "keyframes", "layer", "media", "supports"})
_FUNCTION: Final = re.compile(
    r"""
    calc | clamp | counters? | fit-content | format | local | max | min | minmax | repeat | var
    | color | color-mix | hsla? | hwb | light-dark | (ok)?lab | (ok)?lch | rgba?
    | (repeating-)?(conic|linear|radial)-gradient
    | matrix(3d)? | perspective | (rotate|scale|translate)([xyz]|3d)? | skew[xy]?
    | circle | cubic-bezier | ellipse | inset | path | polygon | steps
    | blur | brightness | contrast | drop-shadow | grayscale | hue-rotate | invert | opacity
    | saturate | sepia
    | dir | has | is | lang | not | nth-(last-)?(child|of-type) | where
    """,
    re.VERBOSE,
)
_AT_RULE: Final = re.compile(r"@([\w-]*)")
_URL_INSIDE: Final = re.compile(r"\s*[\"']?\s*(data:|#)", re.IGNORECASE)
_NAME_AT_END: Final = re.compile(r"[\w-]*\Z")
_NAME_CHARACTERS: Final = 40
# A section that the parser does not know ends it with an error; to a browser it is a comment.
_SECTION: Final = re.compile(r"<!\[(?!CDATA\[)")
_VOID: Final = frozenset({"area", "br", "col", "hr", "img", "input", "source", "track", "wbr"})
_FRAME: Final = frozenset({"html", "head", "body"})


def without_references(text: str) -> str:
    """The same HTML, free of references to anything outside of it.

    Every ``<`` of it begins a tag that was looked at: so no other way of reading it, as that of
    raw text or of SVG, finds a tag that was not.
    """
    cleaner = _Cleaner()
    cleaner.feed(_SECTION.sub("<!-", text))
    cleaner.close()
    return "".join(cleaner.kept)


def closed_fragment(text: str) -> str:
    """The same, free of references as well, with every element closed that it opens, and no other.

    So whatever stands in it, what follows it on the page is shown as if it were not there.
    """
    cleaner = _Closer()
    cleaner.feed(_SECTION.sub("<!-", text))
    cleaner.close()
    return "".join([*cleaner.kept, *cleaner.closing()])


class _Cleaner(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.kept: list[str] = []
        self._dropping: list[str] = []
        # The tag that has begun one, and what stands in it so far.
        self._style: tuple[str, list[str]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._dropping or tag in _DROPPED:
            if tag in _DROPPED:
                self._dropping.append(tag)
        elif tag == "style":
            self._style = f"<style{_attributes(tag, attrs)}>", []
        elif _may_be(tag):
            self.kept.append(f"<{tag}{_attributes(tag, attrs)}>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # A style that ends where it begins does so in SVG only: in HTML it goes on.
        if self._dropping or tag in _DROPPED or tag == "style" or not _may_be(tag):
            return
        end = ">" if tag in _VOID else "/>"
        self.kept.append(f"<{tag}{_attributes(tag, attrs)}{end}")

    def handle_endtag(self, tag: str) -> None:
        if self._dropping:
            if tag == self._dropping[-1]:
                self._dropping.pop()
        elif tag == "style":
            self._end_style()
        elif tag not in _DROPPED and _may_be(tag):
            self.kept.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if self._dropping:
            return
        if self._style is not None:
            self._style[1].append(data)
        else:
            self.kept.append(data.replace("<", "&lt;"))

    def handle_entityref(self, name: str) -> None:
        if not self._dropping:
            self.kept.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        if not self._dropping:
            self.kept.append(f"&#{name};")

    def _end_style(self) -> None:
        if self._style is None:
            return
        begin, pieces = self._style
        self._style = None
        css = "".join(pieces)
        # In SVG what stands in a style is markup: there it might be tags and references.
        if "<" not in css and "&" not in css and not _may_load(css):
            self.kept.append(f"{begin}{css}</style>")


class _Closer(_Cleaner):
    """Keeps elements closed; a page in the page loses its frame."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self._counts: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _FRAME:
            return
        before = len(self.kept)
        super().handle_starttag(tag, attrs)
        if len(self.kept) > before and tag not in _VOID:
            self._open.append(tag)
            self._counts[tag] += 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._counts["svg"] or self._counts["math"] or tag in {*_VOID, "svg", "math"}:
            super().handle_startendtag(tag, attrs)
        else:
            # In HTML an element does not end where it begins.
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._dropping or tag == "style" or tag in _DROPPED:
            super().handle_endtag(tag)
        elif self._counts[tag]:
            self.kept += self.closing(tag)

    def closing(self, tag: str | None = None) -> list[str]:
        """The ends of the open elements up to this one, or of all."""
        ends: list[str] = []
        while self._open:
            last = self._open.pop()
            self._counts[last] -= 1
            ends.append(f"</{last}>")
            if last == tag:
                break
        return ends


def _may_be(tag: str) -> bool:
    return tag not in _UNWANTED and _TAG.fullmatch(tag) is not None


def _attributes(tag: str, attrs: list[tuple[str, str | None]]) -> str:
    kept = []
    for name, value in attrs:
        if not _may_stay(tag, name, value or "") or not re.fullmatch(r"[^\s\"'<>/=]+", name):
            continue
        kept.append(f" {name}" if value is None else f' {name}="{html.escape(value)}"')
    return "".join(kept)


def _may_stay(tag: str, name: str, value: str) -> bool:
    if name.startswith("on") or name in {"srcset", "imagesrcset", "http-equiv"}:
        return False
    if name in _LINKING:
        return bool((_CLICKED if tag in {"a", "area"} else _INLINE).match(value))
    if name in _LOADING:
        return bool(_INLINE.match(value))
    if name in _WORDS or name.startswith(_WORDS_BEGINNINGS):
        return True
    # Styles, and the attributes of SVG that may name a filter or a mask elsewhere.
    return not _ADDRESS.search(value) and not _may_load(value)


def _may_load(css: str) -> bool:
    """Whether it does anything but what is known to load nothing; escapes may spell any of it."""
    if "\\" in css or not _AT_RULES.issuperset(map(str.lower, _AT_RULE.findall(css))):
        return True
    before, *calls = css.split("(")
    for after in calls:
        name = _name_at_end(before)
        known = _URL_INSIDE.match(after) if name == "url" else _FUNCTION.fullmatch(name)
        if name and not known:
            return True
        before = after
    return False


def _name_at_end(text: str) -> str:
    found = _NAME_AT_END.search(text[-_NAME_CHARACTERS:])
    return found[0].lower() if found else ""
