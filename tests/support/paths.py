"""Where the checkout and its tests lie."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
TESTS: Final = ROOT / "tests"
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCE_ROOTS: Final[tuple[str, ...]] = tuple(PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"])
"""Folders of the program, each with its packages."""
