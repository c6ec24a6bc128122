"""Renders a notebook to HTML: nbformat JSON on stdin, a page that loads nothing on stdout.

`metadata.report` of the notebook says what stands above it: `facts` and `parameters`, lists of
label and text, and whether the code of cells is hidden (`hideCode`).
"""

import html
import re
import sys
from typing import Any, Final

import nbformat
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]

from nbledger_workers.report_references import without_references

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
"""

# A browser takes minutes to break one line of millions.
_LONG_LINE: Final = re.compile(r"[^\n]{10000}(?=[^\n])")

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
    notebook = nbformat.v4.reads(document)  # type: ignore[no-untyped-call]
    told: dict[str, Any] = notebook.metadata.get("report", {})
    _break_lines(notebook)
    hide_code = bool(told.get("hideCode", False))
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="basic",
        exclude_anchor_links=True,
        exclude_input=hide_code,
        exclude_output_prompt=hide_code,
        # What a path in Markdown names would be the worker's file, and nobody's business.
        embed_images=False,
    )
    body, _ = exporter.from_notebook_node(notebook)
    return _PAGE.format(
        policy=_POLICY,
        title=html.escape(str(notebook.metadata.get("title", ""))),
        style=_STYLE,
        highlighting=HtmlFormatter().get_style_defs(".highlight"),
        facts=_table("Provenance", told.get("facts", [])),
        parameters=_table("Parameters", told.get("parameters", [])),
        body=without_references(body),
    )


def _break_lines(notebook: Any) -> None:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for holder, key in ((output, "text"), (output.get("data", {}), "text/plain")):
                if isinstance(holder.get(key), str):
                    holder[key] = _LONG_LINE.sub(r"\g<0>\n", holder[key])


def _table(caption: str, rows: list[list[str]]) -> str:
    if not rows:
        return ""
    lines = "\n".join(
        f"<tr><th>{html.escape(str(label))}</th><td>{html.escape(str(text))}</td></tr>"
        for label, text in rows
    )
    return f'<h2>{caption}</h2>\n<table class="provenance">\n{lines}\n</table>'


if __name__ == "__main__":
    sys.stdout.buffer.write(render(sys.stdin.buffer.read().decode()).encode("utf-8", "replace"))
