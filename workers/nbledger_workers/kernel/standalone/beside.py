"""Loads modules that lie beside this file, which need not be in a package that Python knows."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any


def beside(name: str) -> Any:
    """The module of this name in this file's folder; it finds this function as `beside`."""
    known = f"nbledger_kernel_{name}"
    if known not in sys.modules:
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")  # noqa: PTH100, PTH118, PTH120
        spec = importlib.util.spec_from_file_location(known, path)
        assert spec is not None  # noqa: S101 - there is a path
        assert spec.loader is not None  # noqa: S101
        module: Any = importlib.util.module_from_spec(spec)
        module.beside = beside
        sys.modules[known] = module
        spec.loader.exec_module(module)
    return sys.modules[known]
