"""Errors of the domain, each with a stable code that clients may rely on."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar
from uuid import UUID

import msgspec

from nbledger_domain.unseen import all_seen


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with an input: where (a JSON pointer) and why."""

    pointer: str
    reason: str


class DomainError(Exception):
    """Base of every error that a caller can cause; the docstring of a subclass is its title."""

    code: ClassVar[str] = "domain_error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidInputError(DomainError):
    """The request is not valid."""

    code = "validation_failed"

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{f.pointer or '/'}: {f.reason}" for f in faults))
        self.faults = faults


class NotebookNotFoundError(DomainError):
    """There is no such notebook."""

    code = "notebook_not_found"

    def __init__(self, notebook_id: UUID) -> None:
        super().__init__(f"There is no notebook {notebook_id} in this project.")


class ExecutionNotFoundError(DomainError):
    """There is no such execution."""

    code = "execution_not_found"

    def __init__(self, execution_id: UUID) -> None:
        super().__init__(f"There is no execution {execution_id} of this notebook.")


class DatasetNotFoundError(DomainError):
    """There is no such dataset."""

    code = "dataset_not_found"

    def __init__(self, dataset_id: UUID) -> None:
        super().__init__(f"There is no dataset {dataset_id} in this project.")


class ScheduleNotFoundError(DomainError):
    """The notebook has no schedule."""

    code = "schedule_not_found"

    def __init__(self, notebook_id: UUID) -> None:
        super().__init__(f"Notebook {notebook_id} has no schedule.")


class InvalidCsvError(DomainError):
    """The file is not a table that can be read.

    ``row`` counts the records of the file from 1, which is the header; ``number`` counts its
    columns from 1, and ``name`` is what the header calls the column. Each is ``None`` where the
    fault has no such place.
    """

    code = "invalid_csv"

    def __init__(
        self,
        reason: str,
        *,
        row: int | None = None,
        number: int | None = None,
        name: str | None = None,
    ) -> None:
        places = [] if row is None else [f"row {row}"]
        if number is not None:
            called = "" if name is None else f' ("{all_seen(name, "�")}")'
            places.append(f"column {number}{called}")
        super().__init__(f"{', '.join(places)}: {reason}" if places else reason)
        self.row = row
        self.column = name if number is None or name is not None else str(number)
        self.reason = reason


class LibraryNotFoundError(DomainError):
    """There is no such library."""

    code = "library_not_found"

    def __init__(self, library_id: UUID) -> None:
        super().__init__(f"There is no library {library_id} in this project.")


class WebhookNotFoundError(DomainError):
    """There is no such webhook."""

    code = "webhook_not_found"

    def __init__(self, webhook_id: UUID) -> None:
        super().__init__(f"There is no webhook {webhook_id} in this project.")


class TooManyWebhooksError(DomainError):
    """The project has as many webhooks as it may."""

    code = "too_many_webhooks"

    def __init__(self, limit: int) -> None:
        super().__init__(f"A project may have {limit} webhooks; delete one first.")


class LibraryExistsError(DomainError):
    """The project has another wheel of this name and version."""

    code = "library_exists"

    def __init__(self, name: str, version: str, library_id: UUID) -> None:
        super().__init__(
            f"{name} {version} is held with another content, as library {library_id}; "
            "give the wheel a new version, or delete that one first."
        )


class InvalidWheelError(DomainError):
    """The file is not a wheel that can be kept."""

    code = "invalid_wheel"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidFilesError(DomainError):
    """The input files cannot be kept as they are named."""

    code = "invalid_files"

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.reason for fault in faults))
        self.faults = faults


class InvalidArchiveError(InvalidFilesError):
    """The archive cannot be taken."""

    code = "invalid_archive"


class InputFileExistsError(DomainError):
    """The notebook has another file at this path."""

    code = "file_exists"

    def __init__(self, paths: Sequence[str]) -> None:
        others = f" and {len(paths) - 1} others" if len(paths) > 1 else ""
        super().__init__(
            f"There is another file at {paths[0]!r}{others}; "
            "send replace=true to put the new one in its place."
        )
        self.paths = list(paths)


class InputFileNotFoundError(DomainError):
    """The notebook has no file at this path."""

    code = "file_not_found"

    def __init__(self, path: str) -> None:
        super().__init__(f"The notebook has no input file {path!r}.")


class FilesTooLargeError(DomainError):
    """The notebook's input files would be too many or too large."""

    code = "files_too_large"


class NotebookExecutingError(DomainError):
    """The notebook is executing."""

    code = "notebook_executing"

    def __init__(self, notebook_id: UUID, running: int) -> None:
        runs = "1 execution is" if running == 1 else f"{running} executions are"
        super().__init__(f"Notebook {notebook_id} cannot be deleted: {runs} under way.")


