"""The one place where errors become HTTP: RFC 9457 problems with a closed list of codes."""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec
import structlog
from litestar.exceptions import HTTPException
from msgspec import UNSET, UnsetType

from nbledger_domain.errors import (
    CountMismatchError,
    DomainError,
    Fault,
    InvalidCsvError,
    InvalidFilesError,
    InvalidInputError,
    InvalidWheelError,
    KernelUnavailableError,
    PreconditionFailedError,
    QueueFullError,
    RuledOutError,
    StaleVersionError,
)
from nbledger_domain.unseen import all_seen
from nbledger_infrastructure.artifacts.store import (
    ArtifactMissingError,
    ArtifactStoreUnavailableError,
)
from nbledger_infrastructure.postgres.database import UNAVAILABLE, DatabaseUnavailableError
from nbledger_infrastructure.postgres.event_store import (
    DuplicateEventError,
    InvalidEventError,
    RecordConflictError,
    StoreUnavailableError,
)
from nbledger_projections.read_models.humanize import timestamp

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
RETRY_AFTER_KERNEL_SECONDS = 15
"""Time for a worker to be started."""
RETRY_AFTER_QUEUE_SECONDS = 10
"""Time for some of the runs that wait to start."""


class Code(StrEnum):
    """Everything that can go wrong, by a name that does not change."""

    PARTIAL_PUT = "partial_put"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    LINK_INVALID = "link_invalid"
    NOT_FOUND = "not_found"
    PROJECT_NOT_FOUND = "project_not_found"
    NOTEBOOK_NOT_FOUND = "notebook_not_found"
    EXECUTION_NOT_FOUND = "execution_not_found"
    DATASET_NOT_FOUND = "dataset_not_found"
    LIBRARY_NOT_FOUND = "library_not_found"
    WEBHOOK_NOT_FOUND = "webhook_not_found"
    REPLAY_NOT_FOUND = "replay_not_found"
    SCHEDULE_NOT_FOUND = "schedule_not_found"
    ACTION_NOT_FOUND = "action_not_found"
    CELL_NOT_FOUND = "cell_not_found"
    FILE_NOT_FOUND = "file_not_found"
    ARTIFACT_NOT_FOUND = "artifact_not_found"
    LOG_NOT_FOUND = "log_not_found"
    TILE_NOT_FOUND = "tile_not_found"
    EVENT_NOT_FOUND = "event_not_found"
    EVENT_NOT_SIGNED = "event_not_signed"
    VERSION_NOT_FOUND = "version_not_found"
    CREATED_LATER = "created_later"
    DELETED_BEFORE = "deleted_before"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOTEBOOK_EXECUTING = "notebook_executing"
    EXECUTION_ENDED = "execution_ended"
    EXECUTION_RUNNING = "execution_running"
    NOTHING_TO_REPAIR = "nothing_to_repair"
    INPUTS_UNAVAILABLE = "inputs_unavailable"
    NOTHING_TO_EXECUTE = "nothing_to_execute"
    ACTION_ENDED = "action_ended"
    COUNT_MISMATCH = "count_mismatch"
    LIBRARY_EXISTS = "library_exists"
    REPLAY_ENDED = "replay_ended"
    TOO_MANY_REPLAYS = "too_many_replays"
    TOO_MANY_WEBHOOKS = "too_many_webhooks"
    FILE_EXISTS = "file_exists"
    STALE_VERSION = "stale_version"
    CONFLICT = "conflict"
    ERASED = "erased"
    PRECONDITION_FAILED = "precondition_failed"
    BODY_TOO_LARGE = "body_too_large"
    FILES_TOO_LARGE = "files_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    INVALID_CSV = "invalid_csv"
    INVALID_WHEEL = "invalid_wheel"
    INVALID_ARCHIVE = "invalid_archive"
    INVALID_FILES = "invalid_files"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    IDEMPOTENCY_RESULT_GONE = "idempotency_result_gone"
    VALIDATION_FAILED = "validation_failed"
    RATE_LIMITED = "rate_limited"
    QUEUE_FULL = "queue_full"
    INTERNAL_ERROR = "internal_error"
    KERNEL_UNAVAILABLE = "kernel_unavailable"
    UNAVAILABLE = "unavailable"
    OUTCOME_UNKNOWN = "outcome_unknown"


