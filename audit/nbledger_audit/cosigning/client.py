"""Asking one witness, as C2SP tlog-witness defines it. Nothing that it answers is believed."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import httpx

from nbledger_audit.http_bodies import LongBodyError, body_of
from nbledger_audit.keys import verify
from nbledger_domain.transparency.checkpoints import timestamp_of
from nbledger_domain.transparency.notes import NoteError, Signature, read_signatures
from nbledger_domain.transparency.policies import KnownWitness
from nbledger_domain.transparency.witnessing import AddCheckpoint, SizeConflictError, read_size

TIMEOUT_SECONDS: Final = 10.0
"""Of a whole request, however slowly it is answered."""

MOST_ANSWER_BYTES: Final = 65_536

CLOCK_SECONDS: Final = 300
"""By how much a cosignature's time may differ from ours."""

_REFUSALS: Final = {
    400: "it does not understand the request",
    403: "it does not know the key that signed, or finds the signature false",
    404: "it does not know the log",
    422: "it finds that the log has not grown out of what it has cosigned",
    500: "it has a fault of its own",
}


class NoCosignatureError(Exception):
    """A witness that answers, and does not cosign; the message says why."""


class WitnessAwayError(Exception):
    """A witness that does not answer, or asks to be left alone for now."""


class WitnessClient:
    """Asks a witness for cosignatures; the connection stays open between requests."""

    def __init__(
        self, witness: KnownWitness, http: httpx.AsyncClient, now: Callable[[], float] = time.time
    ) -> None:
        self._key = witness.key
        self._url = f"{witness.url.rstrip('/')}/add-checkpoint"
        self._http = http
        self._now = now

    async def cosign(self, request: AddCheckpoint) -> Signature:
        """The witness's cosignature of a checkpoint, which is checked.

        Raises ``SizeConflictError`` where it has cosigned another size than the request goes on
        from, :class:`NoCosignatureError` and :class:`WitnessAwayError`.
        """
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                status, body = await self._post(str(request).encode())
        except TimeoutError:
            raise WitnessAwayError(f"no answer in {TIMEOUT_SECONDS:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise WitnessAwayError(str(error) or repr(error)) from None
        if status in {429, 502, 503, 504}:
            raise WitnessAwayError(f"answers {status}")
        try:
            if status == 409:
                raise SizeConflictError(read_size(body.decode()))
            if status != 200:
                reason = _REFUSALS.get(status, "which tlog-witness does not have")
                raise NoCosignatureError(f"answers {status}: {reason}")
            return self._checked(body.decode(), request.note.text.encode())
        except (NoteError, UnicodeDecodeError) as error:
            raise NoCosignatureError(f"answers {status} with no good body: {error}") from None

    async def _post(self, content: bytes) -> tuple[int, bytes]:
        async with self._http.stream("POST", self._url, content=content) as answer:
            try:
                return answer.status_code, await body_of(answer, MOST_ANSWER_BYTES)
            except LongBodyError as error:
                raise WitnessAwayError(f"answers {error}") from None

    def _checked(self, lines: str, text: bytes) -> Signature:
        """The newest of the witness's signatures. Raises as :meth:`cosign` does."""
        own = [each for each in read_signatures(lines) if each.is_of(self._key)]
        if not own:
            raise NoCosignatureError("answers without a signature of its key")
        if not all(verify(self._key, text, each) for each in own):
            raise NoCosignatureError("answers with a false signature")
        newest = max(own, key=lambda each: timestamp_of(each) or 0)
        ahead = (timestamp_of(newest) or 0) - int(self._now())
        if abs(ahead) > CLOCK_SECONDS:
            raise NoCosignatureError(
                f"dates its signature {abs(ahead)} s {'ahead' if ahead > 0 else 'back'}"
            )
        return newest


def http_client() -> httpx.AsyncClient:
    """The client for all witnesses. It follows no redirect."""
    return httpx.AsyncClient(
        timeout=TIMEOUT_SECONDS,
        headers={"Content-Type": "text/plain; charset=utf-8", "Accept-Encoding": "identity"},
    )
