"""The service itself: what it is, what it can run, and what it has to tell."""

from __future__ import annotations

from typing import Any

from nbledger_client.core.requests import Call
from nbledger_client.core.steps import Items
from nbledger_client.core.verbs import AwaitingGroup, BlockingGroup, Group, listing, verb
from nbledger_client.models.notebooks import TemplateListDocument
from nbledger_client.models.service import (
    EntryPoint,
    EventSchemas,
    Health,
    KernelListDocument,
    NoticeDocument,
    NoticeList,
)


class ServiceVerbs(Group):
    """The service itself."""

    @verb("getEntryPoint")
    def about(self) -> Call[EntryPoint]:
        """Read what the server is, and its version.

        >>> client.service.about().name
        'nbledger'
        """
        return Call("GET", "/", EntryPoint)

    @verb("live")
    def live(self) -> Call[Health]:
        """Ask whether the server answers.

        >>> client.service.live().status
        'ok'
        """
        return Call("GET", "/health/live", Health)

    @verb("ready")
    def ready(self) -> Call[Health]:
        """Ask whether the server can work.

        >>> client.service.ready().missing
        []
        """
        return Call("GET", "/health/ready", Health)

    @verb("listKernels")
    def kernels(self) -> Call[KernelListDocument]:
        """Read which kernel types workers offer.

        >>> "python3" in [each.kernel_type for each in client.service.kernels().kernels]
        True
        """
        return Call("GET", "kernels", KernelListDocument)

    @verb("listTemplates")
    def templates(self) -> Call[TemplateListDocument]:
        """Read what a notebook can be made from.

        >>> "enrichment" in [each.name for each in client.service.templates().templates]
        True
        """
        return Call("GET", "template", TemplateListDocument)

    @listing("listNotices")
    def notices(self, *, kind: str | None = None, page_size: int = 100) -> Items[NoticeDocument]:
        """List what the service tells by itself, such as runs that take too long.

        >>> list(client.service.notices(kind="runSlow"))
        []
        """
        query = {"kind": kind, "pageSize": page_size}
        return self._pages("notices", NoticeList, lambda found: found.notices, query)

    @verb("getSchema")
    def openapi(self) -> Call[dict[str, Any]]:
        """Read the description of the API.

        >>> client.service.openapi()["openapi"]
        '3.1.0'
        """
        return Call("GET", "/schema/openapi.json", dict[str, Any])

    @verb("getAsyncApi")
    def asyncapi(self) -> Call[dict[str, Any]]:
        """Read the description of the topics.

        >>> client.service.asyncapi()["asyncapi"]
        '3.1.0'
        """
        return Call("GET", "/schema/asyncapi.json", dict[str, Any])

    @verb("getEventSchemas")
    def event_schemas(self) -> Call[EventSchemas]:
        """Read which types of events there are.

        >>> len(client.service.event_schemas().events) > 50
        True
        """
        return Call("GET", "/schema/events", EventSchemas)

    @verb("getEventSchema")
    def event_schema(self, event: str) -> Call[dict[str, Any]]:
        """Read the JSON Schema of one type of events.

        >>> client.service.event_schema("execution.started.v1")["title"]
        'execution.started.v1'
        """
        return Call("GET", f"/schema/events/{event}.json", dict[str, Any])


class Service(ServiceVerbs, BlockingGroup):
    """The service itself."""


class AsyncService(ServiceVerbs, AwaitingGroup):
    """The service itself, awaited."""
