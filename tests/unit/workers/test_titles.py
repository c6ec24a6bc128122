"""Titles of outputs: the headings above their cells, as they read."""

import pytest

from nbledger_domain.cells import Cell
from nbledger_workers.translation.planning import titles


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("# Sub `code` *it* [l](http://x)", "Sub code it l"),
        (
            "## **Bold** and __strong__, ***both*** and _it_ ~~not~~ ##",
            "Bold and strong, both and it not",
        ),
        ("# ![logo](a.png) Variants", "logo Variants"),
        ("# [**Waiting** times][1]", "Waiting times"),
        ("# **[link](http://x)** text", "link text"),
        ("# snake_case_name and 2 * 3 * 4", "snake_case_name and 2 * 3 * 4"),
        ("# `a*b*c` <b>x</b> &amp; \\*y\\*", "a*b*c x & *y*"),
        ("# ``a ` b`` [open", "a ` b [open"),
        ("# C# and 100 %", "C# and 100 %"),
        ("# ***", "***"),
        ("# One\n```\n# Two\n```", "One"),
    ],
)
def test_a_title_is_its_heading_without_marks(source: str, title: str) -> None:
    cells = [
        Cell(cell_id="text", cell_type="markdown", source=source),
        Cell(cell_id="code", cell_type="code", source="1"),
    ]
    assert titles(cells) == {"code": title}


@pytest.mark.parametrize(
    "text", ["*" * 100_000, "[" * 100_000, "`" * 99_999, "_a" * 50_000, "<a" * 50_000]
)
def test_a_heading_of_marks_alone_takes_no_time(text: str) -> None:
    cells = [
        Cell(cell_id="text", cell_type="markdown", source=f"# {text}"),
        Cell(cell_id="code", cell_type="code", source="1"),
    ]
    assert len(titles(cells)["code"]) <= 500
