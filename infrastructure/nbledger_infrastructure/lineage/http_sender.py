"""Documents by HTTP, as the clients of OpenLineage send them."""

import asyncio
import gzip
import ssl
from collections.abc import Sequence
from typing import Final

import httpx
import structlog

from nbledger_domain.lineage.facts import Document
from nbledger_infrastructure.lineage.sending import ReceiverAwayError, encoded
from nbledger_infrastructure.settings_sections.lineage import OpenLineage

log = structlog.get_logger(__name__)

MOST_ANSWER_BYTES: Final = 4096

_REFUSED: Final = frozenset({400, 413, 422})
"""Answers that are about the document: it would be refused again. All others are about now."""


class HttpSender:
    """Posts each document by itself. Redirects are not followed."""

    def __init__(self, settings: OpenLineage) -> None:
        self._url = f"{settings.url.rstrip('/')}/{settings.endpoint.lstrip('/')}"
        self._timeout = settings.timeout_seconds
        self._gzip = settings.compression == "gzip"
        self._concurrency = settings.concurrency
        headers = {"Content-Type": "application/json"}
        if settings.api_key:
            headers["Authorization"] = f"Bearer {settings.api_key}"
        if self._gzip:
            headers["Content-Encoding"] = "gzip"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=settings.timeout_seconds,
            limits=httpx.Limits(max_connections=settings.concurrency),
            proxy=settings.proxy_url or None,
            verify=ssl.create_default_context(cafile=settings.ca_file or None),
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def send(self, told: Sequence[Document]) -> None:
        """Post all of ``told``, those with one key one after the other."""
        lanes: dict[str, list[Document]] = {}
        for each in told:
            lanes.setdefault(each.key, []).append(each)
        free = asyncio.Semaphore(self._concurrency)

        async def post(lane: Sequence[Document]) -> None:
            for each in lane:
                async with free:
                    await self._post(each)

        tasks = [asyncio.create_task(post(lane)) for lane in lanes.values()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _post(self, told: Document) -> None:
        body = encoded(told)
        content = gzip.compress(body) if self._gzip else body
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream("POST", self._url, content=content) as answer,
            ):
                start = await _beginning(answer)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ssl.SSLError) as error:
            raise ReceiverAwayError(repr(error)) from error
        if answer.is_success:
            return
        said = start.decode("utf-8", "replace")
        if answer.status_code not in _REFUSED:
            raise ReceiverAwayError(f"it answers {answer.status_code}: {said[:200]}")
        log.warning(
            "lineage refused",
            status=answer.status_code,
            answer=said,
            key=told.key,
            at=told.at.isoformat(),
        )


async def _beginning(answer: httpx.Response) -> bytes:
    start = b""
    async for chunk in answer.aiter_bytes():
        start = (start + chunk)[:MOST_ANSWER_BYTES]
        if len(start) == MOST_ANSWER_BYTES:
            break
    return start
