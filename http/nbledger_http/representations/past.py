"""Single resources as they were at a moment of the past; that somebody reads that is recorded."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal
from uuid import UUID

from nbledger_application.caller import Caller
from nbledger_domain.errors import (
    DatasetNotFoundError,
    ExecutionNotFoundError,
    NotebookNotFoundError,
)
from nbledger_domain.past.errors import (
    CreatedLaterError,
    DeletedBeforeError,
    ErasedError,
    NotebookVersionNotFoundError,
)
from nbledger_domain.past.moments import AsOf, written
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.representations.schedules import runs_at
from nbledger_http.requests.past.moments import in_parameter
from nbledger_http.requests.services import Services
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store.moments import Moment
from nbledger_projections.machinery import past
from nbledger_projections.machinery.documents import View
from nbledger_projections.machinery.past import Place
from nbledger_projections.read_models import dataset_details
from nbledger_projections.read_models.dataset_details import MODEL as DATASETS
from nbledger_projections.read_models.executions import past as execution_past
from nbledger_projections.read_models.executions.status import MODEL as EXECUTIONS
from nbledger_projections.read_models.executions.status import ExecutionView
from nbledger_projections.read_models.notebooks import details as notebook_details
from nbledger_projections.read_models.notebooks.details import MODEL as NOTEBOOKS
from nbledger_projections.read_models.notebooks.details import NotebookView

_NOT_FOUND = {
    "notebook": NotebookNotFoundError,
    "execution": ExecutionNotFoundError,
    "dataset": DatasetNotFoundError,
}


async def notebook(
    services: Services,
    access: Caller,
    notebook_id: UUID,
    as_of: AsOf,
    *,
    parameter: str = "asOf",
) -> tuple[NotebookView, Moment, int]:
    """The notebook as it was, the moment, and how many firings of its schedule counted as run.

    ``parameter`` is what asks for it.

    Raises what :func:`_existing` does, and :class:`NotebookVersionNotFoundError`.
    """
    place = _place(access, "notebook", notebook_id, notebook_id)
    async with _existing(services, access, place, as_of, NOTEBOOKS.tables, parameter=parameter) as (
        connection,
        moment,
    ):
        view = await notebook_details.then(connection, notebook_id, moment)
        runs = 0
        if view is not None:
            runs = await runs_at(connection, notebook_id, view.document, moment)
    if view is None:
        raise NotebookNotFoundError(notebook_id)
    await _record(services, access, place)
    return view, moment, runs


async def execution(
    services: Services, access: Caller, notebook_id: UUID, execution_id: UUID, as_of: AsOf
) -> tuple[ExecutionView, Moment]:
    """The execution as it was, and the moment. Raises what :func:`_existing` does."""
    place = _place(access, "execution", notebook_id, execution_id)
    async with _existing(services, access, place, as_of, EXECUTIONS.tables) as (connection, moment):
        view = await execution_past.then(connection, place, execution_id, moment)
    if view is None:
        raise ExecutionNotFoundError(execution_id)
    await _record(services, access, place)
    return view, moment


async def dataset(
    services: Services, access: Caller, dataset_id: UUID, as_of: AsOf
) -> tuple[View, Moment]:
    """The dataset as it was, and the moment. Raises what :func:`_existing` does."""
    place = _place(access, "dataset", dataset_id, dataset_id)
    async with _existing(services, access, place, as_of, DATASETS.tables) as (connection, moment):
        view = await dataset_details.then(connection, dataset_id, moment)
    if view is None:
        raise DatasetNotFoundError(dataset_id)
    await _record(services, access, place)
    return view, moment


def position_header(moment: Moment) -> dict[str, str]:
    """What an answer says of the moment that it is of."""
    return {"Nbledger-Position": str(moment.position)}


def _place(
    access: Caller,
    what: Literal["notebook", "execution", "dataset"],
    subject_id: UUID,
    stream_id: UUID,
) -> Place:
    return Place(access.tenant_id, access.project_id, subject_id, stream_id, what)


@asynccontextmanager
async def _existing(
    services: Services,
    access: Caller,
    place: Place,
    as_of: AsOf,
    tables: Sequence[str],
    *,
    parameter: str = "asOf",
) -> AsyncIterator[tuple[PooledConnection, Moment]]:
    """A connection to read what existed at the moment.

    Raises the error of its kind where there is no such thing, :class:`CreatedLaterError`,
    :class:`DeletedBeforeError`, :class:`InvalidInputError` for a moment that has not come yet, and
    :class:`Problem` (410) where it is erased. Whatever these tell of it is recorded before.
    """
    try:
        with in_parameter(parameter):
            async with past.reading(services.pool, place, as_of, tables) as (
                connection,
                moment,
            ):
                yield connection, moment
    except past.AbsentError:
        raise _NOT_FOUND[place.what](place.stream_id) from None
    except (CreatedLaterError, DeletedBeforeError, NotebookVersionNotFoundError):
        await _record(services, access, place)
        raise
    except ErasedError as error:
        await _record(services, access, place)
        raise await _gone(services, place, error) from None


async def _record(services: Services, access: Caller, place: Place) -> None:
    await services.history_reads.record(access, place.what, place.stream_id, "past")


async def _gone(services: Services, place: Place, error: ErasedError) -> Problem:
    """Who asked for the deletion is told by name, as long as there is one."""
    who, detail = None, error.detail
    if error.deleted_by is not None:
        who = (await services.names.of(place.tenant_id, [error.deleted_by]))[error.deleted_by]
        detail = f"{detail} {who} asked for it."
    return Problem(Code.ERASED, detail, erased_at=written(error.erased_at), erased_by=who)
