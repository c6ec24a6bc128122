"""The AsyncAPI document, and the page made of it."""

import html
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, get

from nbledger_http.description.documentation import JSON, Answer, Operation
from nbledger_http.description.openapi import document_reply, page_or_document
from nbledger_http.description.page import STYLE, pre
from nbledger_http.replies.responses import Reply
from nbledger_infrastructure.kafka.clients import publishes_states
from nbledger_infrastructure.settings import Kafka, Settings
from nbledger_schemas.asyncapi import Broker, document

_PAGE: Final = "/schema/asyncapi"
_DOCUMENT: Final = "/schema/asyncapi.json"


def broker_of(kafka: Kafka) -> Broker:
    """What the document tells of the broker."""
    secure = kafka.security_protocol.endswith("SSL")
    return Broker(
        protocol="kafka-secure" if secure else "kafka",
        sasl=kafka.sasl_mechanism if kafka.security_protocol.startswith("SASL") else None,
        topic_prefix=kafka.topic_prefix,
        partitions=kafka.partitions,
        replicas=kafka.replication_factor,
        retention_hours=kafka.retention_hours,
        state_topics=publishes_states(kafka),
    )


@get(
    _PAGE,
    operation=Operation(
        id="getAsyncApiPage",
        tag="Description",
        summary="Topics and messages for subscribers, as a page to read",
        secured=False,
        description="Browsers, which accept text/html, get a page; everybody else the document.",
        answers={
            200: Answer(
                description="The page, or the document.",
                schema=dict[str, Any],
                media_types=("text/html", JSON),
                headers={"Vary": "Accept"},
            )
        },
    ),
)
async def asyncapi_page(request: Request[Any, Any, Any]) -> Reply:
    """The page for browsers, the document for everybody else."""
    state = request.app.state
    return page_or_document(request, page=state.asyncapi_page, document=state.asyncapi_json)


@get(
    _DOCUMENT,
    operation=Operation(
        id="getAsyncApi",
        tag="Description",
        summary="Topics and messages for subscribers, as an AsyncAPI 3.1 document",
        secured=False,
        answers={200: Answer(description="The document.", schema=dict[str, Any])},
    ),
)
async def asyncapi_json(request: Request[Any, Any, Any]) -> Reply:
    """The document."""
    return document_reply(request.app.state.asyncapi_json, JSON, {})


def install(app: Litestar, *, settings: Settings, version: str) -> None:
    """Make the document and the page."""
    described = document(broker_of(settings.kafka), base=settings.http.address, version=version)
    app.state.asyncapi_json = msgspec.json.encode(described)
    app.state.asyncapi_page = _page(described).encode()


def _page(described: dict[str, Any]) -> str:
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'><title>nbledger events</title>",
        f"<style>{STYLE}</style></head><body><h1>nbledger events</h1>",
        f"<p>{html.escape(described['info']['description'])}</p>",
        "<p><a href='asyncapi.json'>asyncapi.json</a></p>",
    ]
    messages, schemas = described["components"]["messages"], described["components"]["schemas"]
    for channel in described["channels"].values():
        names = list(channel["messages"])
        parts.append(
            f"<section><h2>{html.escape(channel['address'])}</h2>"
            f"<p>{html.escape(channel['summary'])}</p>{pre(channel['bindings'])}"
        )
        if headers := messages[names[0]].get("headers"):
            told = _headers(schemas[headers["$ref"].rpartition("/")[2]])
            parts.append(f"<details><summary>Headers</summary>{told}</details>")
        parts.extend(_message(name, messages[name], schemas.get(name)) for name in names)
        parts.append("</section>")
    return "".join([*parts, "</body></html>"])


def _headers(schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td>"
        f"<td>{'always' if name in schema['required'] else ''}</td>"
        f"<td>{html.escape(each['description'])}</td></tr>"
        for name, each in schema["properties"].items()
    )
    return f"<table>{rows}</table>"


def _message(name: str, message: dict[str, Any], schema: dict[str, Any] | None) -> str:
    examples = "".join(pre(each) for each in message.get("examples", []))
    payload = "" if schema is None else pre(schema)
    return (
        f"<details id='{html.escape(name)}'><summary><code>{html.escape(message['name'])}</code> "
        f"{html.escape(message['summary'])}</summary>{examples}{payload}</details>"
    )


HANDLERS: list[Any] = [asyncapi_page, asyncapi_json]
