"""Notebook templates: the .ipynb files of this folder, by name."""

from functools import cache
from importlib import resources

from nbledger_infrastructure.notebook_files import ParsedNotebook, parse_ipynb

_SUFFIX = ".ipynb"


@cache
def names() -> tuple[str, ...]:
    """The names of all templates, in order."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(f.name.removesuffix(_SUFFIX) for f in files if f.name.endswith(_SUFFIX)))


@cache
def load(name: str) -> ParsedNotebook:
    """The template called ``name``. Raises :class:`KeyError` when there is none."""
    if name not in names():
        raise KeyError(name)
    return parse_ipynb(resources.files(__name__).joinpath(name + _SUFFIX).read_bytes())
