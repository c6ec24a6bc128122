"""Waits until a started kernel answers, and has it do once what it does for every cell."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from nbledger_workers.kernel.inside.preparation import preparation

# Not an expression of its own: what it shows would become the user's last result. After a clean
# SystemExit nobody is to be told how else a person would leave IPython.
_WARM_UP: Final = (
    "\nget_ipython().display_formatter.format(0); print(end='');"
    " __import__('warnings').filterwarnings('ignore', 'To exit: use ')"
)


async def ready(client: Any) -> dict[str, Any]:
    """Wait until shell and IOPub both answer; return the content of `kernel_info_reply`.

    The request is repeated, since an IOPub subscription that came too late misses the first.
    """
    info: dict[str, Any] | None = None
    asked: set[str] = set()
    heard = False
    while info is None or not heard:
        asked.add(client.kernel_info())
        until = time.monotonic() + (1.0 if info is None else 0.1)
        while time.monotonic() < until and (info is None or not heard):
            if info is None and await client.shell_channel.msg_ready():
                reply = await client.shell_channel.get_msg(timeout=0)
                if reply["msg_type"] == "kernel_info_reply":
                    info = reply["content"]
                    client._handle_kernel_info_reply(reply)  # noqa: SLF001 - sets the protocol version
                    until = time.monotonic() + 0.1
            elif not heard and await client.iopub_channel.msg_ready():
                message = await client.iopub_channel.get_msg(timeout=0)
                heard = message["parent_header"].get("msg_id") in asked
            else:
                await asyncio.sleep(0.005)
    return info


async def warm_up(client: Any, key: str) -> None:
    """Have an IPython kernel do once, unseen, what it does for every cell.

    The first time costs most. `key` is what it marks its replies with from then on.
    """
    code = preparation(key) + _WARM_UP
    request = client.execute(code, silent=True, store_history=False, allow_stdin=False)
    for channel, kind in (
        (client.shell_channel, "execute_reply"),
        (client.iopub_channel, "status"),
    ):
        while True:
            message = await channel.get_msg(timeout=None)
            if (
                message["parent_header"].get("msg_id") == request
                and message["msg_type"] == kind
                and message["content"].get("execution_state", "idle") == "idle"
            ):
                break
