"""HTML without references: whatever way of reading it a browser takes, it finds nothing to load."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbledger_workers.reports.references import without_references

_REMOTE = "http://example.org/x"
_FORBIDDEN = {"base", "embed", "form", "iframe", "link", "meta", "object", "plaintext", "script"}
_TAG = re.compile(r"""</?([a-z][a-z0-9:._-]*)(?: [^\s"'<>/=]+(?:="[^"<>]*")?)*/?>""")


def tags(text: str) -> set[str]:
    """The names of all tags. Each `<`, wherever it stands, is the beginning of one."""
    found = list(_TAG.finditer(text))
    assert [each.start() for each in found] == [each.start() for each in re.finditer("<", text)]
    return {each[1] for each in found}


@pytest.mark.parametrize(
    "output",
    [
        # Inside of SVG what stands in a style is markup.
        f'<svg><style><meta http-equiv="refresh" content="0;url={_REMOTE}"></style></svg>',
        f"<svg><style><script src={_REMOTE}></script></style></svg>",
        f"<svg><style><img src={_REMOTE}></style></svg>",
        f"<svg><style><![CDATA[@import '{_REMOTE}';]]></style></svg>",
        f"<svg><style>&#64;import '{_REMOTE}';</style></svg>",
        # In HTML this one goes on.
        f'<style/>@import "{_REMOTE}";</style>',
        f'<style>@imp</ort "x";</style><style>@im</x port "{_REMOTE}"</style>',
        f'<style>.a {{ background: image-set("{_REMOTE}" 1x) }}</style>',
        f'<style>.a {{ background: -webkit-image-set("{_REMOTE}" 1x) }}</style>',
        f'<style>.a {{ background: src("{_REMOTE}") }}</style>',
        f'<style>.a {{ background: url(  "{_REMOTE}") }}</style>',
        f'<style>@IMPORT "{_REMOTE}"</style><style>@import"{_REMOTE}"</style>',
        f"<div style='background: IMAGE-SET(\"{_REMOTE}\" 1x)'></div>",
        f"<svg><rect cursor='image-set(\"{_REMOTE}\" 1x)' mask='url({_REMOTE})'/></svg>",
        f"<img attributionsrc='{_REMOTE}' src='data:,'>",
        f"<plaintext><img src='{_REMOTE}'>",
        f"<xmp></xmp><noembed><img src={_REMOTE}></noembed>",
        f"<a<script src={_REMOTE}></script>",
        f"<title><style></title><img src={_REMOTE}></style>",
    ],
)
def test_nothing_is_loaded(output: str) -> None:
    made = without_references(f"<p>before</p>{output}<p>after</p>")
    assert made.startswith("<p>before</p>")
    assert not tags(made) & _FORBIDDEN
    for style in re.findall(r"<style>(.*?)</style>", made):
        assert _REMOTE not in style
    # Where it is kept, it is text to read.
    assert _REMOTE not in "".join(each[0] for each in _TAG.finditer(made))


@pytest.mark.parametrize(
    "kept",
    [
        "<style>td:nth-child(2) { background: linear-gradient(90deg, rgba(0, 0, 0, 0.5)) }</style>",
        "<style>@media (max-width: 9em) { td { width: calc(100% - 2px) }}</style>",
        "<style>.a > .b { background: url(data:image/png;base64,AA//AA); content: '(s)' }</style>",
        '<div style="color: rgb(1 2 3); background: url(#here)" title="mean(x) at https://h">x</div>',
        '<svg xmlns="http://www.w3.org/2000/svg" viewbox="0 0 1 1"><path d="M 0 0"/></svg>',
        '<g transform="translate(1 2) rotate(3)"><path clip-path="url(#p)"/></g>',
        '<table class="dataframe"><tr><td data-formula="log(1 // 2)">1</td></tr></table>',
    ],
)
def test_what_loads_nothing_is_kept(kept: str) -> None:
    assert without_references(kept) == kept


def test_a_section_that_is_none_is_no_error() -> None:
    assert without_references("<p>a</p><![foo x]><![if !IE]><p>b</p>") == "<p>a</p><p>b</p>"


def test_a_long_name_costs_no_time() -> None:
    css = f".a {{ b: {'c' * 1_000_000}(d) }}"
    assert without_references(f"<style>{css}</style>") == ""


_PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "<style>",
                "</style>",
                "<style/>",
                "<svg>",
                "</svg>",
                "<math>",
                "<title>",
                "</title>",
            ),
            *("<textarea>", "</textarea>", "<script>", "</script>", "<xmp>", "<![CDATA[", "]]>"),
            *("<!--", "-->", "--!>", "<!", "<?", "</", "<", ">", "/>", '"', "'", "=", " ", "&lt;"),
            *("<meta http-equiv=refresh>", f"<img src={_REMOTE}>", "<a title='", "<b/x=", "&#60;"),
            *("@import ", f"url({_REMOTE})", f'"{_REMOTE}"', "image-set(", "\\", "a{b:c}", "\0"),
        ]
    ),
    max_size=20,
)


@given(_PIECES)
@settings(max_examples=500, deadline=None)
def test_whatever_is_put_together_holds_no_forbidden_tag(pieces: list[str]) -> None:
    made = without_references("".join(pieces))
    assert not tags(made) & _FORBIDDEN
    # Cleaning it again finds nothing more.
    assert without_references(made) == made
