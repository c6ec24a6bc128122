"""The provisioner as any program of the Jupyter world uses it, by its name in a kernelspec."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from nbledger_workers.kernel.processes.provisioner import NAME, ZygoteProvisioner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")


def manager_of(folder: Path, argv: list[str]) -> AsyncKernelManager:
    spec = folder / "kernels" / "forked"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps(
            {
                "argv": argv,
                "display_name": "Forked",
                "language": "python",
                "metadata": {"kernel_provisioner": {"provisioner_name": NAME}},
            }
        )
    )
    specs = KernelSpecManager(kernel_dirs=[str(folder / "kernels")])
    return AsyncKernelManager(kernel_name="forked", kernel_spec_manager=specs)


async def value(client: AsyncKernelClient, code: str) -> str:
    reply = await client.execute_interactive(
        "", user_expressions={"value": code}, store_history=False, timeout=30
    )
    text: str = reply["content"]["user_expressions"]["value"]["data"]["text/plain"]
    return text


@pytest.mark.parametrize("is_forked", [True, False])
async def test_start_interrupt_restart_shutdown(tmp_path: Path, *, is_forked: bool) -> None:
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    if not is_forked:
        # A program of its own: the same fork server starts it, and does not fork its interpreter.
        argv[1:1] = ["-X", "utf8"]
    manager = manager_of(tmp_path, argv)
    await manager.start_kernel(cwd=str(tmp_path))
    assert isinstance(manager.provisioner, ZygoteProvisioner)
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        assert await value(client, "6 * 7") == "42"
        assert await value(client, "__import__('os').getcwd()") == repr(str(tmp_path))
        loaded = await value(client, "'pandas' in __import__('sys').modules")
        assert loaded == str(is_forked)
        first = await value(client, "__import__('os').getpid()")
        assert first == str(manager.provisioner.pid)

        request = client.execute("import time; print('begun'); time.sleep(60)")
        # An interrupt before the cell runs would be for nobody.
        while (await client.get_iopub_msg(timeout=30))["msg_type"] != "stream":
            pass
        await manager.interrupt_kernel()
        async with asyncio.timeout(30):
            while (reply := await client.get_shell_msg())["parent_header"]["msg_id"] != request:
                pass
        assert reply["content"]["ename"] == "KeyboardInterrupt"

        await manager.restart_kernel(now=True)
        await client.wait_for_ready(timeout=60)
        assert await value(client, "__import__('os').getpid()") != first
        assert await manager.is_alive()
    finally:
        client.stop_channels()
        await manager.shutdown_kernel()
    assert not await manager.is_alive()
