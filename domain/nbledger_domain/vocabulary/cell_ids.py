"""Identifiers of cells."""

import re

CELL_ID_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"
"""What nbformat 4.5 allows as a cell id, as descriptions of the API have it."""

CELL_ID = re.compile(CELL_ID_PATTERN.replace("$", r"\Z"))
"""The same for Python, whose ``$`` is also before a line feed at the end."""
