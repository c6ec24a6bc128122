"""How long a kernel takes from its start until it is ready; the same code for all sides."""

from __future__ import annotations

import time
from queue import Empty
from subprocess import DEVNULL

from jupyter_client.manager import KernelManager

_SECONDS = 60.0


def seconds_to_wait(manager: KernelManager) -> float:
    """Until `wait_for_ready` has returned, as programs wait that use jupyter_client."""
    begin = time.perf_counter()
    manager.start_kernel(stdout=DEVNULL, stderr=DEVNULL)
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=_SECONDS)
    elapsed = time.perf_counter() - begin
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return elapsed


def seconds_to_reply(manager: KernelManager) -> float:
    """Until its first reply, to a request for its kernel_info; the soonest that a cell can run."""
    begin = time.perf_counter()
    manager.start_kernel(stdout=DEVNULL, stderr=DEVNULL)
    client = manager.client()
    client.start_channels(iopub=False, stdin=False, control=False)
    client.kernel_info()
    while time.perf_counter() - begin < _SECONDS:
        try:
            reply = client.get_shell_msg(timeout=1)
        except Empty:
            continue
        if reply["msg_type"] == "kernel_info_reply":
            break
    else:
        raise RuntimeError("the kernel gave no reply")
    elapsed = time.perf_counter() - begin
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return elapsed
