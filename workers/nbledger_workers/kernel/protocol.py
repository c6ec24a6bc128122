"""What driver and supervising child say to each other: length-prefixed msgpack frames.

A new kind of message is a new tagged Struct in `DownMessage` or `UpMessage`.
"""

from __future__ import annotations

import datetime as dt
import enum
import struct
from typing import Any, Final

import msgspec

_LENGTH: Final = struct.Struct(">I")
PREFIX_BYTES: Final = _LENGTH.size

#: How long a kernel may take to start.
START_SECONDS: Final = 60.0
#: The largest frame either side accepts.
MAX_FRAME_BYTES: Final = 512 * 1024 * 1024


class ProtocolError(Exception):
    """The other side sent what is no frame of this protocol."""


class CellStatus(enum.StrEnum):
    """How one cell ended."""

    SUCCESS = "Success"
    ERROR = "Error"
    CANCELLED = "Cancelled"
    TIMED_OUT = "TimedOut"
    SKIPPED = "Skipped"


class Outcome(enum.StrEnum):
    """How a run ended.

    `COMPLETED` also when cells failed and the request said `continue_on_error`, and when a cell
    ended the program by a clean SystemExit. `TIMED_OUT` is the run's own time; the outcomes
    in `_LIMIT` say that it used more than its `Limits` allow.
    """

    COMPLETED = "completed"
    CELL_ERROR = "cell_error"
    TIMED_OUT = "timed_out"
    CELL_TIMED_OUT = "cell_timed_out"
    MEMORY_LIMIT = "memory_limit"
    CPU_LIMIT = "cpu_limit"
    PROCESS_LIMIT = "process_limit"
    DISK_LIMIT = "disk_limit"
    CANCELLED = "cancelled"
    KERNEL_DIED = "kernel_died"
    FAILED_TO_START = "failed_to_start"
    SUPERVISOR_LOST = "supervisor_lost"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a run may use with all that it starts; 0 is no limit.

    `processes` counts those at one moment, `open_files` those of one process, `disk_bytes` the
    files in the run's folder.
    """

    memory_bytes: int = 0
    cpu_seconds: float = 0.0
    processes: int = 0
    open_files: int = 0
    disk_bytes: int = 0


class CellResources(msgspec.Struct, frozen=True, kw_only=True):
    """What one cell used: the peak of memory while it ran, CPU time, the run's files after it."""

    peak_memory_bytes: int
    cpu_seconds: float
    disk_bytes: int


class DownMessage(msgspec.Struct, frozen=True, tag=True):
    """Base of what the driver sends to the child."""


class RunNotebook(DownMessage, frozen=True, kw_only=True):
    """Run these cells of a notebook, in this order.

    `notebook` is nbformat 4 JSON; `cells_to_run` are indices into its cells. `kernel_name` is a
    kernelspec's. `timeout` bounds the whole run, the start of the kernel included;
    `cell_timeout` each cell: seconds, None for no bound.
    `working_dir` must exist; it becomes the kernel's current directory and holds its home and
    temporary folder. A kernel of a pool has a folder of its own. `context` is the JSON of what the
    notebook may know of its run: it is written to the run file before the first cell. Outputs of a
    cell beyond `max_output_bytes` or `max_outputs`, or of all cells beyond
    `max_output_bytes_per_run`, are dropped and the cell is flagged `truncated`. With
    `save_intermediate_results` what a cell puts out is reported while it runs. `grace` is the time
    in seconds between SIGINT, SIGTERM and SIGKILL for a cell that must stop. `exit_seconds` bound
    the kernel's orderly end.

    A cell of `held_cells` is reported as started and goes to the kernel only after `Confirm`;
    one `Confirm` frees them all. The time until then does not count for `timeout`.
    """

    notebook: bytes
    cells_to_run: list[int]
    working_dir: str = ""
    kernel_name: str = "python3"
    timeout: float | None = None
    cell_timeout: float | None = None
    continue_on_error: bool = False
    capture_outputs: bool = True
    save_intermediate_results: bool = True
    max_output_bytes: int = 20_000_000
    max_output_bytes_per_run: int = 200_000_000
    max_outputs: int = 1000
    limits: Limits = Limits()
    grace: float = 5.0
    exit_seconds: float = 10.0
    held_cells: list[int] = []
    context: bytes = b"{}"


class Launch(DownMessage, frozen=True, kw_only=True):
    """First frame to a child: start this kernel, and wait for `RunNotebook`.

    `runtime_dir` is a short private folder for sockets; `token` marks every process of the run
    through its environment, so that none is left over. `process_limits` are resource limits of
    each process by name without RLIMIT_, `isolation` is `isolation.Isolation` as members; both
    need a fork server. `python` is the interpreter of a Python kernel where it is not the child's
    own; `own_python` is that of the run with its folder of packages, on top of the child's own.
    The rest is as in `RunNotebook`.
    """

    runtime_dir: str
    token: str
    working_dir: str
    kernel_name: str = "python3"
    python: str = ""
    own_python: tuple[str, str] | None = None
    env: dict[str, str] = {}
    process_limits: dict[str, int] = {}
    isolation: dict[str, Any] | None = None


class Cancel(DownMessage, frozen=True):
    """Stop the run: the running cell is interrupted, then terminated, then killed."""

    reason: str


class Confirm(DownMessage, frozen=True):
    """It is recorded that cells run: those that are held may go to the kernel."""