class ExecutionEndedError(DomainError):
    """The execution has already ended."""

    code = "execution_ended"

    def __init__(self, execution_id: UUID, status: str) -> None:
        super().__init__(f"Execution {execution_id} has already ended: {status}.")


class ActionNotFoundError(DomainError):
    """There is no such execution action."""

    code = "action_not_found"

    def __init__(self, action_id: UUID) -> None:
        super().__init__(f"There is no execution action {action_id} in this project.")


class ActionEndedError(DomainError):
    """The execution action has already ended."""

    code = "action_ended"

    def __init__(self, action_id: UUID, outcome: str) -> None:
        super().__init__(f"Execution action {action_id} has already ended: {outcome}.")


class CountMismatchError(DomainError):
    """The filter finds another number of executions than the request expects.

    Above ``most`` it was not counted how many.
    """

    code = "count_mismatch"

    def __init__(self, expected: int, count: int, *, most: int) -> None:
        found = "1 execution" if count == 1 else f"{count:,} executions"
        if count > most:
            found = f"more than {most:,} executions"
        super().__init__(f"The filter finds {found}, not the {expected:,} that are expected.")
        self.count = count


class ExecutionRunningError(DomainError):
    """The execution has not ended."""

    code = "execution_running"

    def __init__(self, execution_id: UUID) -> None:
        super().__init__(
            f"Execution {execution_id} has not ended; wait for its end, or cancel it first."
        )


class NothingToRepairError(DomainError):
    """No cell of the execution failed."""

    code = "nothing_to_repair"

    def __init__(self, execution_id: UUID) -> None:
        super().__init__(
            f"Execution {execution_id} completed, and none of its cells failed; rerun it instead."
        )


class InputsUnavailableError(DomainError):
    """The datasets of the execution cannot be given again as they were."""

    code = "inputs_unavailable"

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(
            f"{'; '.join(reasons)}. Ask for the newest datasets to run with what there is."
        )


class NothingToExecuteError(DomainError):
    """The notebook has no cells to execute."""

    code = "nothing_to_execute"

    def __init__(self, notebook_id: UUID) -> None:
        super().__init__(f"Notebook {notebook_id} has no cells to execute.")


class KernelUnavailableError(DomainError):
    """No live worker offers the kernel type."""

    code = "kernel_unavailable"

    def __init__(self, kernel_type: str, offered: Sequence[str]) -> None:
        told = f"There are {', '.join(offered)}." if offered else "There is no worker at all."
        super().__init__(f"No live worker offers the kernel type {kernel_type!r}. {told}")
        self.offered = list(offered)


class QueueFullError(DomainError):
    """As many runs wait as may."""

    code = "queue_full"

    def __init__(self, limit: str) -> None:
        whose = "tenant" if limit.endswith("Tenant") else "project"
        super().__init__(
            f"As many runs of the {whose} wait as may ({limit}); ask again when some have started."
        )
        self.limit = limit


class StaleVersionError(DomainError):
    """Somebody else has changed the notebook since it was read."""

    code = "stale_version"

    def __init__(self, detail: str, *, date_modified: datetime) -> None:
        super().__init__(detail)
        self.date_modified = date_modified


class PreconditionFailedError(DomainError):
    """It is in another state than the request demands, or not there."""

    code = "precondition_failed"

    def __init__(self, what: str) -> None:
        super().__init__(f"The {what} is in another state than the request demands.")
        self.what = what


class RuledOutError(DomainError):
    """It is in a state that the request rules out."""

    code = "precondition_failed"

    def __init__(self, what: str) -> None:
        super().__init__(f"The request rules out {what}.")
        self.what = what


class KeyReusedError(DomainError):
    """The idempotency key has come with another request."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "Idempotency-Key: it came with another request before; a new request takes a new key."
        )


class ResultGoneError(DomainError):
    """What the first request with the idempotency key has made is deleted."""

    code = "idempotency_result_gone"

    def __init__(self) -> None:
        super().__init__(
            "Idempotency-Key: what the first request with it has made is deleted; "
            "nothing is made again."
        )


class StaleEpochError(DomainError):
    """The worker no longer holds this execution: another attempt has taken it over."""

    code = "stale_epoch"

    def __init__(self, execution_id: UUID, epoch: int, current: int) -> None:
        super().__init__(
            f"Execution {execution_id} is at attempt {current}; attempt {epoch} has lost it."
        )


class IllegalTransitionError(DomainError):
    """The execution is not in a state that allows this step."""

    code = "illegal_transition"
