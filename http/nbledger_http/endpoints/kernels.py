"""The kernel types on offer: what notebooks can be executed with just now."""

from typing import Any

import msgspec
from litestar import Request, get

from nbledger_application.caller import Right
from nbledger_application.notices import missing_workers
from nbledger_http.description import examples
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import access_of
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.worker_registry import OfferedKernel
from nbledger_projections.read_models import humanize


class KernelDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A kernel type that live workers offer.

    `waiting` kernels are started already and take the next executions at once; the memory is
    what one of them shares with no other process, where that is known.
    """

    kernel_type: str
    language: str
    language_version: str | None
    workers: int
    waiting: int = 0
    memory_per_waiting_kernel: str | None = None
    memory_per_waiting_bytes: int | None = None


class MissingKernelDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A kernel type without a live worker; so many runs of the project wait for it.

    The first of them was asked for at `waitingSince`.
    """

    kernel_type: str
    waiting: int
    waiting_since: str


class KernelListDocument(msgspec.Struct, rename="camel"):
    """What can be executed now; a type that is not among `kernels` has no live worker.

    `withoutWorkers` are those of them for which runs of the project wait.
    """

    kernels: list[KernelDocument]
    without_workers: list[MissingKernelDocument]


@get(
    "/kernels",
    right=Right.READ,
    operation=Operation(
        id="listKernels",
        tag="Kernels",
        summary="List the kernel types on offer",
        description="Those that live workers offer now, by name; and those for which runs of this "
        "project wait that no live worker offers.",
        answers={
            200: Answer(
                description="The kernel types.",
                schema=KernelListDocument,
                example=examples.KERNELS,
            )
        },
        problems=(Code.PROJECT_NOT_FOUND,),
    ),
)
async def list_kernels(request: Request[Any, Any, Any]) -> Reply:
    """The kernel types on offer."""
    pool, access = services_of(request).pool, access_of(request)
    offers = await worker_registry.offers(pool)
    kernels = [_document(offers[name]) for name in sorted(offers)]
    missing = [
        MissingKernelDocument(
            kernel_type=each.kernel_type,
            waiting=each.waiting,
            waiting_since=humanize.timestamp(each.waiting_since),
        )
        for each in await missing_workers.of_project(
            pool, access.tenant_id, access.project_id, offers
        )
    ]
    headers = {"Cache-Control": "private, no-cache"}
    return json_reply(msgspec.json.encode(KernelListDocument(kernels, missing)), headers=headers)


def _document(offer: OfferedKernel) -> KernelDocument:
    document = msgspec.convert(offer, KernelDocument, from_attributes=True)
    if document.memory_per_waiting_bytes is not None:
        document.memory_per_waiting_kernel = humanize.size(document.memory_per_waiting_bytes)
    return document


HANDLERS: list[Any] = [list_kernels]