class Kind(msgspec.Struct, frozen=True):
    """How a code is told: its status, and a title that is the same every time."""

    status: int
    title: str


KINDS: dict[Code, Kind] = {
    Code.PARTIAL_PUT: Kind(400, "A PUT takes the whole content, not a part of it."),
    Code.UNAUTHENTICATED: Kind(401, "A valid access token is needed."),
    Code.FORBIDDEN: Kind(403, "The access token does not allow this."),
    Code.LINK_INVALID: Kind(403, "The download link is not valid."),
    Code.NOT_FOUND: Kind(404, "There is nothing at this address."),
    Code.PROJECT_NOT_FOUND: Kind(404, "There is no such project."),
    Code.NOTEBOOK_NOT_FOUND: Kind(404, "There is no such notebook."),
    Code.EXECUTION_NOT_FOUND: Kind(404, "There is no such execution."),
    Code.DATASET_NOT_FOUND: Kind(404, "There is no such dataset."),
    Code.LIBRARY_NOT_FOUND: Kind(404, "There is no such library."),
    Code.WEBHOOK_NOT_FOUND: Kind(404, "There is no such webhook."),
    Code.REPLAY_NOT_FOUND: Kind(404, "There is no such replay of events."),
    Code.SCHEDULE_NOT_FOUND: Kind(404, "The notebook has no schedule."),
    Code.ACTION_NOT_FOUND: Kind(404, "There is no such execution action."),
    Code.CELL_NOT_FOUND: Kind(404, "There is no such cell in the execution."),
    Code.FILE_NOT_FOUND: Kind(404, "The notebook has no file at this path."),
    Code.ARTIFACT_NOT_FOUND: Kind(404, "There is no such file."),
    Code.LOG_NOT_FOUND: Kind(404, "There is no such log."),
    Code.TILE_NOT_FOUND: Kind(404, "The log has no such tile."),
    Code.EVENT_NOT_FOUND: Kind(404, "The tenant has no such event."),
    Code.EVENT_NOT_SIGNED: Kind(404, "No checkpoint covers the event yet."),
    Code.VERSION_NOT_FOUND: Kind(404, "The notebook has never had this version."),
    Code.CREATED_LATER: Kind(404, "It did not exist at that moment yet."),
    Code.DELETED_BEFORE: Kind(404, "It had been deleted by that moment."),
    Code.METHOD_NOT_ALLOWED: Kind(405, "This address does not support the method."),
    Code.NOTEBOOK_EXECUTING: Kind(409, "The notebook is executing."),
    Code.EXECUTION_ENDED: Kind(409, "The execution has already ended."),
    Code.EXECUTION_RUNNING: Kind(409, "The execution has not ended."),
    Code.NOTHING_TO_REPAIR: Kind(409, "No cell of the execution failed."),
    Code.INPUTS_UNAVAILABLE: Kind(409, "The datasets cannot be given again as they were."),
    Code.NOTHING_TO_EXECUTE: Kind(409, "The notebook has no cells to execute."),
    Code.ACTION_ENDED: Kind(409, "The execution action has already ended."),
    Code.COUNT_MISMATCH: Kind(409, "The filter finds another number of executions."),
    Code.LIBRARY_EXISTS: Kind(409, "The project has another wheel of this name and version."),
    Code.REPLAY_ENDED: Kind(409, "The replay of events has ended."),
    Code.TOO_MANY_REPLAYS: Kind(409, "The project has as many replays under way as it may."),
    Code.TOO_MANY_WEBHOOKS: Kind(409, "The project has as many webhooks as it may."),
    Code.FILE_EXISTS: Kind(409, "The notebook has another file at this path."),
    Code.STALE_VERSION: Kind(409, "The notebook has been changed since it was read."),
    Code.CONFLICT: Kind(409, "Too many requests change the same resource at once."),
    Code.ERASED: Kind(410, "What it held has been erased."),
    Code.PRECONDITION_FAILED: Kind(412, "A precondition of the request does not hold."),
    Code.BODY_TOO_LARGE: Kind(413, "The request body is too large."),
    Code.FILES_TOO_LARGE: Kind(413, "The notebook's input files would be too many or too large."),
    Code.UNSUPPORTED_MEDIA_TYPE: Kind(415, "The request body is not of a supported type."),
    Code.RANGE_NOT_SATISFIABLE: Kind(416, "The file has no such range."),
    Code.INVALID_CSV: Kind(422, "The file is not a table that can be read."),
    Code.INVALID_WHEEL: Kind(422, "The file is not an acceptable wheel."),
    Code.INVALID_ARCHIVE: Kind(422, "The archive is not acceptable."),
    Code.INVALID_FILES: Kind(422, "The names of the input files are not acceptable."),
    Code.IDEMPOTENCY_KEY_REUSED: Kind(422, "The idempotency key came with another request."),
    Code.IDEMPOTENCY_RESULT_GONE: Kind(410, "What the first request with the key made is deleted."),
    Code.VALIDATION_FAILED: Kind(422, "The request is not valid."),
    Code.RATE_LIMITED: Kind(429, "Too many requests."),
    Code.QUEUE_FULL: Kind(429, "As many runs wait as may."),
    Code.INTERNAL_ERROR: Kind(500, "The service failed."),
    Code.KERNEL_UNAVAILABLE: Kind(503, "No live worker offers the kernel type."),
    Code.UNAVAILABLE: Kind(503, "The service is temporarily unavailable."),
    Code.OUTCOME_UNKNOWN: Kind(503, "It is not known whether the request has taken effect."),
}

