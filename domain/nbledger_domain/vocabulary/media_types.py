"""Media types with a meaning of their own here, and kinds of media types."""

import re

ERROR = "application/vnd.jupyter.error"
"""JSON of an error output: ``ename``, ``evalue`` and ``traceback`` as nbformat has them."""

PARQUET = "application/vnd.apache.parquet"

WIDGETS = "application/vnd.jupyter.widget-"
"""What the types of widgets begin with."""

WIDGET_STATE = f"{WIDGETS}state+json"
WIDGET_VIEW = f"{WIDGETS}view+json"

_BINARY = re.compile(r"(image/(?!svg\+xml)|audio/|video/|application/pdf$).*")
_JSON = re.compile(r"application/(.*\+)?json")


def is_binary(media_type: str) -> bool:
    """Whether nbformat holds content of this type as base64."""
    return _BINARY.fullmatch(media_type) is not None


def is_json(media_type: str) -> bool:
    """Whether content of this type is JSON."""
    return _JSON.fullmatch(media_type) is not None
