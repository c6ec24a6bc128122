"""Executions: the chain that one is in, and what has changed since an earlier one."""

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Right
from nbledger_domain.errors import ExecutionNotFoundError
from nbledger_http.description import repetition_examples
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.endpoints.executions import TAG
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.representations import resources
from nbledger_http.representations.principals import with_names_within
from nbledger_http.requests import queries
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import (
    access_of,
    execution_id_in,
    execution_id_of,
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
        description="What is otherwise in this execution than in the last one before it that "
        "succeeded, or than in the one that `against` names: the notebook and its cells, "
        "parameters, options, the versions of datasets, packages, the kernel, input files. "
        "`differs` names what is otherwise, `unknown` what cannot be compared, as it is not known "
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
    against: UUID | None = None if asked is None else execution_id_in(asked)
    for each in (execution_id, against):
        if each is not None:
            await resources.execution(services.pool, access, notebook_id, each)
    found = await changes.get(services.store, services.pool, notebook_id, execution_id, against)
    if found is None:
        raise ExecutionNotFoundError(execution_id)
    return json_reply(msgspec.json.encode(found), headers=_UNCACHED)


HANDLERS: list[Any] = [get_chain, get_changes]
