"""One running server for each acceptance module."""

from collections.abc import Iterator

import pytest
from support.local_server import LocalServer, local_server


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A running ``nbledger up`` on a home of its own."""
    with local_server() as running:
        yield running
