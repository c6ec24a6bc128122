"""Renders a notebook to HTML: nbformat JSON on stdin, a page that loads nothing on stdout.

Before the page stands one line of JSON: a list of texts that say what the page does not show.
`metadata.report` of the notebook says what stands above it: `facts` and `parameters`, lists of
label and text, and whether the code of cells is hidden (`hideCode`). A cell is called in notes as
its metadata say (`reportName`).
"""

import html
import json
import sys
from typing import Any, Final

import nbformat
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]

from nbledger_workers.reports.elements import Elements
from nbledger_workers.reports.references import without_references

# What outputs bring along (scripts, images from elsewhere) stays in the file and is not obeyed.
_POLICY: Final = (
    "default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; }
.cell { margin: 0 0 1.2rem; }
.prompt { color: #7a8696; font: 12px ui-monospace, monospace; }
.input_area, .output_stream { background: #f5f7fa; border-radius: 4px; padding: .5rem .8rem;
  overflow-x: auto; }
.output_stderr { background: #fff4e5; }
.output_error { background: #fdecec; border-radius: 4px; padding: .5rem .8rem; overflow-x: auto; }
pre { margin: 0; font: 13px/1.45 ui-monospace, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; }
img, svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: .25rem .6rem; border: 1px solid #dbe1e8; text-align: right; }
.provenance { margin: 0 0 1.5rem; }
.provenance th, .provenance td { text-align: left; border-width: 1px 0; vertical-align: top;
  overflow-wrap: anywhere; }
.provenance th { color: #566273; font-weight: 600; white-space: nowrap; }
.ansi-red-fg, .ansi-red-intense-fg { color: #b3261e; }
.ansi-green-fg, .ansi-green-intense-fg { color: #196c2e; }
.ansi-blue-fg, .ansi-blue-intense-fg, .ansi-cyan-fg { color: #1b5fae; }
.ansi-bold { font-weight: 600; }
.note { color: #8a5300; font-style: italic; }
"""

_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta http-equiv="x-dns-prefetch-control" content="off">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}{highlighting}</style>
</head>
<body>
<h1>{title}</h1>
{facts}
{parameters}
{body}
</body>
</html>
"""


def render(document: str) -> str:
    """The page of a notebook; its title is the notebook's ``metadata.title``."""
    return render_with_notes(document)[0]


def render_with_notes(document: str) -> tuple[str, list[str]]:
    """The page of a notebook, and what it does not show."""
    notebook = nbformat.v4.reads(document)  # type: ignore[no-untyped-call]
    told: dict[str, Any] = notebook.metadata.get("report", {})
    elements = Elements()
    for number, cell in enumerate(notebook.cells, 1):
        _set_apart(cell, elements, str(cell.metadata.get("reportName") or f"Cell {number}"))
    hide_code = bool(told.get("hideCode", False))
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="basic",
        exclude_anchor_links=True,
        exclude_input=hide_code,
        exclude_output_prompt=hide_code,
        # What a path in Markdown names would be the worker's file, and nobody's business.
        embed_images=False,
    )
    body = without_references(_exported(exporter, notebook, elements))
    page = _PAGE.format(
        policy=_POLICY,
        title=html.escape(str(notebook.metadata.get("title", ""))),
        style=_STYLE,
        highlighting=HtmlFormatter().get_style_defs(".highlight"),
        facts=_table("Provenance", told.get("facts", [])),
        parameters=_table("Parameters", told.get("parameters", [])),
        body="\0",
    )
    head, _, foot = page.partition("\0")
    return head + elements.inserted(body) + foot, elements.notes


def _set_apart(cell: Any, elements: Elements, place: str) -> None:
    """Put a word in the place of all that is not laid out by nbconvert."""
    raw_type = cell.metadata.get("raw_mimetype")
    # What else the metadata say is for others, and of any type.
    cell.metadata = _node({"raw_mimetype": raw_type} if isinstance(raw_type, str) else {})
    if cell.cell_type == "markdown":
        cell.source = elements.markdown(cell.source, cell.pop("attachments", None), place)
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            output.text = elements.text(_joined(output.text))
        elif output.output_type == "error":
            output.traceback = [elements.text(_joined(line)) for line in output.traceback]
        else:
            output.data = _node({"text/html": elements.output(output, place)})
            output.metadata = _node({})


def _node(members: dict[str, Any]) -> Any:
    return nbformat.NotebookNode(members)  # type: ignore[no-untyped-call]


def _joined(text: Any) -> str:
    return text if isinstance(text, str) else "".join(map(str, text))


def _exported(exporter: HTMLExporter, notebook: Any, elements: Elements) -> str:
    """The cells as HTML; one that nbconvert fails at is left out."""
    try:
        return str(exporter.from_notebook_node(notebook)[0])
    except Exception:  # noqa: BLE001 - whichever cell it is, the others are good
        pages = []
    for number, cell in enumerate(notebook.cells, 1):
        alone = _node({**notebook, "cells": [cell]})
        try:
            pages.append(str(exporter.from_notebook_node(alone)[0]))
        except Exception as error:  # noqa: BLE001
            elements.note(f"Cell {number}", f"it cannot be rendered ({type(error).__name__})")
            pages.append(f'<p class="note">{html.escape(elements.notes[-1])}</p>')
    return "\n".join(pages)


def _table(caption: str, rows: list[list[str]]) -> str:
    if not rows:
        return ""
    lines = "\n".join(
        f"<tr><th>{html.escape(str(label))}</th><td>{html.escape(str(text))}</td></tr>"
        for label, text in rows
    )
    return f'<h2>{caption}</h2>\n<table class="provenance">\n{lines}\n</table>'


if __name__ == "__main__":
    made, told_of = render_with_notes(sys.stdin.buffer.read().decode())
    sys.stdout.buffer.write(json.dumps(told_of).encode() + b"\n")
    sys.stdout.buffer.write(made.encode("utf-8", "replace"))
