"""Published messages as independent SDKs of CloudEvents read them."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from typing import Any

from aiokafka import ConsumerRecord
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings import kafka
from cloudevents.core.formats.json import JSONFormat
from support.node import node
from support.paths import ROOT, TESTS

STRUCTURED = "application/cloudevents"
"""With this the media type of a message begins that is in structured mode."""


def python_reads(message: ConsumerRecord[bytes, bytes]) -> BaseCloudEvent:
    """The event; which mode a message is in its media type tells, as the binding says."""
    assert message.value is not None
    headers = dict(message.headers)
    told = kafka.KafkaMessage(headers, message.key, message.value)
    if headers["content-type"].decode().startswith(STRUCTURED):
        return kafka.from_structured_event(told)
    return kafka.from_binary_event(told)


def python_reads_body(body: bytes) -> BaseCloudEvent:
    """The event in the body of a request."""
    return JSONFormat().read(None, body)


def javascript_reads(
    messages: Sequence[ConsumerRecord[bytes, bytes]], bodies: Sequence[tuple[str, bytes]] = ()
) -> list[dict[str, Any]]:
    """The events in Kafka's messages, and then in bodies, each with its media type."""
    asked: list[dict[str, Any]] = [
        {
            "headers": {name: value.decode() for name, value in each.headers},
            "key": (each.key or b"").decode(),
            "value": base64.b64encode(each.value or b"").decode(),
        }
        for each in messages
    ]
    asked += [
        {"headers": {"content-type": kind}, "body": base64.b64encode(body).decode()}
        for kind, body in bodies
    ]
    told = subprocess.run(
        [node(), str(TESTS / "support" / "cloudevents.cjs"), str(ROOT / ".venv-node")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(told.stdout)
    return found
