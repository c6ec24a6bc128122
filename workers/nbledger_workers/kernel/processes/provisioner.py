"""Kernels that a fork server forks, for any program that uses jupyter_client.

A kernelspec names it: `"metadata": {"kernel_provisioner": {"provisioner_name":
"nbledger-zygote"}}`. A Python kernel is forked from a process that has imported what kernels need;
every other kernel is a program that the same process starts. Both end with whoever asked for them,
and with them everything that they started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from nbledger_workers.kernel.processes import fork_client
from nbledger_workers.kernel.processes.fork_client import Forked
from nbledger_workers.kernel.standalone import publishing

#: Entry point in the group `jupyter_client.kernel_provisioners`.
NAME: Final = "nbledger-zygote"

_TARGET: Final = "ipykernel.kernelapp:launch_new_instance"
_MODULE: Final = ("-m", "ipykernel_launcher")
_PYTHON: Final = re.compile(r"(python|pypy)[0-9.]*")
_GONE_SECONDS: Final = 10.0
_OPTIONS: Final = (
    "channel",
    "server_environment",
    "isolation",
    "limits",
    "niceness",
    "own_python",
)


class ZygoteProvisioner(LocalProvisioner):
    """One kernel of a fork server: of this process's own, or behind the `channel` that it is given.

    A `channel` comes as an argument of `start_kernel`, with the environment of the fork server that
    it leads to in `server_environment`; so may `isolation`, `limits` and `niceness`, as in
    a fork server's requests. `own_python` is the interpreter of a Python kernel, and its folder of
    packages, where they are not those of the fork server.
    """

    forked: Forked | None = None

    @property
    def has_process(self) -> bool:
        """Whether a kernel was launched and not waited for."""
        return self.forked is not None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork the kernel; raises OSError when it cannot be."""
        if not fork_client.can_fork():
            # Where a fork without exec is not safe, kernels are started as ever.
            for name in _OPTIONS:
                kwargs.pop(name, None)
            return await super().launch_kernel(guarded(cmd), **kwargs)
        channel: socket.socket | None = kwargs.get("channel")
        environment: dict[str, str] = dict(kwargs.get("env") or os.environ)
        served: Mapping[str, str] = kwargs.get("server_environment", environment)
        python = sys.executable
        if channel is None:
            python = _interpreter(cmd, environment)
            server = fork_client.shared(python, environment)
            channel, served = server.open(), server.environment
        request = {
            "env": environment,
            "cwd": str(kwargs.get("cwd") or os.getcwd()),  # noqa: PTH109
            "isolation": kwargs.get("isolation"),
            "limits": kwargs.get("limits"),
            "niceness": kwargs.get("niceness"),
            **_program(cmd, python, environment, served, kwargs.get("own_python")),
        }
        forked = Forked(channel)
        null = os.open(os.devnull, os.O_RDWR)
        try:
            descriptors = [
                _descriptor(kwargs.get(name), default, null)
                for name, default in (("stdin", null), ("stdout", 1), ("stderr", 2))
            ]
            forked.start(request, descriptors)
            self.pid = await forked.started()
        except BaseException:
            # It may be on its way all the same: gone is only what is known to be.
            forked.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GONE_SECONDS):
                    await forked.wait_gone()
            forked.close()
            raise
        finally:
            os.close(null)
        self.pgid = self.pid
        self.cwd = kwargs.get("cwd")
        self.forked = forked
        return self.connection_info

    async def poll(self) -> int | None:
        """None while the kernel runs, else its status."""
        if self.forked is None:
            return await super().poll()
        return self.forked.poll()

    async def wait(self) -> int | None:
        """Wait for the end of the kernel and of all that it started; its status."""
        if self.forked is None:
            return await super().wait()
        status = await self.forked.ended()
        async with asyncio.timeout(_GONE_SECONDS):
            await self.forked.wait_gone()
        self._let_go()
        return status

    async def send_signal(self, signum: int) -> None:
        """Send a signal to the kernel's process group."""
        if self.forked is None:
            await super().send_signal(signum)
        else:
            self.forked.signal(signum)

    async def kill(self, restart: bool = False) -> None:  # noqa: FBT001, FBT002 - jupyter_client's
        """Kill the kernel."""
        if self.forked is None:
            await super().kill(restart=restart)
        else:
            self.forked.signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:  # noqa: FBT001, FBT002
        """Ask the kernel to end."""
        if self.forked is None:
            await super().terminate(restart=restart)
        else:
            self.forked.signal(signal.SIGTERM)

    async def cleanup(self, restart: bool = False) -> None:  # noqa: FBT001, FBT002
        """Let go of the kernel."""
        self._let_go()
        await super().cleanup(restart=restart)

    def _let_go(self) -> None:
        if self.forked is not None:
            self.forked.close()
            self.forked = None


def _interpreter(cmd: list[str], environment: Mapping[str, str]) -> str:
    """The Python whose fork server starts this kernel: its own, if it is a Python kernel."""
    if _module_arguments(cmd) is None:
        return sys.executable
    return shutil.which(cmd[0], path=environment.get("PATH")) or cmd[0]


def _module_arguments(cmd: list[str]) -> list[str] | None:
    """The arguments of a Python kernel that is nothing but `python -m ipykernel_launcher …`."""
    start = 1
    while start < len(cmd) and cmd[start].startswith("-Xfrozen_modules"):
        start += 1
    if tuple(cmd[start : start + 2]) != _MODULE:
        return None
    return cmd[start + 1 :]


def _program(
    cmd: list[str],
    python: str,
    environment: Mapping[str, str],
    served: Mapping[str, str],
    own: Sequence[str] | None,
) -> dict[str, Any]:
    arguments = _module_arguments(cmd)
    same = shutil.which(cmd[0], path=environment.get("PATH")) == python or cmd[0] == python
    if arguments is not None and same and fork_client.starts_alike(served, environment):
        return {"target": _TARGET, "arguments": arguments, "python": own}
    if arguments is not None and same and own:
        return {"argv": guarded([own[0], *cmd[1:]])}
    return {"argv": guarded(cmd)}


def guarded(cmd: list[str]) -> list[str]:
    """The command of a Python kernel with a guard of its output; others are as they were."""
    if not _PYTHON.fullmatch(os.path.basename(cmd[0])):  # noqa: PTH119 - it may be no path
        return cmd
    start = 1
    while start < len(cmd) and cmd[start].startswith("-") and cmd[start] not in ("-m", "-c", "-"):
        # Options of the interpreter that take what follows as their value.
        start += 2 if cmd[start] in ("-W", "-X") else 1
    if cmd[start : start + 1] != ["-m"] or len(cmd) < start + 2:
        return cmd
    return [*cmd[:start], publishing.__file__, *cmd[start + 1 :]]


def _descriptor(given: Any, default: int, null: int) -> int:
    if given is None:
        return default
    if given == subprocess.DEVNULL:
        return null
    if isinstance(given, int):
        if given < 0:
            raise OSError("pipes to a kernel must be made by whoever asks for it")
        return given
    number: int = given.fileno()
    return number
