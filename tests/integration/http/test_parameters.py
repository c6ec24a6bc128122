"""Parameters of a run over HTTP: what the notebook does not take, and what is no JSON."""

from __future__ import annotations

from typing import Any

import httpx
from support.api import Api, new_notebook
from support.shared_api import api, api_server

__all__ = ["api", "api_server"]

JSON = {"Content-Type": "application/json"}


async def notebook_of(client: httpx.AsyncClient, *cells: Any, **members: Any) -> str:
    made = await new_notebook(client, initialCells=[*cells], **members)
    return f"/notebook/{made['notebookId']}/execute"


def code(content: str, *tags: str) -> dict[str, Any]:
    return {"cellType": "code", "content": content, "tags": list(tags)}


async def execute(client: httpx.AsyncClient, path: str, **body: Any) -> tuple[int, list[str]]:
    """The status, and warnings or faults without that of the absent worker.

    Warnings are told of the run, too, from the start: in its status and with its results.
    """
    answer = await client.post(path, json=body)
    told = answer.json()
    if answer.status_code == 422:
        return 422, [f"{each['pointer']}: {each['reason']}" for each in told["errors"]]
    *warnings, of_worker = told["warnings"]
    assert "no live worker" in of_worker
    run = f"{path.removesuffix('/execute')}/execution/{told['executionId']}"
    results = (await client.get(f"{run}/results")).json()
    for document in (told, (await client.get(run)).json()):
        assert document["runWarnings"] == results["runWarnings"] == warnings
    return answer.status_code, warnings


async def test_a_mistyped_parameter_is_a_warning_or_refused_when_strict(api: Api) -> None:
    client = await api.client()
    path = await notebook_of(client, code("alpha=1", "parameters"), code("print(alpha)"))
    mistyped = "/parameters/alpah: the cell tagged 'parameters' does not set it"
    told = [f"{mistyped}; did you mean alpha?"]
    assert await execute(client, path, parameters={"alpah": 2}) == (202, told)
    strict = {"strictParameters": True}
    assert await execute(client, path, parameters={"alpah": 2}, **strict) == (422, told)
    assert await execute(client, path, parameters={"alpha": 2}, **strict) == (202, [])
    assert await execute(client, path, **strict) == (202, [])
    # The names are those of the notebook, whatever of it is run.
    part = {"executionMode": "range", "cellRange": {"startCell": "cell-002"}}
    assert await execute(client, path, parameters={"alpha": 2}, **part) == (202, [])
    assert await execute(client, path, parameters={"alpah": 2}, **part) == (202, told)
    wrong = await execute(client, path, strictParameters="yes")
    assert wrong == (422, ["/strictParameters: must be true or false"])


async def test_parameters_without_a_cell_for_them_are_a_warning(api: Api) -> None:
    client = await api.client()
    path = await notebook_of(client, code("x=1\nprint(x)"))
    parameters = {"x": 5, "zzz": 1}
    assert await execute(client, path, parameters=parameters) == (
        202,
        [
            (
                "/parameters: no cell is tagged 'parameters'; they are set before the first cell. "
                "The notebook then sets x itself, and that value counts"
            ),
        ],
    )
    assert await execute(client, path, parameters=parameters, strictParameters=True) == (
        422,
        [
            f"/parameters/{name}: no cell of the notebook is tagged 'parameters'"
            for name in parameters
        ],
    )


async def test_other_languages_take_theirs(api: Api) -> None:
    client = await api.client()
    in_r = await notebook_of(client, code("n <- 1", "parameters"), kernelType="r")
    assert await execute(client, in_r, parameters={"n": 2**53}) == (202, [])
    status, (told,) = await execute(client, in_r, parameters={"n": 2**53 + 1})
    assert status == 422
    assert told.startswith("/parameters/n: is an integer beyond 2^53")
    _, (told,) = await execute(client, in_r, parameters={"m": 1})
    assert told.endswith("it sets n")
    in_scala = await notebook_of(client, code("val n = 1", "parameters"), kernelType="scala")
    assert await execute(client, in_scala, parameters={"n": 2**53 + 1}) == (202, [])


async def test_of_many_mistyped_parameters_some_are_told_and_the_others_counted(api: Api) -> None:
    client = await api.client()
    path = await notebook_of(client, code("alpha=1", "parameters"))
    names = ["x" * 5000, *(f"p{number}" for number in range(149))]
    status, told = await execute(client, path, parameters=dict.fromkeys(names, 1))
    assert (status, len(told)) == (202, 21)
    assert len(told[0]) < 300
    assert told[-1] == "/parameters: the cell tagged 'parameters' does not take 130 more"


async def test_a_parameter_that_is_there_twice_is_refused(api: Api) -> None:
    client = await api.client()
    path = await notebook_of(client, code("alpha=1", "parameters"))
    twice = b'\xef\xbb\xbf{"parameters": {"alpha": 1, "b": [{"a/b": 1, "a/b": 1}], "alpha": 2}}'
    answer = await client.post(path, content=twice, headers=JSON)
    assert answer.status_code == 422
    faults = {(each["pointer"], each["reason"]) for each in answer.json()["errors"]}
    assert faults == {
        ("/parameters/alpha", "is given more than once"),
        ("/parameters/b/0/a~1b", "is given more than once"),
    }
    # A mark of the byte order before it is no fault.
    once = await client.post(path, content=b'\xef\xbb\xbf{"timeout": 5}', headers=JSON)
    assert (once.status_code, once.json()["timeout"]) == (202, 5)


async def test_a_body_that_is_no_json_is_told_where(api: Api) -> None:
    client = await api.client()
    path = await notebook_of(client, code("x=1", "parameters"))
    answer = await client.post(path, content=b'{"parameters":{"x":NaN}}', headers=JSON)
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == "/parameters/x"
    assert (
        fault["reason"]
        == "is NaN, which is no JSON (line 1, column 20, byte 19); send null or text"
    )
    assert "NaN" in answer.json()["error"]
