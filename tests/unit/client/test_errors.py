"""Every code of the API is a class; what is no code is an error all the same."""

from __future__ import annotations

import pickle

import msgspec
import pytest

from nbledger_client import errors
from nbledger_client.errors import ApiError, error_of
from nbledger_http.replies.problems import KINDS, Code


@pytest.mark.guarantee("G62")
def test_every_code_has_a_class_below_that_of_its_status() -> None:
    assert ApiError.by_code.keys() == set(Code)
    for code, kind in KINDS.items():
        of_code, of_status = ApiError.by_code[code], ApiError.by_status.get(kind.status)
        if of_status is not None and kind.status != 503:
            assert issubclass(of_code, of_status), code
        assert issubclass(of_code, errors.ServerError) == (kind.status >= 500)


def problem(**members: object) -> bytes:
    return msgspec.json.encode(members)


def test_an_error_tells_code_place_and_request() -> None:
    faults = [{"pointer": "/cells/0", "reason": "must be an object"}]
    content = problem(
        code="validation_failed",
        detail="/cells/0: must be an object",
        requestId="r1",
        errors=faults,
    )
    error = error_of(422, {"retry-after": "3"}, content)
    assert type(error) is errors.InvalidError
    assert (error.code, error.pointer, error.request_id) == ("validation_failed", "/cells/0", "r1")
    assert error.retry_after == 3
    assert str(error) == "validation_failed: /cells/0: must be an object (request r1)"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, errors.NotFoundError),
        (418, errors.RequestRefusedError),
        (503, errors.UnavailableError),
        (599, errors.ServerError),
    ],
)
def test_an_unknown_code_is_an_error_of_its_kind(status: int, kind: type[ApiError]) -> None:
    error = error_of(status, {}, problem(code="from_the_future", detail="Later."))
    assert type(error) is kind
    assert error.code == "from_the_future"


@pytest.mark.parametrize("content", [b"", b"<html>", b"[1]", problem(errors=3, code=7)])
def test_what_is_no_problem_is_an_error_all_the_same(content: bytes) -> None:
    error = error_of(502, {"x-request-id": "r2", "retry-after": "Mon, 30 Nov"}, content)
    assert isinstance(error, errors.ServerError)
    assert (error.status, error.request_id, error.retry_after) == (502, "r2", None)
    assert error.errors == ()


def test_errors_cross_processes() -> None:
    error = error_of(429, {"retry-after": "7"}, problem(code="queue_full", requestId="r"))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(again) is errors.QueueFullError
    assert (str(again), again.retry_after, again.request_id) == (str(error), 7, "r")
