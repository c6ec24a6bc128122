"""How much of a cell's output is kept."""

from __future__ import annotations


class Budget:
    """How many bytes of output the cells of one run may still keep, all together."""

    def __init__(self, max_bytes: int) -> None:
        self.left = max_bytes
