"""Names for files that are handed out."""

import mimetypes
import re

from nbledger_domain.execution import Representation

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_EXTENSIONS = {
    "text/plain": ".txt",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/latex": ".tex",
    "text/csv": ".csv",
    "application/json": ".json",
    "application/vnd.jupyter.error": ".error.json",
    "image/jpeg": ".jpg",
    "image/svg+xml": ".svg",
}


def safe_file_name(name: str, *, default: str = "file") -> str:
    """``name`` with nothing in it that means something to a path or a header."""
    return _UNSAFE.sub("-", name).strip(".-")[:120] or default


def output_file_name(cell_id: str, index: int, suffix: str, form: Representation) -> str:
    """A name for one form of a cell's output; ``index`` counts its outputs from 1."""
    number = "" if index == 1 else f"-{index}"
    media_type = form.content_type.partition(";")[0].strip().lower()
    extension = _EXTENSIONS.get(media_type) or mimetypes.guess_extension(media_type)
    if extension is None:
        extension = ".json" if media_type.endswith("json") else ".bin"
    return safe_file_name(f"{cell_id}{number}-{suffix}") + extension
