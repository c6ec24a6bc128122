"""Which kernel types this machine offers, found without starting a kernel."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping

import msgspec
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from nbledger_domain.vocabulary.languages import KERNELSPECS

_NATIVE = "python3"


class KernelOffer(msgspec.Struct, frozen=True):
    """One kernel type that can be run here."""

    kernel_type: str
    kernelspec: str
    language: str


class InterpreterKernelSpecManager(KernelSpecManager):
    """Kernelspecs as installed, but `python3` is always `python`: the interpreter that runs this.

    Where another one is set, it must find what this one finds.
    """

    python: str = sys.executable

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return the spec; raises NoSuchKernel."""
        if kernel_name != _NATIVE:
            return super().get_kernel_spec(kernel_name)
        if importlib.util.find_spec("ipykernel_launcher") is None:
            raise NoSuchKernel(kernel_name)
        return KernelSpec(
            argv=[self.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            display_name="Python 3 (ipykernel)",
            language="python",
            metadata={"debugger": True},
        )


def offered_kernels(mapping: Mapping[str, str] = KERNELSPECS) -> dict[str, KernelOffer]:
    """The kernel types of `mapping` whose kernelspec is installed, by type."""
    manager = InterpreterKernelSpecManager()
    offers = {}
    for kernel_type, name in mapping.items():
        try:
            spec = manager.get_kernel_spec(name)
        except NoSuchKernel:
            continue
        offers[kernel_type] = KernelOffer(kernel_type, name, spec.language.lower())
    return offers
