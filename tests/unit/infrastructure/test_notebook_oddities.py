"""What Jupyter opens although nbformat's schema does not allow it: accepted, and told."""

from __future__ import annotations

import json
from typing import Any

import nbformat
import pytest

from nbledger_domain.errors import InvalidInputError
from nbledger_infrastructure.notebooks.files import ParsedNotebook, parse_ipynb, render_ipynb
from nbledger_infrastructure.notebooks.notes import MAX_TOLD

SECRET = "s3cret-content"
STREAM = {"output_type": "stream", "name": "stdout", "text": "a"}


def code(**more: Any) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": "code", "id": "c1", "metadata": {}, "source": "1"}
    return {**cell, "outputs": [], "execution_count": None, **more}


def text(**more: Any) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": "m1", "metadata": {}, "source": "1", **more}


def shows(data: Any, **more: Any) -> dict[str, Any]:
    return code(outputs=[{"output_type": "display_data", "data": data, "metadata": {}, **more}])


def book(*cells: Any, **more: Any) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells), **more}


def without(members: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name not in names}


def parsed(document: Any) -> ParsedNotebook:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_ipynb(content)


def outputs(found: ParsedNotebook) -> Any:
    return {cell_id: json.loads(content) for cell_id, content in found.outputs.items()}


def written(found: ParsedNotebook) -> dict[str, Any]:
    back: dict[str, Any] = json.loads(
        render_ipynb(found.cells, found.metadata, outputs(found)).decode()
    )
    return back


