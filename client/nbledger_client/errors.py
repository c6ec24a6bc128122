"""What can go wrong, as classes.

Every code of the API has a class of its own, below the class of its kind; a code that this version
does not know is an :class:`ApiError` of its kind all the same. Where no answer came, it is a
:class:`TransportError`.

>>> issubclass(NotebookNotFoundError, NotFoundError)
True
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nbledger_client.failures import (
    AnswerNotUnderstoodError,
    ApiError,
    ConfigurationError,
    ConnectFailedError,
    ConnectionLostError,
    DigestMismatchError,
    Fault,
    NbledgerError,
    NotEndedError,
    TimedOutError,
    TransportError,
)

# What is defined elsewhere is to be had here, too.
__all__ = [
    "AnswerNotUnderstoodError",
    "ApiError",
    "ConfigurationError",
    "ConnectFailedError",
    "ConnectionLostError",
    "DigestMismatchError",
    "Fault",
    "NbledgerError",
    "NotEndedError",
    "TimedOutError",
    "TransportError",
]


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> ApiError:
    """The error that an answer is."""
    try:
        problem = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError:
        problem = {}
    kind = ApiError.by_code.get(str(problem.get("code", "")))
    if kind is None:
        kind = ApiError.by_status.get(status) or (
            ServerError if status >= 500 else RequestRefusedError
        )
    return kind(status, problem, headers)


class RequestRefusedError(ApiError):
    """The request was refused for what it is (4xx)."""


class ServerError(ApiError):
    """The server could not do it (5xx)."""


class BadRequestError(RequestRefusedError, status=400):
    """The request cannot be read."""


class UnauthenticatedError(RequestRefusedError, status=401, code="unauthenticated"):
    """There is no token, or one that is unknown, expired or revoked."""


class ForbiddenError(RequestRefusedError, status=403, code="forbidden"):
    """The token does not allow this."""


class NotFoundError(RequestRefusedError, status=404, code="not_found"):
    """There is no such thing, or none that this token sees."""


class MethodNotAllowedError(RequestRefusedError, status=405, code="method_not_allowed"):
    """The address does not take the method."""


class ConflictError(RequestRefusedError, status=409, code="conflict"):
    """It cannot be done as things are."""


class GoneError(RequestRefusedError, status=410):
    """It was there, and is not any more."""


class PreconditionFailedError(RequestRefusedError, status=412, code="precondition_failed"):
    """It is not what `if_match` names, or not as it was then."""


class TooLargeError(RequestRefusedError, status=413, code="body_too_large"):
    """More was sent than is taken."""


class UnsupportedMediaTypeError(RequestRefusedError, status=415, code="unsupported_media_type"):
    """The body is of a kind that is not taken."""


class RangeNotSatisfiableError(RequestRefusedError, status=416, code="range_not_satisfiable"):
    """The range begins behind the end of the file."""


class InvalidError(RequestRefusedError, status=422, code="validation_failed"):
    """The request is not valid; `errors` names every fault with its place."""


class TooManyRequestsError(RequestRefusedError, status=429, code="rate_limited"):
    """Too much at once; `retry_after` says when to come back."""


class InternalError(ServerError, status=500, code="internal_error"):
    """The service failed; its log has the cause under `request_id`."""


class UnavailableError(ServerError, status=503, code="unavailable"):
    """The service cannot work now, and has done nothing."""


# --- not found -------------------------------------------------------------------------------


class ProjectNotFoundError(NotFoundError, code="project_not_found"):
    """There is no such project for this token."""


class NotebookNotFoundError(NotFoundError, code="notebook_not_found"):
    """There is no such notebook for this token."""


class ExecutionNotFoundError(NotFoundError, code="execution_not_found"):
    """There is no such execution of this notebook."""


class DatasetNotFoundError(NotFoundError, code="dataset_not_found"):
    """There is no such dataset in this project."""


class LibraryNotFoundError(NotFoundError, code="library_not_found"):
    """There is no such library in this project."""


class WebhookNotFoundError(NotFoundError, code="webhook_not_found"):
    """There is no such webhook in this project."""


class ScheduleNotFoundError(NotFoundError, code="schedule_not_found"):
    """The notebook has no schedule."""


class ActionNotFoundError(NotFoundError, code="action_not_found"):
    """There is no such execution action for this token."""


class CellNotFoundError(NotFoundError, code="cell_not_found"):
    """The execution has no such cell."""


class FileNotFoundInNotebookError(NotFoundError, code="file_not_found"):
    """The notebook has no input file at this path."""


class ArtifactNotFoundError(NotFoundError, code="artifact_not_found"):
    """The file is not kept any more."""


class LogNotFoundError(NotFoundError, code="log_not_found"):
    """The log is another tenant's, or nothing of it is signed yet."""


