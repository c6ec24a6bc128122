"""Takes out of HTML what a browser would load, obey or follow by itself; links to click stay.

The page's own policy forbids the same. But a policy says nothing of a page that sends its reader
elsewhere, and a file that names nothing remote can be checked by reading it.
"""

import html
import re
from html.parser import HTMLParser
from typing import Final

# Dropped with all that is in them.
_DROPPED: Final = frozenset({"script", "iframe", "object", "noscript", "template"})
# Dropped as tags.
_UNWANTED: Final = frozenset(
    {"base", "embed", "frame", "frameset", "form", "link", "meta", "param", "portal"}
)
# Attributes that name something to load, in HTML and SVG.
_LOADING: Final = frozenset(
    {
        "action",
        "archive",
        "background",
        "cite",
        "classid",
        "codebase",
        "data",
        "dynsrc",
        "formaction",
        "from",
        "longdesc",
        "lowsrc",
        "manifest",
        "ping",
        "poster",
        "profile",
        "src",
        "srcdoc",
        "to",
        "usemap",
        "values",
        "xml:base",
    }
)
_LINKING: Final = frozenset({"href", "xlink:href"})
_INLINE: Final = re.compile(r"\s*(data:|#|cid:none)", re.IGNORECASE)
_CLICKED: Final = re.compile(r"\s*(https?:|mailto:|#)", re.IGNORECASE)
# Remote places in CSS; escapes may spell them in other ways, so what has any goes as a whole.
_CSS: Final = re.compile(r"@import|\\|url\s*\(\s*[\"']?\s*(?!data:|#|[\"'\s])", re.IGNORECASE)
_VOID: Final = frozenset({"area", "br", "col", "hr", "img", "input", "source", "track", "wbr"})


def without_references(text: str) -> str:
    """The same HTML, free of references to anything outside of it."""
    cleaner = _Cleaner()
    cleaner.feed(text)
    cleaner.close()
    return "".join(cleaner.kept)


class _Cleaner(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.kept: list[str] = []
        self._dropping: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._dropping or tag in _DROPPED:
            if tag in _DROPPED:
                self._dropping.append(tag)
            return
        if tag in _UNWANTED:
            return
        self._style = tag == "style"
        self.kept.append(f"<{tag}{_attributes(tag, attrs)}>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._dropping or tag in _DROPPED or tag in _UNWANTED:
            return
        end = ">" if tag in _VOID else "/>"
        self.kept.append(f"<{tag}{_attributes(tag, attrs)}{end}")

    def handle_endtag(self, tag: str) -> None:
        if self._dropping:
            if tag == self._dropping[-1]:
                self._dropping.pop()
            return
        self._style = False
        if tag not in _DROPPED and tag not in _UNWANTED:
            self.kept.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if self._dropping:
            return
        if self._style:
            # The parser gives what stands in it as it is.
            self.kept.append("" if _CSS.search(data) else data)
        else:
            self.kept.append(data.replace("<", "&lt;"))

    def handle_entityref(self, name: str) -> None:
        if not self._dropping:
            self.kept.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        if not self._dropping:
            self.kept.append(f"&#{name};")


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
    # Styles, and the attributes of SVG that may name a filter or a mask elsewhere.
    return not _CSS.search(value) if "(" in value or "\\" in value else True
