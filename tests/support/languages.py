"""Kernels of other languages than Python, where they are installed."""

from __future__ import annotations

import pytest

from nbledger_workers.kernel.specs import offered_kernels


def kernelspec(language: str) -> str:
    """The name of a language's kernelspec; skips the test where it is not installed."""
    kernel_type = {"python": "python3"}.get(language, language)
    offer = offered_kernels().get(kernel_type)
    if offer is None:
        pytest.skip(f"no kernel for {language} is installed: make kernel-{language}")
    return offer.kernelspec
