"""Paths of the REST API, which also name the source of events."""

from uuid import UUID


def log_path(tenant_id: UUID | str) -> str:
    """The path of a tenant's log."""
    return f"/audit/log/{tenant_id}"


def project_path(tenant_id: UUID | str, project_id: UUID | str, *below: object) -> str:
    """The path of a project, or of something ``below`` it: each part becomes a segment."""
    return "/".join(["/api", str(tenant_id), str(project_id), *map(str, below)])
