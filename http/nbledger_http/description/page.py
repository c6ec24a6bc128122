"""The OpenAPI document as a page to read."""

import html
import json
from typing import Any


def page(described: dict[str, Any]) -> str:
    """The document as one plain page that loads nothing. Links are relative to ``/schema``."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'><title>nbledger API</title>",
        f"<style>{STYLE}</style></head><body><h1>nbledger API</h1>",
        f"<p>{html.escape(described['info']['description'])}</p>",
        "<p><a href='schema/openapi.json'>openapi.json</a></p>",
    ]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts.append(_section(path, method, operation))
    parts.append("<h2>Schemas</h2>")
    for name, schema in described["components"]["schemas"].items():
        parts.append(
            f"<details id='{html.escape(name)}'><summary>{html.escape(name)}</summary>"
            f"{pre(schema)}</details>"
        )
    return "".join([*parts, "</body></html>"])


def _section(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(p['name'])}</code></td><td>{p['in']}</td>"
        f"<td>{html.escape(p['description'])}</td></tr>"
        for p in operation.get("parameters", [])
    )
    answers = "".join(
        f"<details><summary><b>{status}</b> {html.escape(answer['description'])}</summary>"
        + "".join(
            f"<p>{html.escape(media)}</p>{pre(told.get('example', told.get('schema')))}"
            for media, told in answer.get("content", {}).items()
        )
        + "</details>"
        for status, answer in operation["responses"].items()
    )
    body = "".join(
        f"<details><summary>Body: {html.escape(media)}</summary>"
        f"{pre(told.get('example', told['schema']))}</details>"
        for media, told in operation.get("requestBody", {}).get("content", {}).items()
    )
    return (
        f"<section id='{operation['operationId']}'><h2>{html.escape(operation['summary'])}</h2>"
        f"<p><b>{method.upper()}</b> <code>{html.escape(path)}</code></p>"
        f"<p>{html.escape(operation.get('description', ''))}</p>"
        f"<table>{rows}</table>{body}{answers}</section>"
    )


def pre(value: Any) -> str:
    """``value`` as JSON to read; nothing for None."""
    if value is None:
        return ""
    return f"<pre>{html.escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "section{border-top:1px solid #8886;margin-top:2rem}td{padding:.1rem 1rem .1rem 0}"
    "pre{background:#8881;padding:.7rem;overflow:auto}code,pre{font-size:.9em}"
    ":root{color-scheme:light dark}"
)