class TileNotFoundError(NotFoundError, code="tile_not_found"):
    """No checkpoint covers so much of the tile."""


class EventNotFoundError(NotFoundError, code="event_not_found"):
    """The tenant has no such event."""


class EventNotSignedError(NotFoundError, code="event_not_signed"):
    """The event is recorded, and no checkpoint covers it yet."""


class VersionNotFoundError(NotFoundError, code="version_not_found"):
    """The notebook has never had this version."""


class CreatedLaterError(NotFoundError, code="created_later"):
    """It did not exist at that moment yet."""


class DeletedBeforeError(NotFoundError, code="deleted_before"):
    """It had been deleted by that moment."""


# --- as things are ---------------------------------------------------------------------------


class NotebookExecutingError(ConflictError, code="notebook_executing"):
    """The notebook runs; delete it later, or with `force`."""


class ExecutionEndedError(ConflictError, code="execution_ended"):
    """There is nothing left to cancel."""


class ExecutionRunningError(ConflictError, code="execution_running"):
    """The execution has not ended, so that it cannot be run again."""


class NothingToRepairError(ConflictError, code="nothing_to_repair"):
    """None of its cells failed."""


class NothingToExecuteError(ConflictError, code="nothing_to_execute"):
    """The notebook has no cells."""


class InputsUnavailableError(ConflictError, code="inputs_unavailable"):
    """The datasets cannot be given again in the same versions."""


class ActionEndedError(ConflictError, code="action_ended"):
    """The execution action has ended, so that it cannot be cancelled."""


class CountMismatchError(ConflictError, code="count_mismatch"):
    """The filter finds another number of executions; `problem["count"]` is how many."""


class LibraryExistsError(ConflictError, code="library_exists"):
    """The project has another wheel of this name and version."""


class TooManyWebhooksError(ConflictError, code="too_many_webhooks"):
    """The project has as many webhooks as it may."""


class FileExistsInNotebookError(ConflictError, code="file_exists"):
    """The notebook has another input file at this path."""


class StaleVersionError(ConflictError, code="stale_version"):
    """It has been changed since it was read; `problem["dateModified"]` is when."""


class ErasedError(GoneError, code="erased"):
    """What it held has been erased; `problem` says when and by whom."""


class IdempotencyResultGoneError(GoneError, code="idempotency_result_gone"):
    """What the first request with the key made is deleted."""


# --- what was sent ---------------------------------------------------------------------------


class PartialPutError(BadRequestError, code="partial_put"):
    """A PUT takes the whole content."""


class LinkInvalidError(ForbiddenError, code="link_invalid"):
    """The download link has expired or was altered."""


class FilesTooLargeError(TooLargeError, code="files_too_large"):
    """The notebook's input files would be too many or too large."""


class InvalidCsvError(InvalidError, code="invalid_csv"):
    """The file is not a table; `problem` has `row`, `column` and `reason`."""


class InvalidWheelError(InvalidError, code="invalid_wheel"):
    """The file is not an acceptable wheel."""


class InvalidArchiveError(InvalidError, code="invalid_archive"):
    """The ZIP archive cannot be taken."""


class InvalidFilesError(InvalidError, code="invalid_files"):
    """Input files cannot be kept under these names."""


class IdempotencyKeyReusedError(InvalidError, code="idempotency_key_reused"):
    """The key came with another request before."""


# --- later, perhaps --------------------------------------------------------------------------


class QueueFullError(TooManyRequestsError, code="queue_full"):
    """As many runs wait as may; `problem["limit"]` names the limit."""


class KernelUnavailableError(ServerError, code="kernel_unavailable"):
    """No live worker offers the kernel type; `problem["offered"]` has those on offer."""


class OutcomeUnknownError(ServerError, code="outcome_unknown"):
    """The request may or may not have taken effect: read what is there before sending it again."""
