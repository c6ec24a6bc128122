"""Notebooks: create one, from nothing or from a template, and which templates there are."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, get, post
from msgspec import UNSET, UnsetType

from nbledger_application.caller import Caller, Right
from nbledger_application.commands.create_notebook import create_notebook, template_cells
from nbledger_application.idempotency import RequestKey
from nbledger_domain.vocabulary.addresses import project_path
from nbledger_http.description import notebook_examples
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
from nbledger_http.description.schemas import CreateNotebook, Parsing, Session
from nbledger_http.endpoints.notebooks import TAG, ChangedNotebook, state_headers
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply, with_members
from nbledger_http.representations import resources
from nbledger_http.representations.idempotency import New, beyond_defaults, once
from nbledger_http.representations.run_plans import session_of
from nbledger_http.requests import bodies as requests
from nbledger_http.requests.bindings import binding_warnings, library_warnings
from nbledger_http.requests.bodies import Creation
from nbledger_http.requests.reading import json_object
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of
from nbledger_infrastructure.notebooks import templates
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.database import Pool

OPERATION = "createNotebook"


class NewNotebook(ChangedNotebook, rename="camel", kw_only=True):
    """The whole notebook, with what would run it and, for an upload, what the file held."""

    session: Session | UnsetType = UNSET
    parsing: Parsing | UnsetType = UNSET


class TemplateParameterDocument(msgspec.Struct, rename="camel"):
    """A parameter that `execute` may be given for a notebook made from the template."""

    name: str
    default: Any
    description: str


class TemplateDocument(msgspec.Struct, rename="camel"):
    """A template: `name` is what `template` is set to when a notebook is created."""

    name: str
    title: str
    description: str
    kernel_type: str
    parameters: list[TemplateParameterDocument]


class TemplateListDocument(msgspec.Struct, rename="camel"):
    """Every template, by name."""

    templates: list[TemplateDocument]


@post(
    "/notebook",
    right=Right.WRITE,
    operation=Operation(
        id=OPERATION,
        tag=TAG,
        summary="Create a notebook",
        parameters=(IDEMPOTENCY_KEY,),
        body=Body(schema=CreateNotebook, example=notebook_examples.CREATE_NOTEBOOK),
        answers={
            201: Answer(
                description="The notebook as created.",
                schema=NewNotebook,
                opens="notebookId",
                example=notebook_examples.NEW_NOTEBOOK,
                headers={**LOCATION, **ETAG, **POSITION, **REPLAYED},
            )
        },
        problems=(
            Code.PROJECT_NOT_FOUND,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
            *IDEMPOTENCY_PROBLEMS,
        ),
    ),
)
async def create(request: Request[Any, Any, Any]) -> Reply:
    """A new notebook."""
    services, access = services_of(request), access_of(request)
    creation = requests.creation(
        await json_object(request),
        kernel_types=services.settings.worker.kernels,
        templates=templates.names(),
        template_cells=template_cells,
        environments=services.settings.environments,
    )

    async def make(key: RequestKey | None) -> New:
        told = await told_of(
            services.pool, creation.kernel_type, await _warnings(services, access, creation)
        )
        notebook_id, _ = await create_notebook(
            services.store, access, creation, key=None if key is None else key.answering(told)
        )
        return New(notebook_id, told)

    return await once(
        request,
        OPERATION,
        partial(asked_of, creation),
        make,
        partial(created_reply, request),
        look_first=False,
    )


async def _warnings(services: Services, access: Caller, creation: Creation) -> list[str]:
    environments = services.settings.environments
    libraries = creation.environment.custom_libraries
    return [
        *creation.warnings,
        *await binding_warnings(services.pool, access, creation.integration.dataset_binding),
        *await library_warnings(services.store, access, libraries, environments),
    ]


def asked_of(creation: Creation) -> dict[str, Any]:
    """What a request to create asks for, as plain data."""
    asked: dict[str, Any] = beyond_defaults(creation)
    del asked["warnings"]
    return asked


async def told_of(
    pool: Pool, kernel_type: str, warnings: list[str], *, parsing: Parsing | UnsetType = UNSET
) -> dict[str, Any]:
    """What the answer tells of a creation, beside the notebook."""
    offer = (await worker_registry.offers(pool)).get(kernel_type)
    if offer is None:
        warnings = [*warnings, f"kernelType: no live worker offers {kernel_type!r} now"]
    session = session_of(kernel_type, offer)
    told: dict[str, Any] = {"session": session, "warnings": warnings}
    return told if parsing is UNSET else {**told, "parsing": parsing}


async def created_reply(
    request: Request[Any, Any, Any], notebook_id: UUID, told: Mapping[str, Any]
) -> Reply:
    """201 with the whole notebook and what is ``told`` beside it."""
    access = access_of(request)
    view = await resources.notebook(services_of(request).pool, access, notebook_id)
    location = project_path(access.tenant_id, access.project_id, "notebook", notebook_id)
    return json_reply(
        with_members(view.document, **told),
        status=201,
        headers={"Location": location, **state_headers(view)},
    )


@get(
    "/template",
    right=Right.READ,
    operation=Operation(
        id="listTemplates",
        tag=TAG,
        summary="List the templates",
        description="What a notebook can be made from, with the parameters that its runs take.",
        answers={
            200: Answer(
                description="The templates.",
                schema=TemplateListDocument,
                example=notebook_examples.TEMPLATES,
            )
        },
        problems=(Code.PROJECT_NOT_FOUND,),
    ),
)
async def list_templates(request: Request[Any, Any, Any]) -> Reply:  # noqa: ARG001 - for the guard
    """The templates."""
    found = [
        msgspec.convert(templates.describe(name), TemplateDocument, from_attributes=True)
        for name in templates.names()
    ]
    headers = {"Cache-Control": "private, no-cache"}
    return json_reply(msgspec.json.encode(TemplateListDocument(found)), headers=headers)


HANDLERS: list[Any] = [list_templates, create]
