"""Who is calling: bearer tokens, looked up in the database and remembered for moments."""

import time
from collections.abc import Callable

from nbledger_http.replies.problems import Code, Problem
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.postgres import tokens
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.tokens import Token

REMEMBER_SECONDS = 5.0
"""For so long a token that has just been revoked may still be accepted."""

REMEMBER_TOKENS = 10_000
MAX_TOKEN_LENGTH = 512


class Authenticator:
    """Finds the record of a token and counts its requests; one in each process.

    ``rate_limit`` is the number of requests a token may make per second, 0 is no limit.
    """

    def __init__(
        self, pool: Pool, *, rate_limit: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = pool
        self._rate_limit = rate_limit
        self._clock = clock
        self._known: dict[str, tuple[float, Token]] = {}
        self._allowances: dict[str, tuple[float, float]] = {}

    async def authenticate(self, authorization: str | None) -> Token:
        """The record of the token in an ``Authorization`` header.

        Raises :class:`Problem`: 401 without a valid token, 429 over the rate limit.
        """
        scheme, _, credentials = (authorization or "").partition(" ")
        secret = credentials.strip()
        if scheme.lower() != "bearer" or not secret:
            raise Problem(
                Code.UNAUTHENTICATED,
                "Send the header 'Authorization: Bearer …' with a token.",
            )
        token = await self._find(secret)
        if token is None or (token.expires_at is not None and token.expires_at <= now()):
            raise Problem(
                Code.UNAUTHENTICATED,
                "The access token is unknown, expired or revoked.",
                headers={"WWW-Authenticate": 'Bearer realm="nbledger", error="invalid_token"'},
            )
        if self._rate_limit:
            self._count(secret)
        return token

    async def accepts(self, authorization: str | None) -> bool:
        """Whether the token of a request that goes on is still valid; counts no request."""
        token = await self._find((authorization or "").partition(" ")[2].strip())
        return token is not None and (token.expires_at is None or token.expires_at > now())

    async def _find(self, secret: str) -> Token | None:
        moment = self._clock()
        known = self._known.get(secret)
        if known is not None and known[0] > moment:
            return known[1]
        if len(secret) > MAX_TOKEN_LENGTH or not secret.isascii():
            return None
        token = await tokens.find(self._pool, secret)
        if token is None:
            self._known.pop(secret, None)
            return None
        if len(self._known) >= REMEMBER_TOKENS:
            self._known.clear()
        self._known[secret] = (moment + REMEMBER_SECONDS, token)
        return token

    def _count(self, secret: str) -> None:
        """Take one request from the token's allowance, which fills up again within a second."""
        moment = self._clock()
        left, since = self._allowances.get(secret, (float(self._rate_limit), moment))
        left = min(float(self._rate_limit), left + (moment - since) * self._rate_limit)
        if left < 1.0:
            raise Problem(
                Code.RATE_LIMITED,
                f"This token may make {self._rate_limit} requests per second.",
                headers={"Retry-After": "1"},
            )
        if len(self._allowances) >= REMEMBER_TOKENS:
            self._allowances.clear()
        self._allowances[secret] = (left - 1.0, moment)
