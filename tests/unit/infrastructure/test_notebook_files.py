"""Notebook files: what survives, what is upgraded, and how a broken one is told."""

import contextlib
import json
from typing import Any

import msgspec
import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbledger_domain.errors import InvalidInputError
from nbledger_infrastructure.notebooks import templates
from nbledger_infrastructure.notebooks.files import ParsedNotebook, parse_ipynb, render_ipynb

texts = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
code_cells = st.fixed_dictionaries(
    {
        "cell_type": st.just("code"),
        "source": texts,
        "metadata": st.fixed_dictionaries(
            {"tags": st.lists(st.sampled_from(["parameters", "skip-execution"]), unique=True)},
            optional={"ours": json_values},
        ),
        "execution_count": st.none() | st.integers(0, 99),
        "outputs": st.just([])
        | st.just([{"output_type": "stream", "name": "stdout", "text": "a\nb\n"}]),
    }
)
markdown_cells = st.fixed_dictionaries(
    {"cell_type": st.just("markdown"), "source": texts, "metadata": st.just({})},
    optional={"attachments": st.just({"a.png": {"image/png": "iVBORw0KGgo="}})},
)


def file(cells: list[dict[str, Any]], minor: int = 5, **more: Any) -> bytes:
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": minor, **more}
    return json.dumps(notebook).encode()


def code(source: str, **more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"metadata": {}, "outputs": [], "execution_count": None}
    return {"cell_type": "code", "source": source, **empty, **more}


def written(parsed: ParsedNotebook) -> bytes:
    outputs = {cell_id: json.loads(data) for cell_id, data in parsed.outputs.items()}
    return render_ipynb(parsed.cells, parsed.metadata, outputs)


@given(cells=st.lists(code_cells | markdown_cells, max_size=4), metadata=json_values)
def test_what_is_not_changed_survives(cells: list[dict[str, Any]], metadata: Any) -> None:
    cells = [{**cell, "id": f"id-{n}"} for n, cell in enumerate(cells)]
    content = file(cells, metadata={"custom": metadata})
    back = nbformat.reads(written(parse_ipynb(content)).decode(), as_version=4)  # type: ignore[no-untyped-call]
    assert json.loads(json.dumps(back)) == json.loads(content)
    assert parse_ipynb(written(parse_ipynb(content))) == parse_ipynb(content)


def test_a_file_that_jupyter_wrote_comes_back_byte_for_byte() -> None:
    data = {
        "text/plain": "a\nb",
        "text/html": "<b>\n</b>",
        "image/svg+xml": "<svg>\n</svg>",
        "image/png": "iVBO\nRw0K\n",
        "application/json": {"text": "a\nb"},
    }
    shown: dict[str, Any] = {"output_type": "display_data", "data": data, "metadata": {}}
    outputs = [{"output_type": "stream", "name": "stdout", "text": "é\nb\n"}, shown]
    attached = {"a.svg": {"image/svg+xml": "<svg>\n</svg>"}}
    text: dict[str, Any] = {"cell_type": "markdown", "source": "a\r\nb\n", "metadata": {}}
    cells = [
        {**code("1\n\n2", outputs=outputs, execution_count=7), "id": "a"},
        {**text, "id": "b", "attachments": attached},
    ]
    notebook = nbformat.reads(file(cells).decode(), as_version=4)  # type: ignore[no-untyped-call]
    content = nbformat.writes(notebook).encode() + b"\n"  # type: ignore[no-untyped-call]
    assert written(parse_ipynb(content)) == content


@pytest.mark.parametrize("minor", range(5))
def test_older_files_get_ids_and_keep_everything_else(minor: int) -> None:
    parsed = parse_ipynb(file([code("a = 1", metadata={"tags": ["x"]}), code("a")], minor))
    assert [cell.cell_id for cell in parsed.cells] == ["cell-001", "cell-002"]
    assert parsed.cells[0].tags == ["x"]
    assert parsed.nbformat == f"4.{minor}"
    assert parsed.upgrades == [f"nbformat 4.{minor} to 4.5", "ids given to 2 cells"]
    assert parsed.warnings == []


