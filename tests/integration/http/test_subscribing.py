"""What subscribers read of the events: schemas, and the AsyncAPI document, without a token."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from support.api import Api
from support.shared_api import api, api_server

from nbledger_schemas import Schema, published, states

__all__ = ["api", "api_server"]


@pytest.mark.parametrize(("place", "expected"), [("events", published()), ("states", states())])
async def test_each_schema_is_where_the_list_says(
    api: Api, place: str, expected: dict[str, Schema]
) -> None:
    client = api.anonymous()
    listed = (await client.get(f"/schema/{place}")).json()[place]
    assert [each["title"] for each in listed] == list(expected)
    for each in listed:
        # The address is the one by which the service is reached, also where it found its port.
        assert each["schema"].startswith(f"{api.url}/schema/{place}/")
        answer = await client.get(each["schema"])
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/schema+json"
        schema = answer.json()
        assert schema["$id"] == each["schema"]
        assert schema["title"] == each["title"]
        assert schema | {"$id": ""} == expected[each["title"]] | {"$id": ""}
        Draft202012Validator.check_schema(schema)
    for unknown in ("notebook.created.v99.json", "notebook.created.v1", "..%2Fasyncapi.json"):
        answer = await client.get(f"/schema/{place}/{unknown}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_asyncapi_document_and_its_page(api: Api) -> None:
    client = api.anonymous()
    told = (await client.get("/schema/asyncapi.json")).json()
    assert told["asyncapi"] == "3.1.0"
    assert told["info"]["version"] == api.document["info"]["version"]
    assert set(told["channels"]["events"]["messages"]) == {*published(), "without-data"}
    assert (await client.get("/schema/asyncapi")).json() == told
    page = await client.get("/schema/asyncapi", headers={"Accept": "text/html"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["vary"] == "Accept"
    assert "<h1>" in page.text
    for name in published():
        assert f"nbledger.{name}" in page.text
