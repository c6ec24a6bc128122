"""Executions that have ended: run them again."""

from functools import partial
from typing import Any, Final

from litestar import Request, post

from nbledger_application.caller import Right
from nbledger_application.commands.rerun_execution import plan_rerun, rerun_execution
from nbledger_application.idempotency import RequestKey
from nbledger_application.queue import ShareLimits
from nbledger_domain.execution.repetition import RepetitionKind
from nbledger_http.description import repetition_examples
from nbledger_http.description.documentation import (
    ETAG,
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_PROBLEMS,
    LOCATION,
    POSITION,
    REPLAYED,
    Answer,
    Body,
    Operation,
)
from nbledger_http.description.execution_examples import RUN_PLAN
from nbledger_http.endpoints.executions import TAG, NewExecution, requested
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply
from nbledger_http.representations.executions.run_plans import RunPlanDocument, plan_reply
from nbledger_http.representations.idempotency import New, beyond_defaults, once
from nbledger_http.requests.json_bodies import json_object
from nbledger_http.requests.repetitions import (
    RepairExecution,
    RerunExecution,
    asked_of,
    change_of,
    repetition,
)
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import access_of, execution_id_of, notebook_id_of

_OPERATIONS: Final[dict[RepetitionKind, str]] = {
    "rerun": "rerunExecution",
    "repair": "repairExecution",
}


def _answers(example: dict[str, Any]) -> dict[int, Answer]:
    return {
        200: Answer(
            description="What would run, where the request has `dryRun`.",
            schema=RunPlanDocument,
            example={**RUN_PLAN, "cause": example["cause"]},
        ),
        202: Answer(
            description="The new execution, which waits for a worker.",
            schema=NewExecution,
            opens="executionId",
            example=example,
            headers={**LOCATION, **ETAG, **POSITION, **REPLAYED},
        ),
    }


_PROBLEMS = (
    Code.EXECUTION_NOT_FOUND,
    Code.EXECUTION_RUNNING,
    Code.NOTHING_TO_EXECUTE,
    Code.INPUTS_UNAVAILABLE,
    Code.BODY_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
    Code.VALIDATION_FAILED,
    Code.QUEUE_FULL,
    Code.KERNEL_UNAVAILABLE,
    *IDEMPOTENCY_PROBLEMS,
)


@post(
    "/notebook/{notebook_id:str}/execution/{execution_id:str}/rerun",
    right=Right.WRITE,
    operation=Operation(
        id=_OPERATIONS["rerun"],
        tag=TAG,
        summary="Rerun an execution",
        description="All that an ended execution ran, once more, in a new execution whose `cause` "
        "names it: by default with the same version of the notebook and its input files, the same "
        "versions of the datasets, the same parameters, options and tags. Packages are resolved "
        "anew. Whether the one before succeeded does not matter.",
        headers=(IDEMPOTENCY_KEY,),
        body=Body(schema=RerunExecution, required=False, example=repetition_examples.RERUN),
        answers=_answers(repetition_examples.RERUN_EXECUTION),
        problems=_PROBLEMS,
    ),
)
async def rerun(request: Request[Any, Any, Any]) -> Reply:
    """The new execution."""
    return await _repeated(request, "rerun")


@post(
    "/notebook/{notebook_id:str}/execution/{execution_id:str}/repair",
    right=Right.WRITE,
    operation=Operation(
        id=_OPERATIONS["repair"],
        tag=TAG,
        summary="Repair a failed execution",
        description="Like a rerun of one that did not complete, or of which a cell failed; but by "
        "default with the newest version of the notebook and the newest datasets. All its cells "
        "are run, as a new kernel has nothing of what they set; with `cells` fromFailed only those "
        "from the first failed one on.",
        headers=(IDEMPOTENCY_KEY,),
        body=Body(schema=RepairExecution, required=False, example=repetition_examples.REPAIR),
        answers=_answers(repetition_examples.REPAIR_EXECUTION),
        problems=(*_PROBLEMS, Code.NOTHING_TO_REPAIR),
    ),
)
async def repair(request: Request[Any, Any, Any]) -> Reply:
    """The new execution."""
    return await _repeated(request, "repair")


async def _repeated(request: Request[Any, Any, Any], kind: RepetitionKind) -> Reply:
    services, access = services_of(request), access_of(request)
    notebook_id, execution_id = notebook_id_of(request), execution_id_of(request)
    body = await json_object(request, optional=True)
    executions, waiting = services.settings.execution, services.settings.queue
    run = (services.store, services.pool, access, notebook_id, execution_id)
    asked, change = repetition(kind, body), change_of(kind, body, executions)
    if body.get("dryRun") is True:
        return plan_reply(await plan_rerun(*run, asked=asked, change=change, executions=executions))

    async def make(key: RequestKey | None) -> New:
        repeated = await rerun_execution(
            *run,
            asked=asked,
            change=change,
            executions=executions,
            limits=ShareLimits.of(waiting.max_waiting_per_tenant, waiting.max_waiting_per_project),
            key=key,
        )
        return New(repeated.execution_id, {"warnings": repeated.warnings})

    return await once(
        request,
        _OPERATIONS[kind],
        lambda: [notebook_id, execution_id, beyond_defaults(asked_of(kind, body, executions))],
        make,
        partial(requested, request, notebook_id),
        look_first=False,
    )


HANDLERS: list[Any] = [rerun, repair]
