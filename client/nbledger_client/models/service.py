"""Types of the API: service. Made by `make client-models`."""

import msgspec

from nbledger_client.answers import Answered
from nbledger_client.models.common import UsualDocument


class EntryPoint(Answered, rename="camel", kw_only=True):
    """The service and its version; `links` lead on, and need no token.

    `notebooks` is the address of a project's notebooks, for which a token is needed.
    """

    name: str
    version: str
    description: str
    links: dict[str, str]
    notebooks: str


class EventSchema(msgspec.Struct, rename="camel", kw_only=True):
    """An event and where its schema is. `title` is its type, which on Kafka follows `nbledger.`.

    `schema` is what `ce_dataschema` of its messages says.
    """

    title: str
    description: str
    schema: str


class EventSchemas(Answered, rename="camel", kw_only=True):
    """All events that there are, and that there were."""

    events: list[EventSchema]


class FailingRunsDocument(msgspec.Struct, rename="camel", kw_only=True):
    """So many runs had failed in a row, of a schedule or of a notebook that runs by itself.

    `terminationCode` is that of the last one.
    """

    failures: int
    since: str
    first_execution_id: str
    last_execution_id: str
    termination_code: str


class Health(Answered, rename="camel", kw_only=True):
    """Whether the service can work, and what is missing."""

    status: str
    missing: list[str] = []


class KernelDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A kernel type that live workers offer.

    `waiting` kernels are started already and take the next executions at once; the memory is what
    one of them shares with no other process, where that is known.
    """

    kernel_type: str
    language: str
    language_version: str | None
    workers: int
    waiting: int = 0
    memory_per_waiting_kernel: str | None = None
    memory_per_waiting_bytes: int | None = None


class MissingKernelDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A kernel type without a live worker; so many runs of the project wait for it.

    The first of them was asked for at `waitingSince`.
    """

    kernel_type: str
    waiting: int
    waiting_since: str


class KernelListDocument(Answered, rename="camel", kw_only=True):
    """What can be executed now; a type that is not among `kernels` has no live worker.

    `withoutWorkers` are those of them for which runs of the project wait.
    """

    kernels: list[KernelDocument]
    without_workers: list[MissingKernelDocument]


class KernelOutageDocument(msgspec.Struct, rename="camel", kw_only=True):
    """No worker offered a kernel type for which so many runs of the project waited.

    `since` is when that was noticed, and `waitingSince` when the first of the runs was asked for.
    `overAt` is there once it is over; `overReason` is worker_alive, or nothing_waits.
    """

    waiting: int
    waiting_since: str
    since: str
    over_at: str | None = None
    over_reason: str | None = None


class SlowRunDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A run had taken so many seconds when it was told of, and was to take at most the threshold.

    Both count from `startedAt`, when a worker took it.
    """

    started_at: str
    seconds: float
    threshold_seconds: float
    usual: UsualDocument


class NoticeDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A notice; `run`, `schedule`, `automation` or `kernel` has the facts of its `kind`.

    `text` says it in words.

    `noticeId` is the stream of its events, and `position` where in the store it was told.
    """

    notice_id: str
    kind: str
    told_at: str
    position: int
    text: str
    notebook_id: str | None = None
    execution_id: str | None = None
    schedule_id: str | None = None
    kernel_type: str | None = None
    run: SlowRunDocument | None = None
    schedule: FailingRunsDocument | None = None
    automation: FailingRunsDocument | None = None
    kernel: KernelOutageDocument | None = None


class NoticeList(Answered, rename="camel", kw_only=True):
    """A page of a project's notices, newest first."""

    total_count: int
    page: int
    page_size: int
    has_next_page: bool
    notices: list[NoticeDocument]
