"""Create a notebook."""

from typing import Any
from uuid import UUID

import msgspec

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_domain.cells import Cell, free_ids
from nbledger_domain.notebook import Environment, Integration, Notebook
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.notebooks import templates
from nbledger_infrastructure.postgres.event_store import (
    AppendResult,
    EventStore,
    IdempotencyKey,
)


class NewNotebook(msgspec.Struct, frozen=True):
    """What a notebook is to be; ``template`` names the one that its first cells are of."""

    name: str
    description: str
    kernel_type: str
    template: str | None
    integration: Integration
    environment: Environment
    cells: list[Cell]


async def create_notebook(
    store: EventStore, caller: Caller, new: NewNotebook, *, key: IdempotencyKey | None = None
) -> tuple[UUID, AppendResult]:
    """Record the new notebook; returns its id and where in the store it is.

    Raises :class:`KeyUsedError` where an earlier request came with the same ``key``.
    """
    notebook = Notebook.create(
        new_id(),
        name=new.name,
        description=new.description,
        kernel_type=new.kernel_type,
        template=new.template,
        integration=new.integration,
        environment=new.environment,
        cells=new.cells,
        metadata=_metadata(new.template),
        created_by=caller.actor,
        at=now(),
    )
    stream = caller.stream(notebook.id, notebook.id)
    appended = await repository.save(store, notebook, stream, caller.metadata(), key=key)
    assert appended is not None  # noqa: S101 (a creation is an event)
    return notebook.id, appended


def template_cells(name: str) -> list[Cell]:
    """The cells of the template, under ids as the API gives them."""
    fresh = iter(free_ids(()))
    cells = templates.load(name).cells
    return [msgspec.structs.replace(cell, cell_id=next(fresh)) for cell in cells]


def _metadata(template: str | None) -> dict[str, Any]:
    return {} if template is None else templates.load(template).metadata
