"""What is told of outputs: tables with their size, figures with their title and size."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import polars as pl
import pytest

from nbledger_workers.translation import images
from nbledger_workers.translation.tables import DATA_RESOURCE, Table, find_table

FRAME = pd.DataFrame({"case": range(5), "activity": list("abcde")})
R_FRAME = """<table class="dataframe">
<caption>A tibble: 3 \N{MULTIPLICATION SIGN} 2</caption>
<thead><tr><th scope=col>a</th><th scope=col>b</th></tr></thead>
<tbody><tr><td>1</td><td>x</td></tr></tbody></table>"""
PLAIN = (
    "<div style='x'>\n<h3>Top</h3><table border=1><tr><th>a</th></tr><tr><td>1</td></tr></table>"
)


@pytest.mark.parametrize(
    ("html", "table"),
    [
        (FRAME._repr_html_(), Table(5, 2)),
        (pd.concat([FRAME] * 100)._repr_html_(), Table(500, 2)),
        (FRAME.head(0)._repr_html_(), Table(0, 2)),
        (FRAME.style._repr_html_(), Table(5, 2)),
        (pl.DataFrame(FRAME.to_dict("list"))._repr_html_(), Table(5, 2)),
        (pl.DataFrame({"a": range(1234)})._repr_html_(), Table(1234, 1)),
        (R_FRAME, Table(3, 2)),
        (PLAIN, Table(1, 1)),
        ("<table class='dataframe'>", Table(0, None)),
        ("<p>A page</p><ul><li>one</li></ul><table><tr><th>a</th></tr></table>", None),
        ("<table class='simpletable'><tr><th>R2</th><td>0.9</td></tr></table>", None),
        ("<table><tr><td>only layout</td></tr></table>", None),
        ("<div>Dataset contains 15,420 records</div>", None),
        ("", None),
    ],
)
def test_tables_in_html(html: str | None, table: Table | None) -> None:
    assert html is not None
    assert find_table("text/html", html.encode()) == table


def test_tables_in_other_forms() -> None:
    assert find_table("text/csv", b"a,b\n1,2\n3,4\n\n") == Table(2, 2)
    assert find_table("text/csv", b"") is None
    schema = str(FRAME.to_json(orient="table")).encode()
    assert find_table(DATA_RESOURCE, schema) == Table(None, 2)
    assert find_table(DATA_RESOURCE, b"[1") == Table(None, None)
    assert find_table("text/plain", b"<table class='dataframe'>") is None


def test_html_made_to_take_long_does_not() -> None:
    for html in (
        b"<div>" * 400_000,
        b" " * 2_000_000 + b"x",
        b"<style>" * 300_000,
        b"<table " * 300_000,
        b"<table class='" * 150_000,
        b"<table " + b"class='" * 300_000,
    ):
        assert find_table("text/html", html) is None
    headings = b"<table class='dataframe'><thead><tr>" + b"<th " * 300_000 + b"<tbody>"
    assert find_table("text/html", headings) == Table(0, None)
    # Of these only the beginning is looked at, but of as many as a cell puts out.
    for form in (("text/html", b"<caption " * 9_000), ("image/svg+xml", b"<title " * 9_000)):
        for _ in range(500):
            assert images.title([form], {}) is None


def picture(kind: str, **metadata: str) -> bytes:
    from matplotlib.figure import Figure  # long to import

    figure, file = Figure(figsize=(4, 3), dpi=100), io.BytesIO()
    figure.subplots().plot([1, 2])
    figure.savefig(file, format=kind, metadata=metadata or None)
    return file.getvalue()


def picture_of(kind: str, **options: Any) -> bytes:
    from PIL import Image  # long to import

    file = io.BytesIO()
    Image.new("RGB", (33, 21), "red").save(file, kind, **options)
    return file.getvalue()


def chart(content: Any) -> bytes:
    return json.dumps(content).encode()


PLOTLY = {"data": [], "layout": {"title": {"text": "<b>Cycle</b> times"}, "width": 700.2}}
VEGA = {"title": ["Cases", "per week"], "width": 300, "height": 200, "mark": "bar"}


@pytest.mark.parametrize(
    ("media_type", "content", "title", "size"),
    [
        ("image/png", partial(picture, "png", Title="Flow & wait"), "Flow & wait", (400, 300)),
        ("image/png", partial(picture, "png"), None, (400, 300)),
        ("image/jpeg", partial(picture, "jpeg"), None, (400, 300)),
        ("image/webp", partial(picture, "webp"), None, (400, 300)),
        ("image/svg+xml", b"<svg width='9' height='7'><title>A &amp; B</title>", "A & B", (9, 7)),
        ("application/vnd.plotly.v1+json", chart(PLOTLY), "Cycle times", (None, None)),
        ("application/vnd.vegalite.v5+json", chart(VEGA), "Cases per week", (300, 200)),
        ("application/vnd.vega.v5+json", b"[1", None, (None, None)),
        ("application/vnd.vega.v5+json", b'{"title": ["A", [["b"]], 3]}', "A 3", (None, None)),
        ("image/svg+xml", b"<svg width='%s' height='7'>" % (b"9" * 400), None, (None, None)),
        ("text/html", b"<table><caption>Rework</caption><tr>", "Rework", (None, None)),
        ("text/html", R_FRAME.encode(), None, (None, None)),
        ("image/svg+xml", b"<svg width='9pt' height='7.5pt'/>", None, (12, 10)),
        ("image/svg+xml", b"<!--" + b"x" * 9_000 + b"--><svg width='9' height='7'/>", None, (9, 7)),
        ("image/svg+xml", b"<svg width='100%' height='7' viewBox='0 0 3 4'/>", None, (None, None)),
        ("image/svg+xml", partial(picture, "svg"), None, (384, 288)),
        ("image/gif", b"GIF89a\x21\0\x15\0" + bytes(9), None, (33, 21)),
        ("image/bmp", partial(picture_of, "BMP"), None, (33, 21)),
        ("image/webp", partial(picture_of, "WEBP", lossless=True), None, (33, 21)),
        ("image/jpeg", partial(picture_of, "JPEG", progressive=True), None, (33, 21)),
        ("image/jpeg", lambda: picture("jpeg")[:30], None, (None, None)),
        ("image/png", b"\x89PNG\r\n\x1a\n\0\0", None, (None, None)),
        ("image/webp", b"RIFF\0\0\0\0WEBPVP8 ", None, (None, None)),
    ],
)
def test_figures(
    media_type: str,
    content: bytes | Callable[[], bytes],
    title: str | None,
    size: tuple[int | None, int | None],
) -> None:
    shown = content if isinstance(content, bytes) else content()
    forms = [(media_type, shown), ("text/plain", b"<Figure size 400x300>")]
    assert images.title(forms, {}) == title
    assert images.title(forms, {"title": " Said \n so "}) == "Said so"
    assert images.size(forms, {}) == size
    assert images.size(forms, {media_type: {"width": 40, "height": 30}}) == (40, 30)
