"""What the acceptance modules share."""

from pathlib import Path

import pytest
from support.local_server import LocalServer
from support.services import service_address


@pytest.fixture(scope="session")
def server() -> LocalServer:
    """A running ``nbledger up`` that the whole test run shares: other notebooks are in it, too."""
    return LocalServer(Path(service_address("up")))
