"""What a CSV file is written in, and the pieces it is read in."""

from typing import NamedTuple

PIECE_BYTES = 256 * 1024
"""How much is read at once; everything that is held in memory grows with it."""

MAX_RECORD_BYTES = 4 * 1024 * 1024
"""How long one record may be: until its end is found it is held in memory."""

MAX_COLUMNS = 5_000

MAX_NAME = 1_000
"""Characters of a column's name."""

DELIMITERS = ",;\t|"


class Piece(NamedTuple):
    """Some whole records in UTF-8, and the number of the first: the header is row 1.

    Blank lines count as rows.
    """

    row: int
    content: bytes


class Dialect(NamedTuple):
    """How a file is written."""

    encoding: str
    delimiter: str
    names: list[str]
    declared: bool = False
    """Whether the first line is Excel's ``sep=;``, which says the delimiter and is no record."""

    nameless: tuple[int, ...] = ()
    """Places of the columns that the header does not name; ``names`` has what they are called."""
