"""The provenance of an execution's result."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Caller, Right
from nbledger_application.commands.loading import load_notebook
from nbledger_audit import reading
from nbledger_domain.errors import ExecutionNotFoundError
from nbledger_domain.execution import Representation
from nbledger_domain.provenance import (
    METADATA_FILE,
    NOTEBOOK,
    LogFacts,
    Provenance,
    paths,
    ro_crate,
)
from nbledger_domain.provenance.crate_files import dataset_path
from nbledger_domain.vocabulary.addresses import project_path
from nbledger_http.description.documentation import JSON, Answer, Operation
from nbledger_http.endpoints.executions import TAG
from nbledger_http.endpoints.provenance import examples
from nbledger_http.replies.archives import Entry, worth_compressing, zip_stream
from nbledger_http.replies.file_names import content_disposition
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, header_list, json_reply
from nbledger_http.representations import resources
from nbledger_http.representations.notebooks.files import notebook_file
from nbledger_http.representations.streaming import LiveReply
from nbledger_http.requests import queries
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, execution_id_of, notebook_id_of
from nbledger_http.security.links import base_url
from nbledger_infrastructure.artifacts.store import ArtifactMissingError
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.postgres.database import acquire
from nbledger_infrastructure.provenance import provenance_of

JSON_LD: Final = "application/ld+json"
ZIP: Final = "application/zip"
_IPYNB: Final = "application/x-ipynb+json"
_UNCACHED: Final = {"Cache-Control": "private, no-cache"}


class ProvenanceQuery(msgspec.Struct, kw_only=True):
    """In which form it is told."""

    format: Annotated[
        Literal["json", "ro-crate", "ro-crate-zip"],
        Meta(
            description="JSON; the ro-crate-metadata.json of a Provenance Run Crate, whose files "
            "are told with their SHA-256; or the whole crate with its files, as a ZIP archive."
        ),
    ] = "json"


@get(
    "/notebook/{notebook_id:str}/execution/{execution_id:str}/provenance",
    right=Right.READ,
    operation=Operation(
        id="getExecutionProvenance",
        tag=TAG,
        summary="Get the provenance of a result",
        description="Of what, by what and how the result came about, as it was recorded: the "
        "notebook's version and its digest, parameters, packages, dataset versions, input files, "
        "kernel, workers, cells with times, outputs and artifacts with their SHA-256, who asked "
        "for it and what led to it, and where its events are in the transparency log. Null is what "
        "is not known, as of a run of before it was recorded. As a Provenance Run Crate (RO-Crate) "
        "it is read by other programs.",
        query=ProvenanceQuery,
        answers={
            200: Answer(
                description="The provenance, as of now.",
                schema=Provenance,
                media_types=(JSON, JSON_LD, ZIP),
                example=examples.PROVENANCE,
                headers={
                    "Cache-Control": "That it is asked for again.",
                    "Content-Disposition": "Names an archive.",
                },
            )
        },
        problems=(Code.EXECUTION_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def get_provenance(request: Request[Any, Any, Any]) -> Reply:
    """The provenance."""
    services, access = services_of(request), access_of(request)
    notebook_id, execution_id = notebook_id_of(request), execution_id_of(request)
    asked = queries.checked(request, ProvenanceQuery).format
    await resources.execution(services.pool, access, notebook_id, execution_id)
    run = await provenance_of(services.store, notebook_id, execution_id)
    if run is None:
        raise ExecutionNotFoundError(execution_id)
    run = await _with_names(services, access, run)
    if access.may(Right.AUDIT):
        run = msgspec.structs.replace(run, log=await _log(services, access, run))
    if asked == "json":
        return json_reply(msgspec.json.encode(run), headers=_UNCACHED)
    address = base_url(request, services.settings.http.public_url) + project_path(
        *(access.tenant_id, access.project_id),
        *("notebook", notebook_id, "execution", execution_id),
    )
    if asked == "ro-crate":
        body = _document(run, address, None)
        return json_reply(body, headers=_UNCACHED, media_type=JSON_LD)
    headers = {
        "Content-Type": ZIP,
        "Content-Disposition": content_disposition(f"ro-crate-{execution_id}.zip"),
        "X-Content-Type-Options": "nosniff",
        **_UNCACHED,
    }
    pieces = zip_stream(_entries(services, access, run, address), at=run.end_time or now())
    return LiveReply(200, header_list(headers), pieces)


async def _with_names(services: Services, access: Caller, run: Provenance) -> Provenance:
    actors = [run.requested_by, *(each.requested_by for each in run.causes)]
    shown = await services.names.of(access.tenant_id, actors)
    return msgspec.structs.replace(
        run,
        requested_by=shown[run.requested_by],
        causes=[
            msgspec.structs.replace(each, requested_by=shown[each.requested_by])
            for each in run.causes
        ],
    )


async def _log(services: Services, access: Caller, run: Provenance) -> LogFacts | None:
    async with acquire(services.pool) as connection:
        found = await reading.places(
            connection, access.tenant_id, [run.first_position, run.last_position]
        )
    if found is None:
        return None
    state, (requested, last) = found
    return LogFacts(origin=state.origin, size=state.size, requested=requested, last=last)


def _document(run: Provenance, address: str, notebook: Representation | None) -> bytes:
    crate = ro_crate(run, address=address, at=run.end_time or now(), notebook=notebook)
    return msgspec.json.format(msgspec.json.encode(crate), indent=2)


async def _entries(
    services: Services, access: Caller, run: Provenance, address: str
) -> AsyncIterator[Entry]:
    """The files of the crate; what is not kept any more is left out, and told all the same."""
    own = access.scope(run.notebook.notebook_id)
    scopes = {dataset_path(each): access.scope(each.dataset_id) for each in run.datasets}
    for path, kept in paths(run).items():
        try:
            pieces = await services.artifacts.stream(scopes.get(path, own), kept.digest)
        except ArtifactMissingError:
            continue
        yield Entry(path, pieces, worth_compressing(kept.content_type))
    content = await _notebook(services, access, run)
    yield Entry(NOTEBOOK, _once(content))
    told = Representation(_IPYNB, hashlib.sha256(content).hexdigest(), len(content))
    yield Entry(METADATA_FILE, _once(_document(run, address, told)))


async def _notebook(services: Services, access: Caller, run: Provenance) -> bytes:
    """The notebook as it ran, with its outputs."""
    notebook_id = run.notebook.notebook_id
    loaded = await load_notebook(
        services.store, access, notebook_id, up_to_version=run.notebook.stream_version
    )
    view = await resources.results(services.pool, access, notebook_id, run.execution_id)
    return await notebook_file(services, access, loaded.aggregate, view)


async def _once(content: bytes) -> AsyncGenerator[bytes]:
    yield content


HANDLERS: list[Any] = [get_provenance]
