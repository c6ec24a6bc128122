"""Why something cannot be told as of a moment."""

from datetime import datetime

from nbledger_domain.errors import DomainError
from nbledger_domain.past.moments import written


class NotebookVersionNotFoundError(DomainError):
    """The notebook has never had this version."""

    code = "version_not_found"

    def __init__(self, version: str, newest: str) -> None:
        super().__init__(
            f"The notebook has never had version {version}; its newest one is {newest}."
        )
        self.version = version


class CreatedLaterError(DomainError):
    """It did not exist at that moment."""

    code = "created_later"

    def __init__(self, what: str, created_at: datetime, position: int) -> None:
        at = written(created_at)
        super().__init__(f"The {what} was created later: at {at}, position {position}.")


class DeletedBeforeError(DomainError):
    """It had been deleted by that moment."""

    code = "deleted_before"

    def __init__(self, what: str, deleted_at: datetime, position: int) -> None:
        at = written(deleted_at)
        super().__init__(f"The {what} had been deleted by then: at {at}, position {position}.")


class ErasedError(DomainError):
    """What it held has been erased.

    ``position`` is that of the deletion, which the principal ``deleted_by`` asked for; both are
    ``None`` where no event deleted it, and the store says all the same that it is erased.
    """

    code = "erased"

    def __init__(
        self, what: str, erased_at: datetime, deleted_by: str | None, position: int | None
    ) -> None:
        at = written(erased_at)
        if position is None:
            super().__init__(
                f"The store says that what the {what} held was erased at {at}, and no event "
                "deletes it: the store has been altered. An audit tells which data is missing."
            )
        else:
            super().__init__(
                f"The {what} existed at that moment. It was deleted at position {position}, and "
                f"what it held was erased at {at}."
            )
        self.erased_at = erased_at
        self.deleted_by = deleted_by
        self.position = position


class LaterThanNowError(DomainError):
    """The moment has not come yet."""

    code = "validation_failed"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
