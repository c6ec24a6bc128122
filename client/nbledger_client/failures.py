"""What all errors have in common; :mod:`nbledger_client.errors` has them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with a request.

    Attributes:
        pointer: where, as a JSON pointer, `?name` of a query parameter, or the name of a header.
        reason: why.
    """

    pointer: str
    reason: str


class NbledgerError(Exception):
    """Everything that this package raises by itself."""


class ConfigurationError(NbledgerError):
    """It is not said where the server is, or who asks."""


class TransportError(NbledgerError):
    """No answer came, or none that can be read.

    Attributes:
        reached: whether the server may have got the request, and done what it asks for.
    """

    def __init__(self, detail: str, *, reached: bool) -> None:
        super().__init__(detail)
        self.reached = reached


class ConnectFailedError(TransportError):
    """No connection came about: the server has done nothing."""


class TimedOutError(TransportError, TimeoutError):
    """The answer took too long."""


class ConnectionLostError(TransportError):
    """The connection broke before the answer was there."""


class AnswerNotUnderstoodError(TransportError):
    """The answer is none of this API: a proxy's, or another server's."""


class NotEndedError(NbledgerError, TimeoutError):
    """The execution has not ended in the time given.

    Attributes:
        execution: it, as it was read last.
    """

    def __init__(self, execution: Any, seconds: float) -> None:
        super().__init__(
            f"Execution {execution.execution_id} has not ended after {seconds:g} seconds."
        )
        self.execution = execution


class DigestMismatchError(NbledgerError):
    """What was downloaded is not what the server keeps: its SHA-256 is another one."""


class ApiError(NbledgerError):
    """An answer that is an error, as RFC 9457 has it.

    Attributes:
        code: of the closed list of the API; "" where the answer has none.
        status: of HTTP.
        title: of the code, the same each time.
        detail: what is wrong this time.
        errors: each fault of a request that is not valid.
        request_id: names the request in the server's logs.
        retry_after: seconds to wait before the next attempt; None where none is told.
        problem: the whole body, with the members that some codes have (`offered`, `count`, …).
    """

    by_code: ClassVar[dict[str, type[ApiError]]] = {}
    by_status: ClassVar[dict[int, type[ApiError]]] = {}

    def __init_subclass__(cls, *, code: str = "", status: int = 0) -> None:
        """Enter the class where answers are looked up."""
        if code:
            ApiError.by_code[code] = cls
        if status:
            ApiError.by_status[status] = cls

    def __init__(self, status: int, problem: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self.status = status
        self.problem = dict(problem)
        self.code: str = str(problem.get("code", ""))
        self.title: str = str(problem.get("title", f"HTTP {status}"))
        self.detail: str = str(problem.get("detail", "")) or self.title
        self.request_id: str | None = problem.get("requestId") or headers.get("x-request-id")
        self.retry_after = _seconds(headers.get("retry-after"))
        self.errors = _faults(problem.get("errors"))
        super().__init__(self._told())

    @property
    def pointer(self) -> str | None:
        """Where the first fault is; None where none is named."""
        return self.errors[0].pointer if self.errors else None

    def _told(self) -> str:
        code = self.code or f"HTTP {self.status}"
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{code}: {self.detail}{request}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross processes whole."""
        headers = {"x-request-id": self.request_id or ""}
        if self.retry_after is not None:
            headers["retry-after"] = f"{self.retry_after:g}"
        return type(self), (self.status, self.problem, headers)


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else max(float(text), 0)
    except ValueError:  # a date, which this API never sends
        return None


def _faults(told: object) -> tuple[Fault, ...]:
    try:
        return tuple(msgspec.convert(told or [], list[Fault]))
    except msgspec.ValidationError:
        return ()
