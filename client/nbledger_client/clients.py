"""The two clients: one that blocks, one that is awaited."""

from __future__ import annotations

import functools
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nbledger_client.configuration import Connection, Given, resolve
from nbledger_client.core.conversation import Conversation
from nbledger_client.core.repeating import Retries

if TYPE_CHECKING:
    import httpx

    from nbledger_client.core.awaiting import Awaiting
    from nbledger_client.core.blocking import Blocking
    from nbledger_client.verbs.actions import Actions, AsyncActions
    from nbledger_client.verbs.datasets import AsyncDatasets, Datasets
    from nbledger_client.verbs.events import AsyncEvents, Events
    from nbledger_client.verbs.executions import AsyncExecutions, Executions
    from nbledger_client.verbs.files import AsyncFiles, Files
    from nbledger_client.verbs.libraries import AsyncLibraries, Libraries
    from nbledger_client.verbs.notebooks import AsyncNotebooks, Notebooks
    from nbledger_client.verbs.proofs import AsyncProofs, Proofs
    from nbledger_client.verbs.results import AsyncResults, Results
    from nbledger_client.verbs.schedules import (
        AsyncAutomations,
        AsyncSchedules,
        Automations,
        Schedules,
    )
    from nbledger_client.verbs.service import AsyncService, Service
    from nbledger_client.verbs.webhooks import AsyncWebhooks, Webhooks

TIMEOUT_SECONDS = 60.0


class _Client:
    """What both have: where the server is, and who asks."""

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        tenant_id: str | None = None,
        project_id: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        retries: Retries | None = None,
    ) -> None:
        given = Given(url=url, token=token, tenant_id=tenant_id, project_id=project_id)
        self.connection: Connection = resolve(given)
        self._talk = Conversation(self.connection, retries=retries or Retries(), patience=timeout)

    def __repr__(self) -> str:
        """Without the token."""
        return f"{type(self).__name__}({self.connection.url!r})"


class Client(_Client):
    """A client whose verbs return when it is done. Threads may share it.

    What is not given is taken from the environment, or of a server on this machine: see
    :mod:`nbledger_client.configuration`. ``timeout`` is how many seconds an answer may take to
    begin, ``retries`` how often what may be sent again is, and ``http`` a client of httpx to send
    with, which is not closed here.

    >>> with Client() as client:
    ...     made = client.notebooks.create(notebook_name="First")
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        tenant_id: str | None = None,
        project_id: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        retries: Retries | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        super().__init__(
            url,
            token=token,
            tenant_id=tenant_id,
            project_id=project_id,
            timeout=timeout,
            retries=retries,
        )
        self._http = http

    @functools.cached_property
    def _io(self) -> Blocking:
        from nbledger_client.core.blocking import Blocking

        return Blocking(self.connection.url, self._http)

    def close(self) -> None:
        """Close the connections."""
        if "_io" in self.__dict__:
            self._io.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @functools.cached_property
    def notebooks(self) -> Notebooks:
        """Notebooks of the project."""
        from nbledger_client.verbs.notebooks import Notebooks

        return Notebooks(self._talk, self._io)

    @functools.cached_property
    def files(self) -> Files:
        """Files beside notebooks."""
        from nbledger_client.verbs.files import Files

        return Files(self._talk, self._io)

    @functools.cached_property
    def executions(self) -> Executions:
        """Runs of notebooks."""
        from nbledger_client.verbs.executions import Executions

        return Executions(self._talk, self._io)

    @functools.cached_property
    def results(self) -> Results:
        """What runs hand back."""
        from nbledger_client.verbs.results import Results

        return Results(self._talk, self._io)

    @functools.cached_property
    def actions(self) -> Actions:
        """Something done to many runs at once."""
        from nbledger_client.verbs.actions import Actions

        return Actions(self._talk, self._io)

    @functools.cached_property
    def datasets(self) -> Datasets:
        """Tables that notebooks work on."""
        from nbledger_client.verbs.datasets import Datasets

        return Datasets(self._talk, self._io)

    @functools.cached_property
    def libraries(self) -> Libraries:
        """Wheels of the project's own."""
        from nbledger_client.verbs.libraries import Libraries

        return Libraries(self._talk, self._io)

    @functools.cached_property
    def schedules(self) -> Schedules:
        """Runs by the clock."""
        from nbledger_client.verbs.schedules import Schedules

        return Schedules(self._talk, self._io)

    @functools.cached_property
    def automations(self) -> Automations:
        """Runs when something changes."""
        from nbledger_client.verbs.schedules import Automations

        return Automations(self._talk, self._io)

    @functools.cached_property
    def webhooks(self) -> Webhooks:
        """Addresses that events are sent to."""
        from nbledger_client.verbs.webhooks import Webhooks

        return Webhooks(self._talk, self._io)

    @functools.cached_property
    def events(self) -> Events:
        """All events of the project, or the tenant."""
        from nbledger_client.verbs.events import Events

        return Events(self._talk, self._io)

    @functools.cached_property
    def proofs(self) -> Proofs:
        """The log that proves the tenant's history."""
        from nbledger_client.verbs.proofs import Proofs

        return Proofs(self._talk, self._io)

    @functools.cached_property
    def service(self) -> Service:
        """The service itself."""
        from nbledger_client.verbs.service import Service

        return Service(self._talk, self._io)


