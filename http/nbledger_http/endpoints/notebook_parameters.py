"""The parameters of a notebook, before it runs."""

from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, get
from msgspec import UNSET, UnsetType

from nbledger_application.caller import Right
from nbledger_application.commands.execute_notebook import kernel_language
from nbledger_application.commands.loading import load_notebook
from nbledger_domain.notebook import Notebook
from nbledger_domain.parameters.declarations import declared_in, parameters_cell
from nbledger_domain.parameters.declared import Declared, JsonType
from nbledger_domain.vocabulary.languages import Language
from nbledger_http.description import notebook_examples
from nbledger_http.description.documentation import (
    ETAG,
    NOT_MODIFIED,
    READ_BY_TAG,
    Answer,
    Operation,
)
from nbledger_http.endpoints.notebooks.reading import TAG
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply
from nbledger_http.representations.conditional import document_reply
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import access_of, notebook_id_of
from nbledger_infrastructure.postgres import worker_registry


class ParameterDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A parameter that `execute` may be given.

    `types` are the kinds of JSON values that it takes, empty where that is not known;
    `declaredType` is the type that the code names. `default` is there where the notebook has a
    literal that JSON has, too, and `defaultSource` as the code has it; a parameter that is
    `required` has neither. `help` is the comment beside it.
    """

    name: str
    types: list[JsonType]
    declared_type: str | None
    required: bool
    default: Any | UnsetType = UNSET
    default_source: str | None
    help: str | None


class ParametersDocument(msgspec.Struct, rename="camel", kw_only=True):
    """The parameters, as the cell `cellId` declares them; without such a cell there are none."""

    notebook_id: UUID
    notebook_version: str
    kernel_type: str
    language: Language | None
    cell_id: str | None
    parameters: list[ParameterDocument]


@get(
    "/notebook/{notebook_id:str}/parameters",
    right=Right.READ,
    operation=Operation(
        id="getNotebookParameters",
        tag=TAG,
        summary="Get the parameters of a notebook",
        description="Names, types, defaults and help, as its first cell tagged `parameters` "
        "declares them, without running anything. Notebooks in Python, R and Scala have such; of "
        "others, and of code that cannot be read, less is known.",
        headers=READ_BY_TAG,
        answers={
            200: Answer(
                description="The parameters.",
                schema=ParametersDocument,
                example=notebook_examples.PARAMETERS,
                headers=ETAG,
            ),
            304: NOT_MODIFIED,
        },
        problems=(Code.NOTEBOOK_NOT_FOUND, Code.PRECONDITION_FAILED),
    ),
)
async def get_parameters(request: Request[Any, Any, Any]) -> Reply:
    """The parameters of the notebook as it is now."""
    services = services_of(request)
    loaded = await load_notebook(services.store, access_of(request), notebook_id_of(request))
    notebook = loaded.aggregate
    offers = await worker_registry.offers(services.pool)
    language = kernel_language(notebook.kernel_type, offers).language
    return document_reply(
        request,
        msgspec.json.encode(_document(notebook, language)),
        etag=f'"v{notebook.version}.{language}"',
        modified_at=notebook.modified_on,
        by_time=False,
    )


def _document(notebook: Notebook, language: Language | None) -> ParametersDocument:
    cell = parameters_cell(notebook.cells)
    found = [] if cell is None or language is None else declared_in(cell.source, language)
    return ParametersDocument(
        notebook_id=notebook.id,
        notebook_version=notebook.notebook_version,
        kernel_type=notebook.kernel_type,
        language=language,
        cell_id=None if cell is None else cell.cell_id,
        parameters=[_parameter(each) for each in found],
    )


def _parameter(declared: Declared) -> ParameterDocument:
    return ParameterDocument(
        name=declared.name,
        types=list(declared.types),
        declared_type=declared.declared_type,
        required=declared.required,
        default=declared.default,
        default_source=declared.default_source,
        help=declared.help,
    )


HANDLERS: list[Any] = [get_parameters]
