"""Paths of the REST API, which also name the source of events."""

from typing import Final
from uuid import UUID

EVENT_SCHEMAS: Final = "/schema/events"
"""The path of the list of the events' schemas."""


def log_path(tenant_id: UUID | str) -> str:
    """The path of a tenant's log."""
    return f"/audit/log/{tenant_id}"


def project_path(tenant_id: UUID | str, project_id: UUID | str, *below: object) -> str:
    """The path of a project, or of something ``below`` it: each part becomes a segment."""
    return "/".join(["/api", str(tenant_id), str(project_id), *map(str, below)])


def event_schema_path(event_type: str) -> str:
    """The path of the schema of this type of event."""
    return f"{EVENT_SCHEMAS}/{event_type}.json"