class AsyncClient(_Client):
    """A client whose verbs are awaited, in a loop of asyncio or trio; its tasks may share it.

    Arguments are those of :class:`Client`. What a loop iterates over is closed at once where the
    loop is left only if it is in `contextlib.aclosing`.

    >>> async def make():
    ...     async with AsyncClient() as client:
    ...         return await client.notebooks.create(notebook_name="First")
    >>> import asyncio
    >>> asyncio.run(make()).notebook_name
    'First'
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        tenant_id: str | None = None,
        project_id: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        retries: Retries | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        super().__init__(
            url,
            token=token,
            tenant_id=tenant_id,
            project_id=project_id,
            timeout=timeout,
            retries=retries,
        )
        self._http = http

    @functools.cached_property
    def _io(self) -> Awaiting:
        from nbledger_client.core.awaiting import Awaiting

        return Awaiting(self.connection.url, self._http)

    async def close(self) -> None:
        """Close the connections."""
        if "_io" in self.__dict__:
            await self._io.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @functools.cached_property
    def notebooks(self) -> AsyncNotebooks:
        """Notebooks of the project."""
        from nbledger_client.verbs.notebooks import AsyncNotebooks

        return AsyncNotebooks(self._talk, self._io)

    @functools.cached_property
    def files(self) -> AsyncFiles:
        """Files beside notebooks."""
        from nbledger_client.verbs.files import AsyncFiles

        return AsyncFiles(self._talk, self._io)

    @functools.cached_property
    def executions(self) -> AsyncExecutions:
        """Runs of notebooks."""
        from nbledger_client.verbs.executions import AsyncExecutions

        return AsyncExecutions(self._talk, self._io)

    @functools.cached_property
    def results(self) -> AsyncResults:
        """What runs hand back."""
        from nbledger_client.verbs.results import AsyncResults

        return AsyncResults(self._talk, self._io)

    @functools.cached_property
    def actions(self) -> AsyncActions:
        """Something done to many runs at once."""
        from nbledger_client.verbs.actions import AsyncActions

        return AsyncActions(self._talk, self._io)

    @functools.cached_property
    def datasets(self) -> AsyncDatasets:
        """Tables that notebooks work on."""
        from nbledger_client.verbs.datasets import AsyncDatasets

        return AsyncDatasets(self._talk, self._io)

    @functools.cached_property
    def libraries(self) -> AsyncLibraries:
        """Wheels of the project's own."""
        from nbledger_client.verbs.libraries import AsyncLibraries

        return AsyncLibraries(self._talk, self._io)

    @functools.cached_property
    def schedules(self) -> AsyncSchedules:
        """Runs by the clock."""
        from nbledger_client.verbs.schedules import AsyncSchedules

        return AsyncSchedules(self._talk, self._io)

    @functools.cached_property
    def automations(self) -> AsyncAutomations:
        """Runs when something changes."""
        from nbledger_client.verbs.schedules import AsyncAutomations

        return AsyncAutomations(self._talk, self._io)

    @functools.cached_property
    def webhooks(self) -> AsyncWebhooks:
        """Addresses that events are sent to."""
        from nbledger_client.verbs.webhooks import AsyncWebhooks

        return AsyncWebhooks(self._talk, self._io)

    @functools.cached_property
    def events(self) -> AsyncEvents:
        """All events of the project, or the tenant."""
        from nbledger_client.verbs.events import AsyncEvents

        return AsyncEvents(self._talk, self._io)

    @functools.cached_property
    def proofs(self) -> AsyncProofs:
        """The log that proves the tenant's history."""
        from nbledger_client.verbs.proofs import AsyncProofs

        return AsyncProofs(self._talk, self._io)

    @functools.cached_property
    def service(self) -> AsyncService:
        """The service itself."""
        from nbledger_client.verbs.service import AsyncService

        return AsyncService(self._talk, self._io)