@pytest.mark.parametrize(
    ("document", "warnings"),
    [
        (book(code(), nbformat_minor=99), ["the file is of nbformat 4.99, and was read as 4.5"]),
        (
            book({"cell_type": "future", "id": "f", "key": SECRET}, nbformat_minor=6),
            [
                "the file is of nbformat 4.6, and was read as 4.5",
                (
                    "cell 1 (f) is of the type 'future', which is none of code, markdown, raw; "
                    "it became raw and is not run"
                ),
                "cell 1 (f) has no source, and is empty",
                "cell 1 (f): metadata was added",
                "cell 1 (f): members that nbformat does not know were left out: 'key'",
            ],
        ),
        (
            book(text(cell_type="heading", level=2), text(id="m2", cell_type="html")),
            [
                "cell 1 (m1) is of the type 'heading' of nbformat 3, and became markdown",
                "cell 2 (m2) is of the type 'html' of nbformat 3, and became markdown",
            ],
        ),
        (book(code(), nbformat="4"), []),
        (book(code(), nbformat=4.0, nbformat_minor=5.0), []),
        (
            without(book(code()), "nbformat"),
            ["the file names no version of nbformat; it was read as 4"],
        ),
        (book(code(), nbformat_minor="x"), ["nbformat_minor is not a number; it was read as 0"]),
        (
            book(code(), nbformat=3),
            ["the file says nbformat 3 and has the cells of 4; it was read as 4"],
        ),
        (
            book(code(), signature=SECRET),
            ["members that nbformat does not know were left out: 'signature'"],
        ),
        (without(book(code()), "metadata"), []),
        (
            book(code(), metadata=[]),
            ["metadata of the notebook is no JSON object, and was left out"],
        ),
        (book(without(code(), "outputs", "execution_count")), []),
        (book(without(code(), "metadata")), ["cell 1 (c1): metadata was added"]),
        (
            book(code(metadata=SECRET)),
            ["cell 1 (c1): metadata is no JSON object, and was left out"],
        ),
        (book(code(source=["1", ""])), []),
        (book(without(text(), "source")), ["cell 1 (m1) has no source, and is empty"]),
        (
            book(code(prompt_number=SECRET, collapsed=True)),
            [
                (
                    "cell 1 (c1): members that nbformat does not know were left out: "
                    "'prompt_number', 'collapsed'"
                ),
            ],
        ),
        (
            book(code(attachments={SECRET: 1})),
            ["cell 1 (c1): members that nbformat does not know were left out: 'attachments'"],
        ),
        (
            book(text(attachments=[SECRET])),
            ["cell 1 (m1): attachments is no JSON object, and was left out"],
        ),
        (
            book(text(attachments={"a.png": 1, "b.png": {"image/png": 1}})),
            [
                "cell 1 (m1): attachment 'a.png' is no JSON object, and was left out",
                "cell 1 (m1): attachment 'b.png': 'image/png' is no text, and was left out",
            ],
        ),
        (
            book(code(execution_count=SECRET)),
            ["cell 1 (c1): execution_count is no count, and became null"],
        ),
        (
            book(code(execution_count=10**30)),
            ["cell 1 (c1): execution_count is no count, and became null"],
        ),
        (book(code(outputs=SECRET)), ["cell 1 (c1): outputs is no list, and was left out"]),
        (
            book(code(outputs=[STREAM, {"output_type": "comm", "x": SECRET}, SECRET])),
            [
                (
                    "cell 1 (c1), output 2 is of the type 'comm', which nbformat does not know, "
                    "and was left out"
                ),
                (
                    "cell 1 (c1), output 3 has no type, which nbformat does not know, "
                    "and was left out"
                ),
            ],
        ),
        (
            book(shows({"text/plain": 1}, transient={"display_id": SECRET})),
            [
                (
                    "cell 1 (c1), output 1: members that nbformat does not know were left out: "
                    "'transient'"
                ),
                "cell 1 (c1), output 1: 'text/plain' is no text, and was left out",
            ],
        ),
        (
            book(code(metadata={"tags": ["a", "b", "a", 7]})),
            [
                "cell 1 (c1): metadata.tags has items that are no text, which were left out",
                "cell 1 (c1): metadata.tags has 'a' more than once; one is kept",
            ],
        ),
        (
            book(code(metadata={"tags": "parameters"})),
            ["cell 1 (c1): metadata.tags is a text, and became a list of it"],
        ),
        (
            book(code(metadata={"tags": {}})),
            ["cell 1 (c1): metadata.tags is no list, and was left out"],
        ),
        (
            book(code(metadata={"collapsed": SECRET, "mine": SECRET})),
            ["cell 1 (c1): collapsed is not as nbformat says, and was left out"],
        ),
        (
            book(code(metadata={"execution": {"idle": 5}, "jupyter": SECRET})),
            [
                "cell 1 (c1): execution.idle is not as nbformat says, and was left out",
                "cell 1 (c1): jupyter is not as nbformat says, and was left out",
            ],
        ),
        (
            book(code(), metadata={"kernelspec": {"name": "python3"}, "title": 5}),
            [
                "metadata of the notebook: kernelspec has no 'display_name'",
                "metadata of the notebook: title is not as nbformat says, and was left out",
            ],
        ),
        (
            book(code(), metadata={"kernelspec": {"display_name": "Python 3"}}),
            ["metadata of the notebook: kernelspec has no 'name'"],
        ),
        (
            book(code(), metadata={"kernelspec": SECRET, "language_info": {"name": ["R"]}}),
            [
                "metadata of the notebook: kernelspec is not as nbformat says, and was left out",
                "metadata of the notebook: language_info has no 'name'",
                (
                    "metadata of the notebook: language_info.name is not as nbformat says, "
                    "and was left out"
                ),
            ],
        ),
        (
            book(code(id="a b"), code(id=["x"]), code(id=5)),
            [
                "cell 1: id 'a b' is not a valid id; it was given 'cell-001'",
                "cell 2: id \"['x']\" is not a valid id; it was given 'cell-002'",
                "cell 3: id '5' is not a valid id; it was given 'cell-003'",
            ],
        ),
    ],
)
def test_what_jupyter_opens_is_accepted_and_told(document: Any, warnings: list[str]) -> None:
    found = parsed(document)
    assert sorted(found.warnings) == sorted(warnings)
    assert len(found.cells) == len(document["cells"])
    back = written(found)
    if not any("has no 'name'" in each or "display_name" in each for each in warnings):
        lacks_name = "language_info" in found.metadata and not found.metadata["language_info"]
        assert lacks_name or nbformat.validator.isvalid(back)  # type: ignore[no-untyped-call]
    assert parsed(back).cells == found.cells


