"""Paths of the REST API, which also name the source of events."""

from typing import Final
from uuid import UUID

EVENT_SCHEMAS: Final = "/schema/events"
"""The path of the list of the events' schemas."""

STATE_SCHEMAS: Final = "/schema/states"
"""The path of the list of the schemas of what state topics hold."""

ALL_PROJECTS: Final = UUID(int=0)
"""What stands in the place of a project where all of a tenant's are meant: the nil UUID."""


def audit_path(tenant_id: UUID | str, of: str) -> str:
    """The path of what auditors of all projects of a tenant read."""
    return f"/audit/{of}/{tenant_id}"


def log_path(tenant_id: UUID | str) -> str:
    """The path of a tenant's log."""
    return f"/audit/log/{tenant_id}"


def project_path(tenant_id: UUID | str, project_id: UUID | str, *below: object) -> str:
    """The path of a project, or of something ``below`` it: each part becomes a segment."""
    return "/".join(["/api", str(tenant_id), str(project_id), *map(str, below)])


def event_schema_path(event_type: str) -> str:
    """The path of the schema of this type of event."""
    return f"{EVENT_SCHEMAS}/{event_type}.json"


def state_schema_path(state_type: str) -> str:
    """The path of the schema of this type of state."""
    return f"{STATE_SCHEMAS}/{state_type}.json"
