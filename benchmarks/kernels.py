"""A kernel of its own for each run: how soon one is ready."""

from __future__ import annotations

import json
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from benchmarks.bench import Bench
from benchmarks.figures import Figure, compare
from benchmarks.kernel_times import seconds_to_reply, seconds_to_wait
from benchmarks.peer import Peer

_SPEC = {
    "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
    "display_name": "Python 3, forked",
    "language": "python",
    "metadata": {"kernel_provisioner": {"provisioner_name": "nbledger-zygote"}},
}


def kernels(bench: Bench) -> list[Figure]:
    """A kernel forked by our provisioner against one started by jupyter_client's own.

    Both are used through jupyter_client's KernelManager. The fork server is there already, as it
    is in a worker.
    """
    specs = _specs(bench.scratch / "kernelspecs")

    def forked() -> KernelManager:
        return KernelManager(kernel_name="forked", kernel_spec_manager=specs)

    seconds_to_reply(forked())
    theirs: dict[str, float] = {}
    with Peer("notebooks") as peer:

        def start() -> float:
            theirs.update(peer.ask("start_to_ready"))
            return theirs["wait"]

        rounds = bench.alternate(
            [
                lambda: seconds_to_reply(forked()) * 1000,
                start,
                lambda: theirs["reply"],
                lambda: seconds_to_wait(forked()) * 1000,
            ],
            rounds=1 if bench.quick else 9,
        )
    bench.say(
        "  forked kernel, by wait_for_ready: "
        + ", ".join(f"{waited:.0f}" for *_, waited in rounds)
        + " ms"
    )
    name = "kernel, fork to its first reply"
    return [
        compare(
            figure=name,
            unit="ms",
            against="jupyter_client, start to wait_for_ready",
            pairs=[(ours, waited) for ours, waited, *_ in rounds],
            bound=8,
            better="faster",
        ),
        compare(
            figure=name,
            unit="ms",
            against="jupyter_client, start to its first reply",
            pairs=[(ours, reply) for ours, _, reply, _ in rounds],
            bound=8,
            better="faster",
        ),
    ]


def _specs(folder: Path) -> KernelSpecManager:
    spec = folder / "forked" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps(_SPEC))
    manager = KernelSpecManager()
    manager.kernel_dirs = [str(folder)]
    return manager