ODD_VALUES: list[Any] = [
    None,
    True,
    0,
    1,
    1.5,
    "",
    "a",
    "auto",
    "a\nb",
    "\n",
    [],
    ["a"],
    {},
    {"a": 1},
]
NAMES = [
    "jupyter", "name", "format", "execution", "collapsed", "scrolled", "kernelspec",
    "language_info", "orig_nbformat", "title", "authors", "display_name", "codemirror_mode",
    "file_extension", "mimetype", "pygments_lexer", "other",
]  # fmt: skip
FULL_SPEC = {"name": "n", "display_name": "d"}


def test_the_rules_for_metadata_are_those_of_the_schema() -> None:
    def says(document: dict[str, Any]) -> bool:
        return nbformat.validator.isvalid(document)  # type: ignore[no-untyped-call,no-any-return]

    def keeps(document: dict[str, Any]) -> bool:
        return not any("not as nbformat says" in told for told in parsed(document).warnings)

    for name in NAMES:
        for value in ODD_VALUES:
            for cell in (code(), text(), text(cell_type="raw")):
                document = book({**cell, "metadata": {name: value}})
                assert keeps(document) == says(document), (cell["cell_type"], name, value)
            metadata: list[Any] = [{"kernelspec": {**FULL_SPEC, name: value}}]
            metadata.append({"language_info": {"name": "n", name: value}})
            if name not in ("kernelspec", "language_info") or value not in ({}, {"a": 1}):
                metadata.append({name: value})
            for each in metadata:
                document = book(code(), metadata=each)
                assert keeps(document) == says(document), each


def test_what_is_odd_and_harmless_stays() -> None:
    metadata = {"kernelspec": {"language": "python"}, "mine": {"n": 10**40, "x": [None, "é"]}}
    cell = code(metadata={"tags": ["a,b"], "mine": 10**300, "jupyter": {"odd": 1}})
    found = parsed(book(cell, metadata=metadata))
    assert found.metadata == metadata
    assert found.cells[0].metadata == cell["metadata"]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("cell", "kept", "told"),
    [
        (
            shows({"application/json": {"a": NAN, "b": [INF, -INF, 1.5]}}),
            {"application/json": {"a": None, "b": [None, None, 1.5]}},
            "3 numbers that JSON does not know (NaN, Infinity) became null",
        ),
        (
            shows({"text/plain": "bad \udcc3 end", "text/html": ["\ud800", "\ud83d\ude00"]}),
            {"text/plain": "bad \ufffd end", "text/html": "\ufffd😀"},
            "half of a surrogate pair became U+FFFD in 2 texts",
        ),
        (shows({"text/plain": "a\0b"}), {"text/plain": "a\0b"}, None),
        (
            shows({"application/json": {"\ud800k": 1}}),
            {"application/json": {"\ufffdk": 1}},
            "half of a surrogate pair became U+FFFD in 1 text",
        ),
    ],
)
def test_outputs_that_cannot_be_kept_are_put_right(
    cell: dict[str, Any], kept: Any, told: str | None
) -> None:
    found = parsed(book(cell))
    assert outputs(found)["c1"][0]["data"] == kept
    assert found.warnings == ([] if told is None else [f"cell 1 (c1), outputs: {told}"])


