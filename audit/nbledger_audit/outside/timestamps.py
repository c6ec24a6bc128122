"""Timestamps of checkpoints by an authority (RFC 3161), which knows nothing of what it stamps.

They bound when a log was as its checkpoint says. So only a checkpoint is stamped that was signed a
moment ago: of an older one, what has been recorded since would look as if it was dated back.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import rfc3161_client as rfc3161
import structlog
from cryptography import x509

from nbledger_audit import logs, stamps
from nbledger_audit.http_bodies import LongBodyError, body_of
from nbledger_audit.outside import deliveries
from nbledger_audit.outside.couriers import Deliver, UndeliverableError
from nbledger_audit.outside.deliveries import Delivered, DueDelivery
from nbledger_infrastructure.postgres.database import Pool, acquire

log = structlog.get_logger(__name__)

REQUEST_SECONDS: Final = 10.0
MOST_ANSWER_BYTES: Final = 256 * 1024
LOGS_AT_ONCE: Final = 8


class Timestamps:
    """Has the checkpoint of each log stamped every ``every_seconds``, whether it has grown or not.

    ``roots_file`` has the certificates that an authority's must lead to, and perhaps others on the
    way there, in PEM. A clock that differs from the authority's by more than ``skew_seconds`` is
    told in the log. Raises ``ValueError`` or ``OSError`` for a file that is none.
    """

    name = "timestamps"
    faults: tuple[type[Exception], ...] = (httpx.HTTPError, httpx.InvalidURL)

    def __init__(
        self, pool: Pool, url: str, roots_file: Path, every_seconds: float, skew_seconds: float
    ) -> None:
        self._pool = pool
        self._url = url
        self._certificates = x509.load_pem_x509_certificates(roots_file.read_bytes())
        self._every = every_seconds
        self._skew = skew_seconds

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Deliver]:
        """As of ``Outlet``."""
        headers = {"Content-Type": "application/timestamp-query", "Accept-Encoding": "identity"}
        async with httpx.AsyncClient(timeout=REQUEST_SECONDS, headers=headers) as http:
            yield partial(self._deliver, http)

    async def _deliver(self, http: httpx.AsyncClient) -> bool:
        async with acquire(self._pool) as connection:
            due = await deliveries.due(
                connection,
                self.name,
                self._url,
                every_seconds=self._every,
                limit=LOGS_AT_ONCE,
            )
            stale = [each for each in due if each.age_seconds > logs.FRESH_SECONDS]
            await deliveries.ask_anew(connection, [each.tenant_id for each in stale])
        fresh = [each for each in due if each not in stale]
        await self._stamp_all(http, fresh)
        # Those that are signed anew come back by themselves.
        return len(due) == LOGS_AT_ONCE and not stale

    async def _stamp_all(self, http: httpx.AsyncClient, due: Sequence[DueDelivery]) -> None:
        outcomes = await asyncio.gather(
            *(self._stamp(http, each) for each in due), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _stamp(self, http: httpx.AsyncClient, due: DueDelivery) -> None:
        async with acquire(self._pool) as connection:
            note = await logs.checkpoint(connection, due.tenant_id, due.size)
        if note is None:
            return
        text = text_of(note)
        request = rfc3161.TimestampRequestBuilder(
            data=text, hash_algorithm=rfc3161.HashAlgorithm.SHA256
        ).build()
        answer = await self._ask(http, request.as_bytes())
        stamped_at = await asyncio.to_thread(self._checked, request, answer, text)
        if abs(stamped_at - datetime.now(UTC)).total_seconds() > self._skew:
            log.error("the clock differs from the authority's", told=stamped_at.isoformat())
        async with acquire(self._pool) as connection, connection.transaction():
            await stamps.keep(connection, due.tenant_id, due.size, stamped_at, answer)
            have = [Delivered(due.tenant_id, due.size, due.confirmed_at)]
            await deliveries.delivered(connection, self.name, self._url, have)

    async def _ask(self, http: httpx.AsyncClient, query: bytes) -> bytes:
        try:
            async with (
                asyncio.timeout(REQUEST_SECONDS),
                http.stream("POST", self._url, content=query) as answer,
            ):
                if answer.status_code != 200:
                    raise UndeliverableError(f"the authority answers {answer.status_code}")
                return await body_of(answer, MOST_ANSWER_BYTES)
        except LongBodyError:
            raise UndeliverableError("the authority's answer is too long") from None
        except TimeoutError:
            raise UndeliverableError(f"no answer in {REQUEST_SECONDS:g} seconds") from None

    def _checked(self, request: rfc3161.TimeStampRequest, answer: bytes, text: bytes) -> datetime:
        """The time that an answer tells, its signature and all that it answers to checked."""
        try:
            response = rfc3161.decode_timestamp_response(answer)
            if response.status != rfc3161.PKIStatus.GRANTED:
                told = "; ".join(response.status_string) or f"status {response.status}"
                raise UndeliverableError(f"the authority refuses: {told}")
            builder = rfc3161.VerifierBuilder.from_request(request)
            for certificate in self._certificates:
                if certificate.issuer == certificate.subject:
                    builder = builder.add_root_certificate(certificate)
                else:
                    builder = builder.add_intermediate_certificate(certificate)
            builder.build().verify_message(response, text)
        except (ValueError, rfc3161.VerificationError) as error:
            raise UndeliverableError(f"the authority's answer is not good: {error}") from error
        return response.tst_info.gen_time.astimezone(UTC)


def text_of(note: str) -> bytes:
    """What is stamped of a checkpoint: its text without the signatures, which may become more."""
    return note[: note.rindex("\n\n") + 1].encode()