def test_nbformat_3_is_upgraded() -> None:
    worksheet = {
        "cells": [
            {"cell_type": "heading", "level": 2, "source": ["Title"], "metadata": {}},
            {
                "cell_type": "code",
                "input": ["x = 1\n", "x"],
                "language": "python",
                "metadata": {},
                "prompt_number": 1,
                "outputs": [
                    {"output_type": "pyout", "prompt_number": 1, "text": ["1"], "metadata": {}}
                ],
            },
        ],
        "metadata": {},
    }
    old = {"metadata": {"name": ""}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [worksheet]}
    parsed = parse_ipynb(json.dumps(old).encode())
    assert [(cell.cell_type, cell.source) for cell in parsed.cells] == [
        ("markdown", "## Title"),
        ("code", "x = 1\nx"),
    ]
    output = json.loads(parsed.outputs["cell-002"])[0]
    assert output["output_type"] == "execute_result"
    assert output["data"] == {"text/plain": "1"}
    assert parsed == parse_ipynb(json.dumps(old).encode()), "ids are the same at every upload"
    back = nbformat.reads(written(parsed).decode(), as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(back)


def test_bad_ids_are_replaced_with_a_warning() -> None:
    cells = [code("a", id="same"), code("b", id="same"), code("c", id="not valid!"), code("d")]
    parsed = parse_ipynb(file(cells))
    assert [cell.cell_id for cell in parsed.cells] == ["same", "cell-001", "cell-002", "cell-003"]
    assert len(parsed.warnings) == 3
    assert "'same' is used twice" in parsed.warnings[0]


@pytest.mark.parametrize(
    ("content", "pointer", "reason"),
    [
        (b"", "", "is empty"),
        (b" \n", "", "is empty"),
        (b"%PDF-1.7", "", "is no notebook, it is a PDF document"),
        (b'{"cells": [}', "", "line 1, column 12"),
        (b"\xff", "", "is not UTF-8: byte 0"),
        (b"\xff\xfe", "", "is not JSON"),
        (b"\xff\xfe{", "", "is not UTF-16: byte 2"),
        (b"[]", "", "a JSON object is needed"),
        (b"[" * 100_000, "", "nested too deeply"),
        (b"{}", "/cells", "has no cells"),
        (b'{"nbformat": 2}', "/worksheets", "has no cells"),
        (b'{"nbformat": 1}', "/cells", "has no cells"),
        (b'{"nbformat": 5, "cells": []}', "/nbformat", "version 5 is not supported; 1 to 4 are"),
        (b'{"nbformat": 4, "nbformat_minor": 5}', "/cells", "has no cells"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "cells": {}}', "/cells", "has no cells"),
        (file([{"cell_type": "code", "source": 1}]), "/cells/0/source", "a source that is no text"),
        (file([code("a"), {"cell_type": "code"}]), "/cells/1/source", "cell 2 has no source"),
        (file(["a"]), "/cells/0", "cell 1 is no JSON object"),  # type: ignore[list-item]
        (file([{"source": "a"}]), "/cells/0/cell_type", "cell 1 has no cell_type"),
        (
            file([{**code("a"), "cell_type": "sql"}]),
            "/cells/0/cell_type",
            "cell 1 is of the type 'sql', which is none of code, markdown, raw",
        ),
    ],
)
def test_a_broken_file_is_told_where_and_why(content: bytes, pointer: str, reason: str) -> None:
    with pytest.raises(InvalidInputError) as failure:
        parse_ipynb(content)
    assert any(f.pointer == pointer and reason in f.reason for f in failure.value.faults), (
        failure.value.faults
    )


@given(st.binary(max_size=60) | json_values.map(msgspec.json.encode))
def test_nothing_but_a_clear_error_comes_of_rubbish(content: bytes) -> None:
    with pytest.raises(InvalidInputError):
        parse_ipynb(content)


@given(st.lists(json_values, max_size=3), st.integers(0, 5), json_values)
def test_nor_of_rubbish_in_the_shape_of_a_notebook(
    cells: list[Any], minor: int, metadata: Any
) -> None:
    with contextlib.suppress(InvalidInputError):
        parsed = parse_ipynb(file(cells, minor, metadata=metadata))
        assert len(parsed.cells) == len(cells)


def test_templates_are_notebooks() -> None:
    assert "process_mining_starter" in templates.names()
    for name in templates.names():
        assert templates.load(name).cells
    with pytest.raises(KeyError):
        templates.load("../settings")