def test_so_are_sources_and_metadata() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    found = parsed(
        book(
            code(source="x = '\ud800\0'", metadata={"a": NAN, "b": "\0", "deep": deep}),
            metadata={"n": INF, "\udfff": "\ud800"},
        )
    )
    assert found.cells[0].source == "x = '\ufffd\ufffd'"
    assert found.metadata == {"n": None, "\ufffd": "\ufffd"}
    assert found.cells[0].metadata["a"] is None
    assert found.cells[0].metadata["b"] == "\ufffd"
    json.dumps(found.cells[0].metadata, allow_nan=False)
    assert found.warnings == [
        "cell 1 (c1): 1 number that JSON does not know (NaN, Infinity) became null",
        "cell 1 (c1): half of a surrogate pair became U+FFFD in 1 text",
        "cell 1 (c1): NUL characters became U+FFFD in 2 texts",
        "cell 1 (c1): 1 value nested more than 90 deep became null",
        "metadata of the notebook: 1 number that JSON does not know (NaN, Infinity) became null",
        "metadata of the notebook: half of a surrogate pair became U+FFFD in 2 texts",
    ]


def test_numbers_beyond_all_measure_do_not_refuse_a_file() -> None:
    content = json.dumps(book(code(metadata={"a": 1, "b": 2}))).encode()
    content = content.replace(b'"a": 1', b'"a": ' + b"-9" * 1 + b"9" * 5000)
    found = parsed(content.replace(b'"b": 2', b'"b": 1e999'))
    assert found.cells[0].metadata == {"a": None, "b": None}
    assert "2 numbers" in found.warnings[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-be"])
def test_byte_order_marks_say_the_encoding(encoding: str) -> None:
    content = json.dumps(book(code(source="'é'")), ensure_ascii=False)
    content = "\ufeff" + content if encoding == "utf-16-be" else content
    found = parsed(content.encode(encoding))
    assert found.cells[0].source == "'é'"
    told = encoding[:6].upper()
    wanted = (
        []
        if told == "UTF-8-"
        else [f"the file is in {told} and not in UTF-8, and was read as that"]
    )
    assert found.warnings == wanted


def test_of_members_that_are_there_twice_the_last_counts() -> None:
    content = json.dumps(book(code(source="last"))).replace('"source"', '"source": "1", "source"')
    found = parsed(content.encode())
    assert found.cells[0].source == "last"
    assert found.warnings == [
        "members are there twice in one object, and the last counts: 'source'"
    ]


OLD_CELLS: list[dict[str, Any]] = [
    {"cell_type": "heading", "level": 2, "metadata": {}, "source": ["Old\n", "heading"]},
    {
        "cell_type": "code",
        "language": "python",
        "collapsed": True,
        "metadata": {},
        "input": ["x = 3\n", "x"],
        "prompt_number": 5,
        "outputs": [
            {
                "output_type": "pyout",
                "prompt_number": 5,
                "metadata": {},
                "text": ["3"],
                "png": "iV",
            },
            {"output_type": "stream", "stream": "stderr", "text": ["old err\n"]},
            {"output_type": "pyerr", "ename": "E", "evalue": "v", "traceback": ["tb"]},
            {
                "output_type": "display_data",
                "metadata": {},
                "json": ['{"a": ', "[1, 2.5]}"],
                "latex": ["$x$"],
                "javascript": ["1;\n", "2"],
            },
        ],
    },
    {"cell_type": "html", "metadata": {}, "source": ["<b>hi</b>"]},
    {"cell_type": "raw", "metadata": {}, "source": "r"},
]


def old(*cells: Any, major: int = 3, **more: Any) -> dict[str, Any]:
    sheet = {"metadata": {}, "cells": list(cells)}
    return {"nbformat": major, "metadata": {"name": "old"}, "worksheets": [sheet], **more}


@pytest.mark.parametrize(
    "document",
    [
        old(*OLD_CELLS, nbformat_minor=0),
        old(*OLD_CELLS),
        old(
            {"cell_type": "code", "input": ["a", "", "b"], "outputs": OLD_CELLS[1]["outputs"][:2]},
            {"cell_type": "markdown", "source": ["c", "d"]},
            major=2,
        ),
        {
            "nbformat": 1,
            "cells": [
                {"cell_type": "code", "code": "1+1", "prompt_number": 2},
                {"cell_type": "text", "text": "words"},
            ],
        },
    ],
    ids=["3.0", "3 without minor", "2", "1"],
)
def test_old_files_are_upgraded_as_nbformat_does(document: dict[str, Any]) -> None:
    expected = nbformat.reads(json.dumps(document), as_version=4)  # type: ignore[no-untyped-call]
    found = parsed(document)
    assert found.warnings == []
    assert len(found.cells) == len(expected.cells) > 0
    for cell, wanted in zip(found.cells, expected.cells, strict=True):
        assert (cell.cell_type, cell.source) == (wanted.cell_type, wanted.source)
        assert cell.execution_count == wanted.get("execution_count")
        if cell.cell_type == "code":
            assert outputs(found).get(cell.cell_id, []) == wanted.outputs


def test_json_outputs_of_nbformat_3_become_objects() -> None:
    def told(value: Any) -> Any:
        output = {"output_type": "display_data", "metadata": {}, "json": value}
        return parsed(old({"cell_type": "code", "input": "1", "outputs": [output]}))

    for value, wanted in (
        ('{"a": 1}', {"a": 1}),
        (['{"a":', " 1}"], {"a": 1}),
        ("[1]", [1]),
        ({"a": 1}, {"a": 1}),
        ("no json", "no json"),
        ('{"a": NaN}', {"a": None}),
    ):
        found = told(value)
        assert outputs(found)["cell-001"][0]["data"]["application/json"] == wanted
    assert told("no json").warnings == [
        "cell 1, output 1: json holds no JSON; it is kept as a text"
    ]


def test_odd_old_files_are_accepted_and_told() -> None:
    found = parsed(
        old(
            {"cell_type": "code", "input": "1"},
            {"cell_type": "markdown"},
            {"cell_type": "heading", "source": "T", "level": "x"},
            {"cell_type": "code", "input": ["1"], "outputs": [{"output_type": "odd"}, 5]},
            metadata=None,
        )
    )
    assert [cell.source for cell in found.cells] == ["1", "", "# T", "1"]
    assert len(found.warnings) == 3
    for cell, reason in (
        ({"cell_type": "code"}, "cell 2 has no source"),
        ({"cell_type": "sql", "source": SECRET}, "cell 2 is of the type 'sql', which is none of"),
        (SECRET, "cell 2 is no JSON object"),
    ):
        with pytest.raises(InvalidInputError, match=reason) as refused:
            parsed(old({"cell_type": "code", "input": "1"}, cell))
        assert SECRET not in refused.value.detail


def test_no_message_prints_what_is_in_a_cell() -> None:
    for cell in (
        {"cell_type": "code", "outputs": [SECRET], "metadata": {"x": SECRET}},
        {"cell_type": "sql", "source": SECRET},
        {"source": SECRET},
        code(source={"x": SECRET}),
        [SECRET],
    ):
        with pytest.raises(InvalidInputError) as refused:
            parsed(book(cell))
        assert SECRET not in refused.value.detail
    odd = code(
        source=SECRET + "\ud800",
        outputs=[{"output_type": "stream", "text": {"x": SECRET}}, [SECRET]],
        metadata={"collapsed": SECRET, "tags": {"x": SECRET}},
    )
    assert SECRET not in str(parsed(book(odd)).warnings)


def test_a_file_with_many_oddities_is_told_in_short() -> None:
    tags = [str(number // 2) for number in range(40_000)]
    cells = [
        without(code(id=f"c{n}", metadata={"tags": tags if n == 0 else "x"}), "outputs")
        for n in range(500)
    ]
    content = json.dumps(book(*cells)).replace(
        '"id": "c1"', '"x": 1, "x": 2, ' * 1000 + '"id": "c1"'
    )
    found = parsed(content.encode())
    assert len(found.warnings) == MAX_TOLD + 1
    assert found.warnings[-1] == f"and {502 - MAX_TOLD} more warnings"
