"""Create a notebook."""

from typing import Any
from uuid import UUID

import msgspec

from nbledger_application import repository
from nbledger_domain.cells import Cell, free_ids
from nbledger_domain.notebook import Notebook
from nbledger_http.access import Access
from nbledger_http.requests import Creation
from nbledger_infrastructure import templates
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.event_store import AppendResult, EventStore
from nbledger_infrastructure.identifiers import new_id


async def create_notebook(
    store: EventStore, access: Access, creation: Creation
) -> tuple[UUID, AppendResult]:
    """Record the new notebook; returns its id and where in the store it is."""
    notebook = Notebook.create(
        new_id(),
        name=creation.name,
        description=creation.description,
        kernel_type=creation.kernel_type,
        template=creation.template,
        integration=creation.integration,
        environment=creation.environment,
        cells=creation.cells,
        metadata=_metadata(creation.template),
        created_by=access.token.name,
        at=now(),
    )
    stream = access.stream(notebook.id, notebook.id)
    appended = await repository.save(store, notebook, stream, access.metadata())
    assert appended is not None  # noqa: S101 (a creation is an event)
    return notebook.id, appended


def template_cells(name: str) -> list[Cell]:
    """The cells of the template, under ids as the API gives them."""
    fresh = iter(free_ids(()))
    cells = templates.load(name).cells
    return [msgspec.structs.replace(cell, cell_id=next(fresh)) for cell in cells]


def _metadata(template: str | None) -> dict[str, Any]:
    return {} if template is None else templates.load(template).metadata
