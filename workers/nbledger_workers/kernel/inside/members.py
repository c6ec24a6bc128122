"""Names that a prepared kernel and its supervisor share; sent to the kernel, too."""

from __future__ import annotations

#: Status of a kernel that has lost descriptors it cannot do without.
BROKEN_STATUS = 113
#: Member of a reply's content and of a status: what the kernel adds to it.
REPLY_MEMBER = "nbledger"
#: Member of that in a reply: the mark of the cell's end.
END_MEMBER = "end"
#: Member of that in a reply: what an orderly end has to do, in words.
UNFINISHED_MEMBER = "unfinished"
#: Member of that in a reply: the status of a cell that ended by SystemExit, else null.
EXIT_MEMBER = "exitStatus"
#: Member of that in a reply: false where the program had ended before the cell began.
RAN_MEMBER = "ran"
#: Member of that in a reply: asyncio tasks that are pending, as a count and the coroutines' names.
TASKS_MEMBER = "tasks"
#: Member of a status: whether flushing the cell's output took longer than the kernel waits.
LATE_MEMBER = "late"
#: Member of a request to shut down: seconds that threads have to end.
THREAD_SECONDS_MEMBER = "threadSeconds"
#: Member of that request: what the kernel publishes as `REPLY_MEMBER` of a last status.
FAREWELL_MEMBER = "farewell"
