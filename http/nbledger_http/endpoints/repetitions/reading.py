"""Executions: the chain that one is in, and what has changed since an earlier one."""

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Caller, Right
from nbledger_domain.errors import ExecutionNotFoundError, Fault
from nbledger_domain.input_files import shown
from nbledger_http.description import repetition_examples
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.endpoints.executions import TAG
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.representations import resources
from nbledger_http.representations.principals import with_names_within
from nbledger_http.requests import queries
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import (
    access_of,
    execution_id_of,
    guid,
    notebook_id_of,
)
from nbledger_projections.read_models.executions.repetitions import chains, changes
from nbledger_projections.read_models.executions.repetitions.chains import ChainDocument
from nbledger_projections.read_models.executions.repetitions.changes import ChangesDocument

_UNCACHED: Final = {"Cache-Control": "private, no-cache"}


class ChangesQuery(msgspec.Struct, rename="camel"):
    """What an execution is compared with."""

    against: Annotated[
        str | None,
        Meta(
            description="Another execution of the notebook. By default the last one requested "
            "before it that succeeded: of the same cells, or if there is none, of any.",
            extra_json_schema={"format": "uuid"},
        ),
    ] = None


@get(
    "/notebook/{notebook_id:str}/execution/{execution_id:str}/chain",
    right=Right.READ,
    operation=Operation(
        id="getExecutionChain",
        tag=TAG,
        summary="Get the chain of an execution",
        description="From the execution that repeats none to the newest: it, all that repeat it, "
        "all that repeat those, each with its attempts; whichever of them is asked for. As of now.",
        answers={
            200: Answer(
                description="The executions, in the order of their requests.",
                schema=ChainDocument,
                example=repetition_examples.CHAIN,
            )
        },
        problems=(Code.EXECUTION_NOT_FOUND,),
    ),
)
async def get_chain(request: Request[Any, Any, Any]) -> Reply:
    """The chain."""
    pool, access = services_of(request).pool, access_of(request)
    notebook_id, execution_id = notebook_id_of(request), execution_id_of(request)
    await resources.execution(pool, access, notebook_id, execution_id)
    chain = await chains.get(pool, access.tenant_id, access.project_id, notebook_id, execution_id)
    names = services_of(request).names
    body = await with_names_within(names, access.tenant_id, chain, "requestedBy", "executions")
    return json_reply(body, headers=_UNCACHED)


@get(
    "/notebook/{notebook_id:str}/execution/{execution_id:str}/changes",
    right=Right.READ,
    operation=Operation(
        id="getExecutionChanges",
        tag=TAG,
        summary="Get what has changed since the last success",
        description="How this execution differs from the last one before it that "
        "succeeded, or from the one that `against` names: the notebook and its cells, "
        "parameters, options, the versions of datasets, packages, the kernel, input files. "
        "`differs` names the differences, `unknown` what cannot be compared, as it is not known "
        "of one of the two.",
        query=ChangesQuery,
        answers={
            200: Answer(
                description="The changes; null where there is nothing to compare with.",
                schema=ChangesDocument,
                example=repetition_examples.CHANGES,
            )
        },
        problems=(Code.EXECUTION_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def get_changes(request: Request[Any, Any, Any]) -> Reply:
    """The changes."""
    services, access = services_of(request), access_of(request)
    notebook_id, execution_id = notebook_id_of(request), execution_id_of(request)
    asked = queries.checked(request, ChangesQuery).against
    await resources.execution(services.pool, access, notebook_id, execution_id)
    against = None if asked is None else await _against(services, access, notebook_id, asked)
    found = await changes.get(services.store, services.pool, notebook_id, execution_id, against)
    if found is None:
        raise ExecutionNotFoundError(execution_id)
    return json_reply(msgspec.json.encode(found), headers=_UNCACHED)


async def _against(services: Services, access: Caller, notebook_id: UUID, asked: str) -> UUID:
    """The execution to compare with. Raises :class:`Problem` (404), which names the parameter."""
    found = guid(asked)
    if found is not None:
        try:
            await resources.execution(services.pool, access, notebook_id, found)
        except ExecutionNotFoundError:
            found = None
    if found is None:
        fault = Fault("?against", f"the notebook has no execution {shown(asked)}")
        raise Problem(Code.EXECUTION_NOT_FOUND, faults=[fault])
    return found


HANDLERS: list[Any] = [get_chain, get_changes]
