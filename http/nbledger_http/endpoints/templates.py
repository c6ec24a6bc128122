"""The templates that notebooks can be made from."""

from typing import Any

import msgspec
from litestar import Request, get

from nbledger_application.caller import Right
from nbledger_http.description import notebook_examples
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_infrastructure.notebooks import templates


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


@get(
    "/template",
    right=Right.READ,
    operation=Operation(
        id="listTemplates",
        tag="Notebooks",
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


HANDLERS: list[Any] = [list_templates]
