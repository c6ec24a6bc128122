"""What subscribers to the events build on: JSON Schemas, and an AsyncAPI document."""

from typing import Any

from litestar import Litestar

from nbledger_http.description.subscribing import asyncapi, event_schemas, state_schemas
from nbledger_infrastructure.settings import Settings

HANDLERS: list[Any] = [
    *event_schemas.HANDLERS,
    *state_schemas.HANDLERS,
    *asyncapi.HANDLERS,
]


def install(app: Litestar, *, settings: Settings, version: str) -> None:
    """Make the documents."""
    event_schemas.install(app, base=settings.http.address)
    state_schemas.install(app, base=settings.http.address)
    asyncapi.install(app, settings=settings, version=version)