class Dismiss(DownMessage, frozen=True):
    """The end of the run is recorded: the kernel may be ended, which takes it a while."""


class UpMessage(msgspec.Struct, frozen=True, tag=True):
    """Base of what the child reports."""


class KernelStarted(UpMessage, frozen=True, kw_only=True):
    """The kernel answered and is ready for cells."""

    language: str
    language_version: str
    pid: int
    implementation: str = ""
    implementation_version: str = ""


class CellStarted(UpMessage, frozen=True, kw_only=True):
    """A code cell was sent to the kernel."""

    index: int
    started: dt.datetime


class Described(msgspec.Struct, frozen=True, array_like=True):
    """The description of a result, and what tells it from a later one of the same name."""

    name: str
    inode: int
    changed_ns: int


class CellFinished(UpMessage, frozen=True, kw_only=True):
    """A cell ended, or was skipped; every cell of the request gets exactly one.

    `outputs` are JSON texts, each one nbformat 4 output. A stream with a member `parts` goes on
    from the `OutputPart` messages with that number. `output_bytes` and `output_count` are what the
    cell produced in all, kept or not, and `outputs_digest` tells of the same
    (`nbledger_domain.output_digest`); `truncated` says that not all was kept, or that not all may
    have come. `warnings` tell what is not as it should be, each a sentence after the cell's name. A
    cell tagged `raises-exception` that raised is a success with `error_name` set. Times are UTC,
    `duration` seconds; None for a cell that was never sent to the kernel. `handed_back` are
    descriptions of results that were new or changed when the cell was over, and `looked_ns` is
    when that was.
    """

    index: int
    status: CellStatus
    execution_count: int | None = None
    started: dt.datetime | None = None
    ended: dt.datetime | None = None
    duration: float | None = None
    error_name: str | None = None
    error_value: str | None = None
    traceback: list[str] = []
    outputs: list[bytes] = []
    output_bytes: int = 0
    output_count: int = 0
    outputs_digest: str | None = None
    truncated: bool = False
    warnings: list[str] = []
    resources: CellResources | None = None
    handed_back: list[Described] = []
    looked_ns: int = 0


class OutputPart(UpMessage, frozen=True, kw_only=True):
    """The next piece of a long text that the cell wrote to one stream, which is that of `number`.

    Pieces of one number follow each other. What follows the last is in the stream's output.
    """

    index: int
    number: int
    data: bytes


class OutputsSoFar(UpMessage, frozen=True, kw_only=True):
    """What the running cell has put out; the `unchanged` first outputs are as reported before."""

    index: int
    unchanged: int
    outputs: list[bytes]
    output_bytes: int
    output_count: int
    truncated: bool


class OutputsUpdated(UpMessage, frozen=True, kw_only=True):
    """Outputs of a finished cell have changed; `outputs` replaces the earlier list.

    Where a later cell changed a display of it, this is sent before that cell's `CellFinished`. What
    is put out after the last cell, also while the kernel ends, is told before `RunFinished`.
    """

    index: int
    outputs: list[bytes]
    output_bytes: int
    output_count: int
    outputs_digest: str | None = None
    truncated: bool


class WidgetsLeft(UpMessage, frozen=True, kw_only=True):
    """What the notebook's widgets show, as the JSON that notebooks have of them in their metadata.

    None where it was more than may be kept. Sent once, after the last cell.
    """

    state: bytes | None


class Heartbeat(UpMessage, frozen=True, kw_only=True):
    """The child is alive; with what the kernel and all that it started use at the moment."""

    memory_bytes: int
    peak_memory_bytes: int
    cpu_seconds: float
    disk_bytes: int


class RunFinished(UpMessage, frozen=True, kw_only=True):
    """The last message. The kernel is gone, or has nothing to do that a kill would cut.

    A child whose kernel did not start or has died before it was asked to run sends nothing else.
    `peak_memory_bytes` is of the kernel with its children, `disk_bytes` what the working folder
    held at the end.
    `warnings` tell of what the kernel's end has cut.
    """

    outcome: Outcome
    detail: str = ""
    warnings: list[str] = []
    peak_memory_bytes: int = 0
    cpu_seconds: float = 0.0
    disk_bytes: int = 0


AnyDown = Launch | RunNotebook | Cancel | Confirm | Dismiss
AnyUp = (
    KernelStarted
    | CellStarted
    | CellFinished
    | OutputPart
    | OutputsSoFar
    | OutputsUpdated
    | WidgetsLeft
    | Heartbeat
    | RunFinished
)

_encoder = msgspec.msgpack.Encoder()
_down: msgspec.msgpack.Decoder[AnyDown] = msgspec.msgpack.Decoder(AnyDown)
_up: msgspec.msgpack.Decoder[AnyUp] = msgspec.msgpack.Decoder(AnyUp)


def frame(message: DownMessage | UpMessage) -> bytes:
    """The message as bytes for the pipe."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def body_length(prefix: bytes) -> int:
    """Bytes that follow a frame's prefix; raises ProtocolError when absurd."""
    length: int = _LENGTH.unpack(prefix)[0]
    if length > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {length} bytes")
    return length


def decode_down(body: bytes) -> AnyDown:
    """A frame's body as the child reads it; raises ProtocolError."""
    try:
        return _down.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(str(error)) from error


def decode_up(body: bytes) -> AnyUp:
    """A frame's body as the driver reads it; raises ProtocolError."""
    try:
        return _up.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(str(error)) from error