# What may not be told apart (unknown, foreign, malformed) is told in the same words.
_NOT_TOLD_APART = "project notebook dataset library webhook log execution action"
_FIXED_DETAILS = {
    code: f"{KINDS[code].title.removesuffix('.')}, or it is not open to this token."
    for code in (Code(f"{name}_not_found") for name in _NOT_TOLD_APART.split())
}

_LITESTAR_CODES = {
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.BODY_TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
}


class Place(msgspec.Struct, frozen=True):
    """Where a file is wrong, and why."""

    reason: str
    row: int | UnsetType | None = UNSET
    column: str | UnsetType | None = UNSET


class Problem(Exception):
    """An answer that is an error; raised by whatever handles a request."""

    def __init__(
        self,
        code: Code,
        detail: str = "",
        *,
        faults: list[Fault] | None = None,
        offered: list[str] | UnsetType = UNSET,
        limit: str | UnsetType = UNSET,
        count: int | UnsetType = UNSET,
        place: Place | None = None,
        date_modified: str | UnsetType = UNSET,
        erased_at: str | UnsetType = UNSET,
        erased_by: str | UnsetType | None = UNSET,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.detail = _FIXED_DETAILS.get(code, detail) or KINDS[code].title
        self.faults = faults or []
        self.offered = offered
        self.limit = limit
        self.count = count
        self.place = place
        self.date_modified = date_modified
        self.erased_at = erased_at
        self.erased_by = erased_by
        self.headers = dict(headers or {})


def from_exception(error: Exception) -> Problem:
    """The problem that ``error`` is to the client; one of ours is logged with its trace."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, InvalidInputError):
        return Problem(Code.VALIDATION_FAILED, _first(error.faults), faults=error.faults)
    if isinstance(error, DomainError) and error.code in set(Code):
        return _from_domain(error)
    if (away := _from_outage(error)) is not None:
        return away
    if isinstance(error, RecordConflictError | DuplicateEventError):
        retry = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return Problem(Code.CONFLICT, "Send the request again.", headers=retry)
    if isinstance(error, InvalidEventError):
        return _invalid("holds a value that cannot be stored")
    if isinstance(error, ArtifactMissingError):
        return Problem(Code.ARTIFACT_NOT_FOUND, "The file is no longer stored.")
    if isinstance(error, RecursionError):
        return _invalid("is nested too deeply")
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _from_litestar(error)
    log.error("request failed", exc_info=error)
    return Problem(Code.INTERNAL_ERROR, "The log has the failure under this request id.")


def _from_litestar(error: HTTPException) -> Problem:
    code = _LITESTAR_CODES.get(error.status_code)
    if code is None:
        return _invalid(str(error.detail))
    if code is Code.METHOD_NOT_ALLOWED:
        methods = (error.headers or {}).get("allow", "")
        return not_allowed(re.findall(r"[A-Z]+", methods))
    return Problem(code)


def _from_domain(error: DomainError) -> Problem:
    if isinstance(error, KernelUnavailableError):
        retry = {"Retry-After": str(RETRY_AFTER_KERNEL_SECONDS)}
        return Problem(Code(error.code), error.detail, offered=error.offered, headers=retry)
    if isinstance(error, QueueFullError):
        retry = {"Retry-After": str(RETRY_AFTER_QUEUE_SECONDS)}
        return Problem(Code(error.code), error.detail, limit=error.limit, headers=retry)
    if isinstance(error, CountMismatchError):
        return Problem(Code(error.code), error.detail, count=error.count)
    if isinstance(error, InvalidFilesError):
        return Problem(Code(error.code), _first_reason(error.faults), faults=error.faults)
    if isinstance(error, InvalidCsvError):
        return _of_file(error, Place(error.reason, error.row, error.column))
    if isinstance(error, InvalidWheelError):
        return _of_file(error, Place(error.reason))
    if isinstance(error, RuledOutError):
        return Problem(Code(error.code), f"If-None-Match rules out {error.what}.")
    if isinstance(error, PreconditionFailedError):
        detail = f"Read the {error.what} again and send the ETag that comes with it."
        return Problem(Code(error.code), detail)
    if isinstance(error, StaleVersionError):
        modified = timestamp(error.date_modified)
        return Problem(Code(error.code), error.detail, date_modified=modified)
    return Problem(Code(error.code), error.detail)


def _from_outage(error: Exception) -> Problem | None:
    """What to say where the database or the artifact store is at fault."""
    if isinstance(error, StoreUnavailableError) and error.outcome_unknown:
        return Problem(
            Code.OUTCOME_UNKNOWN,
            "The database went away; the request may or may not have taken effect.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    if isinstance(error, (DatabaseUnavailableError, *UNAVAILABLE)):
        return _unavailable("The database cannot be reached.")
    if isinstance(error, ArtifactStoreUnavailableError):
        log.warning("artifact store not usable", reason=error.reason)
        return _unavailable(f"The artifact store is temporarily unavailable: {error.reason}.")
    return None


def _of_file(error: DomainError, place: Place) -> Problem:
    faults = [Fault("/file", error.detail)]
    return Problem(Code(error.code), error.detail, place=place, faults=faults)


def _first_reason(faults: list[Fault]) -> str:
    first = faults[0].reason
    return f"{first}." if len(faults) == 1 else f"{first} (and {len(faults) - 1} more)."


def _first(faults: list[Fault]) -> str:
    first = f"{all_seen(faults[0].pointer, '�') or 'the body'}: {faults[0].reason}"
    return first if len(faults) == 1 else f"{first} (and {len(faults) - 1} more)"


def _invalid(reason: str) -> Problem:
    faults = [Fault("", reason)]
    return Problem(Code.VALIDATION_FAILED, _first(faults), faults=faults)


def _unavailable(detail: str) -> Problem:
    retry = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return Problem(Code.UNAVAILABLE, detail, headers=retry)


def not_allowed(methods: Iterable[str]) -> Problem:
    """A 405 that names ``methods``: HEAD wherever there is GET, and no OPTIONS."""
    names = set(methods) - {"OPTIONS"}
    if "GET" in names:
        names.add("HEAD")
    if not names:
        return Problem(Code.METHOD_NOT_ALLOWED)
    known = ", ".join(sorted(names))
    return Problem(
        Code.METHOD_NOT_ALLOWED, f"This address supports {known}.", headers={"Allow": known}
    )
