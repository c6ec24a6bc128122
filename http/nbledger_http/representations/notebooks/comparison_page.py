"""Two versions of a notebook side by side, as a page to read: without script, in light and dark."""

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from nbledger_domain.comparing.notebooks import CellComparison, ComparedCell, MemberChange
from nbledger_domain.comparing.operations import Operation
from nbledger_domain.unseen import all_seen
from nbledger_http.representations.notebooks.comparison import Compared, ComparedVersion

CONTEXT: Final = 3
"""Lines that are shown around those that changed."""

MEDIA_TYPE: Final = "text/html; charset=utf-8"

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
}

_SIGNS: Final = {"added": "+", "removed": "-", "kept": " "}


def page(compared: Compared) -> bytes:
    """The page; all that comes from the notebook is escaped."""
    told = compared.comparison
    title = f"{told.from_.notebook_version} → {told.to.notebook_version}"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        "<meta name='color-scheme' content='light dark'>",
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Notebook {told.notebook_id}</h1><table>",
        _side("from", told.from_),
        _side("to", told.to),
        "</table>",
    ]
    if told.identical:
        parts.append("<p>Both are the same.</p>")
    for name, changes in (
        ("Notebook", told.notebook),
        ("Parameters", told.parameters),
        ("Datasets", told.datasets),
        ("Input files", told.files),
    ):
        parts += _members(name, changes)
    counts = msgspec.to_builtins(told.counts)
    summary = ", ".join(f"{number} {change}" for change, number in counts.items() if number)
    parts.append(f"<h2>Cells</h2><p>{summary or 'none'}</p>")
    before = {cell.cell_id: cell for cell in compared.before}
    after = {cell.cell_id: cell for cell in compared.after}
    for cell in told.cells:
        parts += _cell(cell, before, after)
    return "".join([*parts, "</body></html>"]).encode("utf-8", "replace")


def _side(name: str, version: ComparedVersion) -> str:
    return (
        f"<tr><th>{name}</th><td>version {_text(version.notebook_version)}</td>"
        f"<td>position {version.position}</td><td>{_text(version.time)}</td></tr>"
    )


def _members(name: str, changes: Sequence[MemberChange]) -> Iterator[str]:
    if not changes:
        return
    yield f"<h2>{name}</h2><table><tr><th></th><th>before</th><th>after</th></tr>"
    for each in changes:
        yield (
            f"<tr><th>{_text(each.path)}</th><td>{_value(each.before, 'del')}</td>"
            f"<td>{_value(each.after, 'ins')}</td></tr>"
        )
    yield "</table>"


def _value(value: Any, tag: str) -> str:
    if value is UNSET:
        return ""
    return f"<{tag}>{_text(msgspec.json.encode(value).decode())}</{tag}>"


def _cell(
    cell: CellComparison, before: Mapping[str, ComparedCell], after: Mapping[str, ComparedCell]
) -> Iterator[str]:
    if cell.change == "unchanged":
        return
    what = cell.change if not cell.parts else f"{cell.change}: {', '.join(cell.parts)}"
    yield (
        f"<section><h3><code>{_text(cell.cell_id)}</code> {_text(cell.cell_type)} "
        f"<small>{_text(what)}</small></h3>"
    )
    old, new = before.get(cell.cell_id), after.get(cell.cell_id)
    if cell.change == "added" and new is not None:
        yield _lines([("added", _text(line)) for line in new.source.splitlines()])
    elif cell.change == "removed" and old is not None:
        yield _lines([("removed", _text(line)) for line in old.source.splitlines()])
    elif old is not None and new is not None:
        source = [each["diff"] for each in cell.diff if each["key"] == "source"]
        if source:
            yield _lines(_around(list(_source(old.source, source[0]))))
        for name in ("metadata", "attachments"):
            sides = getattr(old, name), getattr(new, name)
            if name in cell.parts:
                yield f"<p>{name}: {_value(sides[0], 'del')} {_value(sides[1], 'ins')}</p>"
    yield "</section>"


Line = tuple[str, str]
"""What has become of a line (added, removed or kept), and the line as HTML."""


def _source(before: str, diff: Sequence[Operation]) -> Iterator[Line]:
    lines = before.splitlines(keepends=True)
    at = 0
    for each in diff:
        while at < each["key"]:
            yield "kept", _text(lines[at])
            at += 1
        if each["op"] == "addrange":
            yield from (("added", _text(line)) for line in each["valuelist"])
        elif each["op"] == "removerange":
            yield from (("removed", _text(line)) for line in lines[at : at + each["length"]])
            at += each["length"]
        else:
            old, new = _within(lines[at], each["diff"])
            yield "removed", old
            yield "added", new
            at += 1
    yield from (("kept", _text(line)) for line in lines[at:])


def _within(line: str, diff: Sequence[Operation]) -> tuple[str, str]:
    """The line before and after, with what went and what came marked."""
    old, new, at = "", "", 0
    for each in diff:
        kept = _text(line[at : each["key"]])
        old, new, at = old + kept, new + kept, each["key"]
        if each["op"] == "addrange":
            new += f"<ins>{_marked(each['valuelist'])}</ins>"
        else:
            old += f"<del>{_marked(line[at : at + each['length']])}</del>"
            at += each["length"]
    return old + _text(line[at:]), new + _text(line[at:])


def _around(lines: Sequence[Line]) -> list[Line]:
    """Without what is far from any change."""
    near: set[int] = set()
    for index, (kind, _) in enumerate(lines):
        if kind != "kept":
            near.update(range(index - CONTEXT, index + CONTEXT + 1))
    shown: list[Line] = []
    for index, line in enumerate(lines):
        if index in near:
            shown.append(line)
        elif index - 1 in near or (index == 0 and shown == []):
            shown.append(("kept", "⋯"))
    return shown


def _lines(lines: Sequence[Line]) -> str:
    rows = "".join(f"<div class='{kind}'>{_SIGNS[kind]} {text}</div>" for kind, text in lines)
    return f"<pre>{rows}</pre>"


def _text(text: str) -> str:
    """Escaped; ends of lines go, and what nobody sees or what turns text around is made visible."""
    return html.escape("\t".join(all_seen(part, "�") for part in text.rstrip("\r\n").split("\t")))


def _marked(text: str) -> str:
    """Likewise of what changed, where the end of a line may be all there is."""
    return _text(text.replace("\r", "␍").replace("\n", "↵"))


_STYLE: Final = """
:root { color-scheme: light dark; --add: #d9f5df; --in: #9be3ab; --del: #ffe0de; --out: #ffb3ad }
@media (prefers-color-scheme: dark) {
  :root { --add: #12381c; --in: #1f6b35; --del: #45191a; --out: #8a2a2c }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
th { text-align: left; font-weight: 600; padding-right: 1rem } td { padding-right: 1rem }
table, p { overflow-wrap: anywhere }
section { border: 1px solid #8886; border-radius: 6px; margin: 1rem 0; padding: 0 1rem }
h3 { font-size: 1rem } small { font-weight: 400; opacity: .75 }
pre { overflow-x: auto; font: 13px/1.45 ui-monospace, monospace }
.added { background: var(--add) } .removed { background: var(--del) }
ins { background: var(--in); text-decoration: none }
del { background: var(--out); text-decoration: none }
"""
