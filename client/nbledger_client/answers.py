"""What an answer says beside its body."""

import msgspec


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the headers of an answer say.

    Attributes:
        status: of HTTP.
        request_id: names the request in the server's logs.
        etag: version of what was answered; a change takes it as `if_match`.
        position: of the last event that the answer shows, or that the request made.
        replayed: whether an earlier request with the same key had made it already.
        location: address of what was made.
    """

    status: int
    request_id: str | None = None
    etag: str | None = None
    position: int | None = None
    replayed: bool = False
    location: str | None = None


class Answered(msgspec.Struct, dict=True):
    """The body of an answer, which knows the answer's headers."""

    @property
    def answer(self) -> Answer:
        """What came with it.

        Raises LookupError for one that no answer brought.
        """
        found: Answer | None = self.__dict__.get("answer_")
        if found is None:
            raise LookupError("No answer of a server brought this.")
        return found

    @property
    def etag(self) -> str | None:
        """The version that a change takes as `if_match`; None where there is none."""
        return self.answer.etag


def told(body: object, answer: Answer) -> None:
    """Let ``body`` know ``answer``, where it is a whole answer."""
    if isinstance(body, Answered):
        vars(body)["answer_"] = answer
