"""What a message on a command or control topic says, beside its CloudEvents headers."""

from uuid import UUID

import msgspec


class Command(msgspec.Struct, frozen=True, rename="camel"):
    """Which execution a worker is asked to do something about."""

    execution_id: UUID
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
